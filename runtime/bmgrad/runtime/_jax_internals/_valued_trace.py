"""Tracing at a point: tracers that know their values, for Python code that asks for them.

In: avals, and the values of some of them. Out: a JAX trace that records the same jaxpr as
any other; where Python needs a value (`if x > 0`, `int(n)`), what leads to it is computed.
JAX's own transforms answer likewise outside `jit`. A soft trace answers code only that cannot go
on without: whoever can, as functions of JAX, does what it does in any other trace. What code has
kept of a trace that is over (in a cache, an attribute) is told to all, unless it depends on inputs.
"""

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax._src import ad_util, core, dtypes
from jax._src.interpreters import partial_eval
from jax.extend import linear_util

from bmgrad.runtime._jax_internals._asked_values import note_asked_in, was_asked
from bmgrad.runtime._jax_internals._avals import has_tangent, is_reference_aval
from bmgrad.runtime._jax_internals._references import are_of_references
from bmgrad.runtime._jax_internals._rules_at_call import calls_rules, trace_rules_now
from bmgrad.runtime._jax_internals._valued_tracers import SoftTracer, ValuedTracer

# Arrays of NumPy that are larger are tables, not buffers to be filled again.
_MOST_BYTES = 1 << 20


@dataclasses.dataclass
class _Known:
    """By variable: what inputs were given, what was closed over, and the values found so far.

    Of references these are others, which hold what the references will after the `repeated` first
    equations; None where that is not known. A derivative is taken by the `moving` inputs. The
    trace of a function's rule `is_of_rule`: for it the innermost derivative around is none; those
    of rules that were followed at values are `rules`. It `has_answered` where code was told a
    value. A derivative is taken of what is `perturbed` and of nothing that is `unperturbed`, as far
    as that has been asked. Of arrays of NumPy that it closes over, `buffers`, it has copies.
    """

    given: dict[Any, Any] = dataclasses.field(default_factory=dict)
    closed_over: dict[Any, Any] = dataclasses.field(default_factory=dict)
    moving: set[Any] = dataclasses.field(default_factory=set)
    is_of_rule: bool = False
    values: dict[Any, Any] = dataclasses.field(default_factory=dict)
    repeated: int = 0
    has_answered: bool = False
    unperturbed: set[Any] = dataclasses.field(default_factory=set)
    perturbed: set[Any] = dataclasses.field(default_factory=set)
    rules: list[Any] = dataclasses.field(default_factory=list)
    buffers: dict[Any, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    def unchanging(self, array: Any) -> Any:
        """An array of NumPy as it is now: the function may fill it again before it is read."""
        if array.nbytes > _MOST_BYTES or not _may_change(array):
            return array
        weak = getattr(array, "weak_type", False)
        key = array.ctypes.data, array.shape, array.strides, array.dtype, weak
        _, copied = self.buffers.get(key, (None, None))
        # Their bytes count: NaN is NaN, and 0 is not -0.
        if copied is None or copied.tobytes() != array.tobytes():
            copied = array.copy()
            copied.flags.writeable = False
            self.buffers[key] = array, copied  # It is kept, so the place stays that of its data.
        return copied

    def source_of(self, variable: Any) -> Any:
        """The array or tracer that a variable stands for, None if that is not known."""
        given = self.given.get(variable)
        return self.closed_over.get(variable) if given is None else given


def _may_change(array: Any) -> bool:
    """Whether somebody may write to an array of NumPy, or to the one that it is a view of."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return False


_known_of: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


_PlainTrace: Any = partial_eval.DynamicJaxprTrace


class ValuedTrace(partial_eval.DynamicJaxprTrace):
    """Records a jaxpr; its inputs have the values that `give` says, its results follow."""

    # Of the layout of its base: JAX makes the traces of functions with custom rules and has no
    # way to ask for another kind, so they become one of this kind when they are met.
    __slots__ = ()

    _kind: type[ValuedTracer] = ValuedTracer
    answers, is_soft, is_over = True, False, False

    def give(self, tracer: Any, value: Any, moves: bool = False) -> None:
        """Says what an input is: an array, a tracer that may know its value, or None.

        `moves` says whether a derivative is taken by it.
        """
        tracer.__class__ = self._kind
        known = _known_of.setdefault(self, _Known())
        known.given[tracer.val] = value
        if moves:
            known.moving.add(tracer.val)

    def is_for_rule(self) -> None:
        """Says that what is traced is the rule of a function."""
        _known_of.setdefault(self, _Known()).is_of_rule = True

    def var_to_tracer(self, var: Any, source_info: Any, parent: Any = None) -> Any:
        plain: Any = super().var_to_tracer
        tracer = plain(var, source_info, parent)
        tracer.__class__ = self._kind
        return tracer

    def new_const(self, c: Any, *args: Any, **keywords: Any) -> Any:
        if isinstance(c, np.ndarray):
            c = _known_of.setdefault(self, _Known()).unchanging(c)
        tracer: Any = super().new_const(c, *args, **keywords)
        if type(tracer) is partial_eval.DynamicJaxprTracer:
            tracer.__class__ = self._kind
            if not isinstance(tracer.val, core.Literal):
                # JAX forgets it once the trace has ended, and rules may ask later.
                _known_of.setdefault(self, _Known()).closed_over[tracer.val] = c
        return tracer

    # -- Values ------------------------------------------------------------------------------

    def value_of(self, tracer: Any) -> Any:
        """The value of a tracer, None where it depends on an input without one."""
        if is_reference_aval(tracer.aval):
            self._repeat_effects(None)
        if not self._follows_from_known(tracer):
            return None
        todo = [tracer]
        while todo:
            if self._known(todo[-1]) is not None:
                todo.pop()
                continue
            equation = todo[-1].parent
            if equation is None or self._is_lost(todo[-1]):
                return None
            if equation.effects:
                self._repeat_effects(equation)
                continue
            missing = [x for x in equation.in_tracers if self._known(x) is None]
            if missing:
                todo += missing
            else:
                self._evaluate(equation)
        return self._known(tracer)

    def _follows_from_known(self, tracer: Any) -> bool:
        """Whether no input without a value leads to a tracer, but for what effects may hide."""
        values = _known_of.setdefault(self, _Known()).values
        todo, seen = [tracer], set()
        while todo:
            x = todo.pop()
            atom = x.val
            if isinstance(atom, core.Literal) or atom in seen:
                continue
            seen.add(atom)
            if atom in values:
                if values[atom] is None:
                    return False
            elif x.parent is None:
                if self._known(x) is None:
                    return False
            elif not x.parent.effects:
                todo += x.parent.in_tracers
        return True

    def _known(self, tracer: Any) -> Any:
        atom = tracer.val
        if isinstance(atom, core.Literal):
            return atom.val
        known = _known_of.setdefault(self, _Known())
        if atom not in known.values:
            given = known.source_of(atom)
            value = core.to_concrete_value(self.get_const(tracer) if given is None else given)
            if value is None:
                return None
            if is_reference_aval(tracer.aval):
                with core.eval_context():
                    value = jax.new_ref(value[...])
            known.values[atom] = value
        return known.values[atom]

    def _is_lost(self, tracer: Any) -> bool:
        values = _known_of[self].values
        return tracer.val in values and values[tracer.val] is None

    def _repeat_effects(self, last: Any) -> None:
        """What the equations up to `last` do to references, done to those that are values here."""
        known = _known_of.setdefault(self, _Known())
        equations = self.frame.tracing_eqns
        while known.repeated < len(equations):
            equation = equations[known.repeated]
            known.repeated += 1
            # Others than `TracingEqn`s, as those without effects, are not kept.
            if not isinstance(equation, partial_eval.TracingEqn) or not equation.effects:
                continue
            references = [x for x in equation.in_tracers if is_reference_aval(x.aval)]
            others = [x for x in equation.in_tracers if not is_reference_aval(x.aval)]
            # What has other effects would have them now and when the program runs.
            if (
                are_of_references(equation.effects)
                and all(self._known(x) is not None for x in references)
                and all(self.value_of(x) is not None for x in others)
            ):
                self._evaluate(equation)
            else:
                lost = (*(x.val for x in references), *equation.outvars)
                known.values.update(dict.fromkeys(lost))
            if equation is last:
                return

    def _evaluate(self, equation: Any) -> None:
        primitive = equation.primitive
        params = primitive.get_bind_params(equation.params)
        operands = [self._known(x) for x in equation.in_tracers]
        with core.eval_context(), equation.ctx.manager:
            results = primitive.bind(*operands, **params)
        results = results if primitive.multiple_results else [results]
        _known_of[self].values.update(zip(equation.outvars, results, strict=True))

    def is_perturbed(self, tracer: Any, *, skip: int = 0) -> bool:
        """Whether a derivative is taken of `tracer`, by inputs of this trace or of one around.

        Those of the `skip` innermost derivatives do not count.
        """
        known = _known_of.setdefault(self, _Known())
        unperturbed = set() if skip else known.unperturbed
        todo, seen = [tracer], set()
        while todo:
            x = todo.pop()
            atom = x.val
            if isinstance(atom, core.Literal) or atom in seen or atom in unperturbed:
                continue
            seen.add(atom)
            if not has_tangent(x.aval):
                continue
            if self._is_source(x, skip):
                if not skip:
                    known.perturbed.add(tracer.val)
                return True
            if x.parent is not None and x.parent.primitive is not ad_util.stop_gradient_p:
                todo += x.parent.in_tracers
        unperturbed |= seen
        return False

    def _is_source(self, x: Any, skip: int) -> bool:
        """Whether a derivative is taken of `x`, whatever it is made of."""
        known = _known_of[self]
        if not skip and (x.val in known.moving or x.val in known.perturbed):
            return True
        if x.parent is not None:
            # What comes out of a reference may be any derivative's.
            return bool(x.parent.effects)
        given = known.source_of(x.val)
        given = self.get_const(x) if given is None else given
        outside = max(skip - bool(known.moving), 0) + known.is_of_rule
        return given is None or self._is_perturbed_outside(given, outside)

    @staticmethod
    def _is_perturbed_outside(given: Any, skip: int) -> bool:
        if isinstance(given, ValuedTracer):
            trace: ValuedTrace = given._trace
            return trace.is_perturbed(given, skip=skip)
        return isinstance(given, core.Tracer)

    # -- Functions with custom rules ---------------------------------------------------------

    def process_custom_jvp_call(
        self, prim: Any, fun: Any, jvp: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        plain: Any = super().process_custom_jvp_call
        fun, jvp = (_followed(self._rule(f, tracers), f) for f in (fun, jvp))
        return self._with_rules(prim, plain(prim, fun, jvp, tracers, **keywords))

    def process_custom_vjp_call(
        self, prim: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        plain: Any = super().process_custom_vjp_call
        fun, fwd = (_followed(self._rule(f, tracers), f) for f in (fun, fwd))
        return self._with_rules(prim, plain(prim, fun, fwd, bwd, tracers, **keywords))

    def process_primitive(self, primitive: Any, tracers: Any, params: Any, /) -> Any:
        plain: Any = super().process_primitive
        results = plain(primitive, tracers, params)
        # None that has jaxprs has a single one.
        may_call = primitive.multiple_results and self.answers and calls_rules(params)
        return self._with_rules(primitive, results) if may_call else results

    def _with_rules(self, prim: Any, results: Any) -> Any:
        """The results of an equation, of which the forward rules are traced if they are needed."""
        # In a rule it is mostly the function that the rule is of, whose rules the import shares.
        if self.answers and not _known_of.setdefault(self, _Known()).is_of_rule:
            parents = (x.parent for x in results if _is_of(self, x))
            equation = next((x for x in parents if x is not None and x.primitive is prim), None)
            if equation is not None:
                with core.set_current_trace(self.parent_trace):
                    trace_rules_now(equation, self.is_perturbed)
        return results

    def _rule(self, fun: Any, tracers: Any) -> "InOurTrace":
        """What JAX is to trace instead of `fun`, a function with rules or a rule of it."""
        follows_values = self.answers and not self.is_soft
        return AtValues(fun, self, tracers) if follows_values else InOurTrace(fun, self)


def values_of_rule(wrapped: Any) -> tuple[list[Any], list[Any]] | None:
    """What a forward rule was given and what it returned, where that has a value.

    None where JAX has traced it for no values; then the trace around knows that it was asked.
    """
    rule = getattr(wrapped, "f", None)
    if not isinstance(rule, AtValues) or rule.call is None:
        if isinstance(rule, InOurTrace):
            rule.note_asked()
        return None
    given, returned = ([x if core.is_concrete(x) else None for x in some] for some in rule.call)
    return given, returned


class SoftTrace(ValuedTrace):
    """One that tells values to code only that cannot go on without, and not in derivative rules."""

    __slots__ = ()

    _kind = SoftTracer
    is_soft = True

    def value_of(self, tracer: Any) -> Any:
        value = super().value_of(tracer)
        if value is not None:
            _known_of[self].has_answered = True
        return value


class UnansweringTrace(ValuedTrace):
    """One that tells no values while it is open, as any other of JAX."""

    __slots__ = ()

    answers = False

    def value_of(self, tracer: Any) -> Any:
        return None


class _LeftTrace(ValuedTrace):
    """That of a rule at values, in which nothing is traced any more.

    Its inputs are still those of the rule, so what depends on them is not to become a value.
    """

    __slots__ = ()

    is_over = True

    def kept(self, tracer: Any) -> Any:
        """What a tracer that code has kept is, None where it is to stay one."""
        known, todo, seen = _known_of[self], [tracer], set()
        while todo:
            x = todo.pop()
            if isinstance(x.val, core.Literal) or x.val in seen:
                continue
            seen.add(x.val)
            if x.parent is not None:
                todo += x.parent.in_tracers
            elif x.val in known.given or isinstance(known.source_of(x.val), core.Tracer):
                return None
        return tracer.constant()


class _EndedTrace(ValuedTrace):
    """One that is over."""

    __slots__ = ()

    is_over = True

    def kept(self, tracer: Any) -> Any:
        return tracer.constant()

    def _repeat_effects(self, last: Any) -> None:
        # What happened to references is forgotten.
        if last is not None:
            _known_of[self].values.update(dict.fromkeys(last.outvars))


def end(trace: Any, *, keeps_inputs: bool) -> None:
    """To be called with a trace that is over, and whether it still tells what inputs were."""
    if not isinstance(trace, ValuedTrace):
        return
    known = _known_of.setdefault(trace, _Known())
    for rule in known.rules:
        end(rule, keeps_inputs=True)
    known.rules, known.buffers = [], {}
    if not keeps_inputs:
        known.given, known.values = {}, {}
    trace.__class__ = _EndedTrace


def depends_on_inputs(value: Any) -> bool:
    """Whether inputs of the trace of a tracer, or values of one around, lead to it."""
    if not isinstance(value, partial_eval.DynamicJaxprTracer):
        return isinstance(value, core.Tracer)
    trace, todo, seen = value._trace, [value], set()
    known = _known_of.get(trace, _Known())
    while todo:
        x = todo.pop()
        if isinstance(x.val, core.Literal) or x.val in seen:
            continue
        seen.add(x.val)
        if x.parent is not None and not x.parent.effects:
            todo += x.parent.in_tracers
            continue
        source = known.closed_over.get(x.val)
        source = trace.get_const(x) if source is None else source
        if source is None or isinstance(source, core.Tracer):
            return True
    return False


def revived(value: Any) -> Any:
    """What a tracer of a trace that is over was, unless it depends on inputs; others as they are.

    JAX's transforms have such values instead of tracers. JAX itself asks for them where it runs
    operations (`full_lower`).
    """
    return _canonical(value) if isinstance(value, ValuedTracer) else value


def _canonical(tracer: Any) -> Any:
    return tracer.full_lower() if tracer._trace.is_over else tracer


# What JAX is given becomes arrays so: operands, what is put on a device, what `jit` closes over.
for _kind in (ValuedTracer, SoftTracer):
    dtypes.register_canonicalize_value_handler(_kind, _canonical)


def has_answered(trace: Any) -> bool:
    """Whether a soft trace has told code a value."""
    return isinstance(trace, SoftTrace) and trace in _known_of and _known_of[trace].has_answered


def may_answer(x: Any) -> bool:
    """Whether `x` is of a soft trace."""
    return isinstance(x, SoftTracer)


class InOurTrace:
    """`followed`, a function with rules or a rule, in the trace that JAX makes for it.

    That becomes one of ours, so that what is kept of it has values afterwards.
    """

    def __init__(self, followed: Any, around: ValuedTrace) -> None:
        self.followed = followed
        # Programs keep rules for long.
        self._around = weakref.ref(around)

    def __call__(self, *args: Any) -> Any:
        trace: Any = core.trace_ctx.trace
        is_ours = type(trace) is _PlainTrace
        if is_ours:
            self._enter(trace, args)
        for store in self.followed.stores:
            if store:
                store.reset()
        try:
            results = self.followed.call_wrapped(*args)
        except BaseException:
            if is_ours:
                end(trace, keeps_inputs=False)
            raise
        finally:
            # Who catches the error may have values.
            if is_ours and was_asked(trace):
                self.note_asked()
        return self._left(trace, results) if is_ours else results

    def note_asked(self) -> None:
        """Says that code asked for values, which there may be in the function around."""
        if (around := self._around()) is not None:
            note_asked_in(around)

    def _enter(self, trace: Any, args: Sequence[Any]) -> None:
        trace.__class__ = UnansweringTrace

    def _left(self, trace: Any, results: Sequence[Any]) -> Sequence[Any]:
        end(trace, keeps_inputs=False)
        return _as_plain(trace, results)


class AtValues(InOurTrace):
    """`followed`, which JAX traces for inputs that have no values, for those of `outer`.

    Attributes:
      origins: what says what the inputs are; the same for a call with the inputs of this one.
      call: what was given and returned.
    """

    def __init__(self, followed: Any, around: ValuedTrace, outer: Sequence[Any]) -> None:
        super().__init__(followed, around)
        self.outer = outer
        self.origins = [_origin(x) for x in outer]
        self.call: tuple[Sequence[Any], Sequence[Any]] | None = None

    def _enter(self, trace: Any, args: Sequence[Any]) -> None:
        trace.__class__ = ValuedTrace
        trace.is_for_rule()
        # Primals come first; between and after them are tangents and flags of zeros.
        inner = [x for x in args if _is_of(trace, x)]
        for tracer, value in zip(inner, self.outer, strict=False):
            trace.give(tracer, value)

    def _left(self, trace: Any, results: Sequence[Any]) -> Sequence[Any]:
        self.call = self.outer, results
        if (around := self._around()) is not None:
            _known_of.setdefault(around, _Known()).rules.append(trace)
        trace.__class__ = _LeftTrace
        return _as_plain(trace, results)


def _followed(rule: InOurTrace, fun: Any) -> Any:
    return linear_util.wrap_init(rule, debug_info=fun.debug_info)


def _is_of(trace: Any, x: Any) -> bool:
    return isinstance(x, partial_eval.DynamicJaxprTracer) and x._trace is trace


def _as_plain(trace: Any, results: Sequence[Any]) -> Sequence[Any]:
    """Tracers of the same results, which JAX does not take for values that were kept."""
    plain = _PlainTrace.var_to_tracer
    return [plain(trace, x.val, x._line_info, x.parent) if _is_of(trace, x) else x for x in results]


def _origin(x: Any) -> Any:
    while isinstance(x, ValuedTracer):
        known = _known_of.get(x._trace)
        given = known.source_of(x.val) if known else None
        if not isinstance(given, core.Tracer):
            return x.val
        x = given
    return x
