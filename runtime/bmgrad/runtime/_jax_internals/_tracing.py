"""Tracing to a jaxpr whose inputs may grow."""

import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import config, core, dtypes, source_info_util
from jax._src.interpreters import batching, partial_eval
from jax.extend.core import DebugInfo

from bmgrad.runtime._jax_internals._asked_values import mark_asked, was_asked
from bmgrad.runtime._jax_internals._avals import ShapedArray, mesh_of_trace, replicated
from bmgrad.runtime._jax_internals._axes import mesh_of_rules, without_varying
from bmgrad.runtime._jax_internals._batch_dims import rules_with_axes_of_functions
from bmgrad.runtime._jax_internals._discharge import ClosedJaxpr, discharge_inner
from bmgrad.runtime._jax_internals._hi_values import without_hi_values
from bmgrad.runtime._jax_internals._valued_trace import (
    SoftTrace,
    UnansweringTrace,
    ValuedTrace,
    end,
    has_answered,
)

# JAX caches the jaxpr of each inner `jit`, `scan`, ... by function and avals.
# Where such a function reads a variable, its cached jaxpr closes over a tracer
# that is right for one trace and one state of the variables only. So traces run
# under a context value that is part of JAX's cache keys, and that is renewed
# once a variable has been read inside an inner trace and the state may differ
# from then on. Traces without such reads share one value, and with it what JAX
# has cached for `jnp` functions.
_epoch_context = jax.make_user_context(0)
_epoch_numbers = itertools.count(1)


@contextlib.contextmanager
def _settings_of_trace(epoch: int) -> Iterator[None]:
    """What is set while a function is traced, whatever is set around."""
    with (
        _epoch_context(epoch),
        rules_with_axes_of_functions(),
        mesh_of_trace(),
        without_varying(),
        mesh_of_rules(),
    ):
        yield


def settings_of_traces() -> tuple[tuple[str, Any], ...]:
    """The names and values of the settings by which JAX caches what a function is traced to."""
    with _settings_of_trace(0):
        return tuple(zip(config.trace_context_names(), config.trace_context(), strict=True))


class _Epoch(threading.local):
    """The cache epoch of this thread, and its open traces, innermost last."""

    def __init__(self) -> None:
        self.number = next(_epoch_numbers)
        self.tainted = False
        self.open: list[OpenTrace] = []

    def renew_if_tainted(self) -> None:
        if not self.tainted:
            return
        self.number = next(_epoch_numbers)
        self.tainted = False
        if self.open:
            self.open[-1]._contexts.enter_context(_epoch_context(self.number))


_epoch = _Epoch()


class TracedJaxpr(NamedTuple):
    """A jaxpr and what it closes over.

    `jaxpr.invars` are the given inputs followed by the lifted ones, and
    `jaxpr.constvars` stand for `consts`: concrete arrays or tracers of an
    enclosing trace. `was_asked()` says whether code asked for values that were not known,
    and went on without, also in rules so far, `has_answered` whether a soft trace told it some.
    `end` is to be called once nothing is traced any more that belongs to it, as rules do: from
    then on tracers that code has kept are values.
    """

    jaxpr: Any
    consts: list[Any]
    in_avals: list[ShapedArray]
    out_avals: list[ShapedArray]
    in_names: list[str]
    was_asked: Callable[[], bool] = lambda: False
    has_answered: bool = False
    end: Callable[[], None] = lambda: None


