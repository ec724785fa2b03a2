"""Tracing at a point: tracers that know their values, for Python code that asks for them.

In: avals, and the values of some of them. Out: a JAX trace that records the same jaxpr as
any other; where Python needs a value (`if x > 0`, `int(n)`), what leads to it is computed.
JAX's own transforms answer likewise outside `jit`. A soft trace answers code only that cannot go
on without: whoever can, as functions of JAX, does what it does in any other trace.
"""

import dataclasses
import weakref
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax._src import ad_util, core
from jax._src.interpreters import partial_eval
from jax.extend import linear_util

from bmgrad.runtime._jax_internals._asked_values import is_asked_by_code
from bmgrad.runtime._jax_internals._avals import has_tangent, is_reference_aval
from bmgrad.runtime._jax_internals._references import are_of_references


@dataclasses.dataclass
class _Known:
    """By variable: what inputs were given, and the values found so far.

    Of references these are others, which hold what the references will after the `repeated` first
    equations; None where that is not known. A derivative is taken by the `moving` inputs. The
    trace of a function's rule `is_of_rule`: for it the innermost derivative around is none.
    It `has_answered` where code was told a value.
    """

    given: dict[Any, Any] = dataclasses.field(default_factory=dict)
    moving: set[Any] = dataclasses.field(default_factory=set)
    is_of_rule: bool = False
    values: dict[Any, Any] = dataclasses.field(default_factory=dict)
    repeated: int = 0
    has_answered: bool = False


_known_of: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()


_PlainTracer: Any = partial_eval.DynamicJaxprTracer
_PlainTrace: Any = partial_eval.DynamicJaxprTrace


class _ValuedTracer(partial_eval.DynamicJaxprTracer):
    __slots__ = ()

    _trace: "ValuedTrace"

    def to_concrete_value(self) -> Any:
        return self._trace.value_of(self)

    def _constant(self) -> Any:
        """The value, None where a derivative would be lost with it."""
        value = self.to_concrete_value()
        return None if value is None or self._trace.is_perturbed(self) else value

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        if (value := self._constant()) is None:
            plain: Any = super().__array__
            return plain(*args, **keywords)
        return np.asarray(value, *args, **keywords)

    def __float__(self) -> float:
        plain: Any = super().__float__
        value = self._constant()
        return float(plain() if value is None else value)

    def __complex__(self) -> complex:
        plain: Any = super().__complex__
        value = self._constant()
        return complex(plain() if value is None else value)

    def __format__(self, spec: str) -> str:
        value = self._constant()
        return super().__format__(spec) if value is None else format(value, spec)

    def __getattr__(self, name: str) -> Any:
        plain: Any = super().__getattr__
        try:
            return plain(name)
        except AttributeError:
            if name.startswith("__") or (value := self._constant()) is None:
                raise
            return getattr(value, name)

    def tolist(self) -> Any:
        plain: Any = super().tolist
        value = self._constant()
        return plain() if value is None else value.tolist()


class _SoftTracer(_ValuedTracer):
    __slots__ = ()

    def to_concrete_value(self) -> Any:
        return self._trace.value_of(self) if is_asked_by_code() else None

    # With their plain answers code goes on.
    __format__ = _PlainTracer.__format__
    __getattr__ = _PlainTracer.__getattr__


class ValuedTrace(partial_eval.DynamicJaxprTrace):
    """Records a jaxpr; its inputs have the values that `give` says, its results follow."""

    # Of the layout of its base: JAX makes the traces of functions with custom rules and has no
    # way to ask for another kind, so they become one of this kind when they are met.
    __slots__ = ()

    _kind: type[_ValuedTracer] = _ValuedTracer

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
        tracer: Any = super().new_const(c, *args, **keywords)
        if type(tracer) is partial_eval.DynamicJaxprTracer:
            tracer.__class__ = self._kind
            if not isinstance(tracer.val, core.Literal):
                # JAX forgets it once the trace has ended, and rules may ask later.
                self.give(tracer, c)
        return tracer

    # -- Values ------------------------------------------------------------------------------

    def value_of(self, tracer: Any) -> Any:
        """The value of a tracer, None where it depends on an input without one."""
        if is_reference_aval(tracer.aval):
            self._repeat_effects(None)
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

    def _known(self, tracer: Any) -> Any:
        atom = tracer.val
        if isinstance(atom, core.Literal):
            return atom.val
        known = _known_of.setdefault(self, _Known())
        if atom not in known.values:
            given = known.given.get(atom)
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
        outside = max(skip - bool(known.moving), 0) + known.is_of_rule
        todo, seen = [tracer], set()
        while todo:
            x = todo.pop()
            atom = x.val
            if isinstance(atom, core.Literal) or atom in seen:
                continue
            seen.add(atom)
            if not has_tangent(x.aval):
                continue
            if not skip and atom in known.moving:
                return True
            if (equation := x.parent) is None:
                given = known.given.get(atom)
                given = self.get_const(x) if given is None else given
                if given is None or self._is_perturbed_outside(given, outside):
                    return True
            elif equation.effects:
                return True  # What comes out of a reference may be any derivative's.
            elif equation.primitive is not ad_util.stop_gradient_p:
                todo += equation.in_tracers
        return False

    @staticmethod
    def _is_perturbed_outside(given: Any, skip: int) -> bool:
        if isinstance(given, _ValuedTracer):
            return given._trace.is_perturbed(given, skip=skip)
        return isinstance(given, core.Tracer)

    # -- Functions with custom rules ---------------------------------------------------------

    def process_custom_jvp_call(
        self, prim: Any, fun: Any, jvp: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        plain: Any = super().process_custom_jvp_call
        rules = (_at_values_of(tracers, f) for f in (fun, jvp))
        return plain(prim, *rules, tracers, **keywords)

    def process_custom_vjp_call(
        self, prim: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        plain: Any = super().process_custom_vjp_call
        rules = (_at_values_of(tracers, f) for f in (fun, fwd))
        return plain(prim, *rules, bwd, tracers, **keywords)


def values_of_rule(wrapped: Any) -> tuple[list[Any], list[Any]] | None:
    """What a forward rule was given and what it returned, where that has a value.

    None where JAX has traced it for no values.
    """
    rule = getattr(wrapped, "f", None)
    if not isinstance(rule, AtValues) or rule.call is None:
        return None
    given, returned = ([x if core.is_concrete(x) else None for x in some] for some in rule.call)
    return given, returned


class SoftTrace(ValuedTrace):
    """One that tells values to code only that cannot go on without, and not in derivative rules."""

    __slots__ = ()

    _kind = _SoftTracer

    def value_of(self, tracer: Any) -> Any:
        value = super().value_of(tracer)
        if value is not None:
            _known_of[self].has_answered = True
        return value

    process_custom_jvp_call = _PlainTrace.process_custom_jvp_call
    process_custom_vjp_call = _PlainTrace.process_custom_vjp_call


def has_answered(trace: Any) -> bool:
    """Whether a soft trace has told code a value."""
    return isinstance(trace, SoftTrace) and trace in _known_of and _known_of[trace].has_answered


def may_answer(x: Any) -> bool:
    """Whether `x` is of a soft trace."""
    return isinstance(x, _SoftTracer)


class AtValues:
    """`followed`, which JAX traces for inputs that have no values, for those of `outer`.

    Attributes:
      origins: what says what the inputs are; the same for a call with the inputs of this one.
      call: what was given and returned.
    """

    def __init__(self, outer: Sequence[Any], followed: Any) -> None:
        self.outer, self.followed = outer, followed
        self.origins = [_origin(x) for x in outer]
        self.call: tuple[Sequence[Any], Sequence[Any]] | None = None

    def __call__(self, *args: Any) -> Any:
        # Primals come first; between and after them are tangents and flags of zeros.
        inner = [x for x in args if isinstance(x, partial_eval.DynamicJaxprTracer)]
        if inner:
            trace: Any = inner[0]._trace
            trace.__class__ = ValuedTrace
            trace.is_for_rule()
            for tracer, value in zip(inner, self.outer, strict=False):
                trace.give(tracer, value)
        for store in self.followed.stores:
            if store:
                store.reset()
        results = self.followed.call_wrapped(*args)
        self.call = self.outer, results
        return results


def _at_values_of(outer: Sequence[Any], fun: Any) -> Any:
    return linear_util.wrap_init(AtValues(outer, fun), debug_info=fun.debug_info)


def _origin(x: Any) -> Any:
    while isinstance(x, _ValuedTracer):
        known = _known_of.get(x._trace)
        given = known.given.get(x.val) if known else None
        if not isinstance(given, core.Tracer):
            return x.val
        x = given
    return x