class OpenTrace:
    """A jaxpr being traced, whose inputs may still grow. See `trace`."""

    def __init__(self, inner: Any, names: Sequence[str]) -> None:
        self._inner = inner
        self._names = list(names)
        self._contexts = contextlib.ExitStack()

    def lift(self, aval: ShapedArray, name: str, value: Any = None, moves: bool = False) -> Any:
        """A tracer for a new input of `aval`, called `name` in messages and IR.

        May be called while an inner trace (a `scan` body, a `jit`) is running; the
        input still belongs to this jaxpr. `value`, and whether a derivative is taken by it, are
        for traces that know values.
        """
        if self._inner is None:
            raise RuntimeError(
                f"cannot lift {name!r}: its trace has finished. If a derivative rule reads it "
                "(jax.custom_vjp, custom_jvp), read it in the function that has the rule too"
            )
        self._names.append(name)
        return self._new_arg(aval, value, moves)

    def _new_arg(self, aval: ShapedArray, value: Any, moves: bool) -> Any:
        tracer = self._inner.new_arg(replicated(aval), source_info_util.current())
        if self.may_answer:
            self._inner.give(tracer, value, moves)
        return tracer

    @property
    def knows_values(self) -> bool:
        """Whether the tracers may know their values, whoever asks."""
        return self.may_answer and not isinstance(self._inner, SoftTrace)

    @property
    def may_answer(self) -> bool:
        """Whether they may, for code at least that cannot go on without."""
        return self._inner is not None and self._inner.answers

    def owns(self, value: Any) -> bool:
        """Whether `value` is a tracer of this very trace, not of one inside or around it."""
        return isinstance(value, jax.core.Tracer) and value._trace is self._inner

    def on_read(self) -> None:
        """Call whenever a variable is read: a cached inner jaxpr may now depend on it."""
        if core.trace_ctx.trace is not self._inner:
            _epoch.tainted = True

    def on_write(self) -> None:
        """Call whenever a variable is assigned: cached inner jaxprs that read it are stale."""
        _epoch.renew_if_tainted()


# What JAX is told about our own traces.
_TRACED_FOR = "bmgrad"
_RULE_TRACED_FOR = "a rule, by bmgrad"
# Of these traces it is not known what is around them: JAX says nothing, and rules are traced
# later than the function around them, whose values they may read.
_ANYWHERE = (
    "custom_jvp fun",
    "custom_jvp jvp",
    "custom_vjp fun",
    "custom_vjp fwd",
    _RULE_TRACED_FOR,
)


def trace(
    fun: Callable[..., Sequence[Any]],
    in_avals: Sequence[ShapedArray],
    *,
    name: str,
    arg_names: Sequence[str],
    values: Sequence[Any] | None = None,
    moving: Collection[int] = (),
    is_rule: bool = False,
    is_soft: bool = False,
    traced_for: str = _TRACED_FOR,
) -> TracedJaxpr:
    """Traces `fun(open_trace, *tracers)`, which returns a flat sequence, to a jaxpr.

    While `fun` runs, `open_trace.lift` adds inputs. Works at top level, under any
    JAX transform, and inside itself. Exceptions of `fun` pass through. With `values`, one
    for each input or None, Python code in `fun` may ask for what is computed from them, but not
    lose a derivative by the `moving` ones; it may be a derivative rule, and get them as values.
    Where the trace `is_soft`, JAX's code is told none.
    """
    debug_info = DebugInfo(traced_for, name, tuple(arg_names), None)
    kind: type[ValuedTrace] = UnansweringTrace
    if values is not None:
        kind = SoftTrace if is_soft else ValuedTrace
    inner: Any = kind(debug_info, parent_trace=core.trace_ctx.trace)
    opened = OpenTrace(inner, arg_names)
    _epoch.renew_if_tainted()
    _epoch.open.append(opened)
    try:
        with (
            opened._contexts,
            _settings_of_trace(_epoch.number),
            core.ensure_no_leaks(inner),
            source_info_util.reset_name_stack(),
            partial_eval.TracebackScope(),
        ):
            source_info = source_info_util.current()
            if is_rule and values is not None:
                inner.is_for_rule()
            tracers = [
                opened._new_arg(aval, value, i in moving)
                for i, (aval, value) in enumerate(
                    zip(in_avals, values or [None] * len(in_avals), strict=True)
                )
            ]
            with core.set_current_trace(inner):
                results = [dtypes.canonicalize_value(x) for x in fun(opened, *tracers)]
            results = [inner.to_jaxpr_tracer(x, source_info) for x in results]
            debug_info = debug_info._replace(
                arg_names=tuple(opened._names), result_paths=("",) * len(results)
            )
            jaxpr, consts = inner.frame.to_jaxpr(inner, results, debug_info, source_info)
            opened._inner = None
            asked, answered = functools.partial(was_asked, inner), has_answered(inner)
            # Rules may ask later for values that were known from the start.
            end_of_trace = functools.partial(end, inner, keeps_inputs=answered or not is_soft)
            del inner, tracers, results
            # ClosedJaxpr is how both versions say which leading variables are constants.
            closed = without_hi_values(ClosedJaxpr(jaxpr, consts))
    except BaseException as error:
        if opened._inner is not None:
            if was_asked(opened._inner):
                mark_asked(error)
            # What `fun` closed over is to go with the exception.
            opened._inner.invalidate()
            end(opened._inner, keeps_inputs=False)
        raise
    finally:
        opened._inner = None
        _epoch.open.pop()
        _epoch.renew_if_tainted()
    # References that the function makes and keeps to itself become values.
    closed = discharge_inner(closed)
    jaxpr, consts = closed.jaxpr, closed.consts
    return TracedJaxpr(
        jaxpr,
        list(consts),
        [v.aval for v in jaxpr.invars],
        [v.aval for v in jaxpr.outvars],
        opened._names,
        asked,
        answered,
        end_of_trace,
    )


def trace_rule(
    fun: Callable[..., Sequence[Any]], in_avals: Sequence[ShapedArray], **keywords: Any
) -> TracedJaxpr:
    """Traces a rule, of which nothing is traced afterwards; for arguments see `trace`."""
    traced = trace(fun, in_avals, **keywords, traced_for=_RULE_TRACED_FOR)
    traced.end()
    return traced


def is_staged() -> bool:
    """Whether what is called now is traced once, under `jax.jit`, and not at each call."""
    trace, info = core.trace_ctx.trace, None
    while trace is not None:
        if isinstance(trace, partial_eval.DynamicJaxprTrace):
            info = trace.frame.debug_info
        trace = getattr(trace, "parent_trace", None)
    # The outermost counts.
    return info is not None and info.traced_for not in (_TRACED_FOR, _RULE_TRACED_FOR)


# What has the trace that operations go into as its `value`, and the one that runs them at once.
trace_state, evaluation = core.trace_state_strong_ref, core.eval_trace


def is_inside_transform() -> bool:
    """Whether some transform of JAX is around what is called now."""
    return trace_state.value is not evaluation


def is_jit_disabled() -> bool:
    """Whether JAX is told to compile nothing (`jax.disable_jit`)."""
    return bool(config.disable_jit.value)


def is_left_behind(value: Any) -> bool:
    """Whether `value` is of a trace, though there is none any more."""
    return isinstance(value, core.Tracer) and not is_inside_transform()


def value_left_behind(aval: ShapedArray) -> Any:
    """A tracer of a trace that is over."""
    left = list[Any]()
    jax.eval_shape(lambda x: left.append(x), jax.ShapeDtypeStruct(aval.shape, aval.dtype))
    return left[0]


def may_be_differentiated() -> bool:
    """Whether a derivative may be taken of what is called now, by a transform around it."""
    trace = core.trace_ctx.trace
    while isinstance(trace, batching.BatchTrace):
        trace = trace.parent_trace
    return not isinstance(trace, core.EvalTrace)


def is_dead(value: Any) -> bool:
    """Whether `value` is a tracer of a trace that has finished, as far as can be told."""
    trace = core.trace_ctx.trace
    while isinstance(value, jax.core.Tracer):
        if trace is None:
            return True
        if trace is value._trace or _tag_of(trace) is _tag_of(value._trace) is not None:
            return False
        if isinstance(trace, partial_eval.DynamicJaxprTrace):
            info = trace.frame.debug_info
            if info is not None and info.traced_for in _ANYWHERE:
                return False
        trace = getattr(trace, "parent_trace", None)
    return False


def _tag_of(trace: Any) -> Any:
    """What JAX's traces of one transform share."""
    return getattr(trace, "tag", None)


def has_value(x: Any) -> bool:
    """Whether `x` is an array, or a tracer that knows its value."""
    return core.is_concrete(x) and not isinstance(x, jax.ShapeDtypeStruct)


def without_literal(value: Any) -> Any:
    """The number that a tracer stands for, as of `jnp.asarray(2.0)` in a function, or `value`."""
    literal: Any = getattr(value, "val", None)
    is_number = isinstance(value, jax.core.Tracer) and isinstance(literal, core.Literal)
    return np.asarray(literal.val, literal.aval.dtype) if is_number else value


def variable_of(value: Any) -> Any:
    """The jaxpr variable that a tracer stands for; None where it stands for none."""
    variable = getattr(value, "val", None)
    return variable if isinstance(variable, core.Var) else None
