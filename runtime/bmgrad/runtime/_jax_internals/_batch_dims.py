"""Axes of the batch in what `jax.vmap` makes of functions with rules of their own.

JAX asks a function and its rule each for itself where their results have the batch, and takes the
rule's results to be laid out as those of the function, which it traced first: so in a jaxpr (of
`jit`, of a loop, of ours) the derivative of `jax.vmap(f, in_axes=1)` is a permuted one where the
rule computes the primal by another way, and none where the primal ignores what is mapped but its
tangent does not. In: such calls, met while we trace. Out: the same, with functions and rules whose
results have the batch in the same place.
"""

import contextvars
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
from jax._src import core, linear_util
from jax._src.interpreters import batching

from bmgrad.runtime._jax_internals._avals import has_tangent
from bmgrad.runtime._jax_internals._closures import closed_over

# Whether this is done: the rules that are being asked where their results have the batch, if it is.
# Part of JAX's cache keys: what it traces for itself stays as it is, and is not used by us.
_asked = jax.make_user_context(None)
# Rules may call functions whose rules are to be asked, and make new functions without end.
_MOST = 3


def rules_with_axes_of_functions() -> AbstractContextManager[Any]:
    """A scope for traces in which functions and their rules have the batch in the same place."""
    scope: AbstractContextManager[Any] = _asked(_asked.value or ())
    return scope


class _Place(NamedTuple):
    """Where a result has the batch, None for nowhere, and the rank that it has without it."""

    dim: int | None
    rank: int


class _Call:
    """What is known of a call: nothing of a function that has not run."""

    def __init__(self, wanted: Sequence[_Place] = ()) -> None:
        self.wanted = wanted
        self.of_function: Sequence[_Place] = ()
        self.of_rule: Sequence[_Place] = ()


def _function(fun: Any, call: _Call, *args: Any) -> list[Any]:
    results = list(fun(*args))
    results = _moved(results, call.wanted or map(_place, results))
    call.of_function = list(map(_place, results))
    return results


def _jvp(rule: Any, call: _Call, *args: Any) -> list[Any]:
    results = list(rule(*args))
    primals, tangents = results[: len(results) // 2], results[len(results) // 2 :]
    if call.of_function:
        primals = _as_of_function(primals, call.of_function)
    # JAX moves tangents to where their primals have the batch, if these have it.
    call.of_rule = [
        _place(t if _place(p).dim is None else p) for p, t in zip(primals, tangents, strict=True)
    ]
    return [*primals, *tangents]


def _fwd(rule: Any, call: _Call, *args: Any) -> list[Any]:
    results = list(rule(*args))
    first = len(results) - len(call.of_function)
    of_function = _as_of_function(results[first:], call.of_function)
    call.of_rule = list(map(_place, of_function))
    return [*results[:first], *of_function]


def _place(x: Any) -> _Place:
    return _Place(core.trace_ctx.trace.to_batch_info(x)[1], _rank(x))


def _rank(x: Any) -> int:
    return getattr(x, "ndim", 0)


def _moved(values: Sequence[Any], places: Iterable[_Place]) -> list[Any]:
    """`values` with the batch where `places` say so.

    Where the rank is another, a batch inside this one is in one of the two only; its own trace
    sees to that, and comes here again.
    """
    return [
        value if place.dim is None or place.rank != _rank(value) else _with_batch(value, place.dim)
        for value, place in zip(values, places, strict=True)
    ]


def _as_of_function(values: Sequence[Any], places: Sequence[_Place]) -> list[Any]:
    """What a rule computes of a function's results, with the batch where the function has it.

    An integer that the function computes once for the batch is the same in all of it.
    """
    return [
        _first_of_batch(value)
        if place.dim is None and place.rank == _rank(value) and not has_tangent(jax.typeof(value))
        else value
        for value, place in zip(_moved(values, places), places, strict=True)
    ]


def _first_of_batch(value: Any) -> Any:
    trace = core.trace_ctx.trace
    inner, dim = trace.to_batch_info(value)
    if dim is None or not trace.axis_data.size:
        return value
    with core.set_current_trace(trace.parent_trace):
        return jax.lax.index_in_dim(inner, 0, dim, keepdims=False)


def _with_batch(value: Any, dim: int) -> Any:
    trace = core.trace_ctx.trace
    inner, given = trace.to_batch_info(value)
    if given == dim:
        return value
    with core.set_current_trace(trace.parent_trace):
        inner = batching.matchaxis(trace.axis_data, given, dim, inner)
    return batching.BatchTracer(trace, inner, dim)


_plain_custom_jvp: Any = batching.BatchTrace.process_custom_jvp_call
_plain_custom_vjp: Any = batching.BatchTrace.process_custom_vjp_call


def _custom_jvp(trace: Any, prim: Any, fun: Any, jvp: Any, tracers: Any, /, **keywords: Any) -> Any:
    def plain(fun: Any, jvp: Any) -> Any:
        return _plain_custom_jvp(trace, prim, fun, jvp, tracers, **keywords)

    return _bound(plain, _jvp, fun, jvp, trace, tracers)


def _custom_vjp(
    trace: Any, prim: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **keywords: Any
) -> Any:
    def plain(fun: Any, fwd: Any) -> Any:
        return _plain_custom_vjp(trace, prim, fun, fwd, bwd, tracers, **keywords)

    return _bound(plain, _fwd, fun, fwd, trace, tracers)


def _bound(
    plain: Callable[[Any, Any], Any], step: Any, fun: Any, rule: Any, trace: Any, tracers: Any
) -> Any:
    """The results of a call, with a batch where the function or the rule has one."""
    asked = _asked.value
    if asked is None:
        return plain(fun, rule)

    def bind(call: _Call) -> Any:
        return plain(fun.wrap(_function, (call,), None), rule.wrap(step, (call,), None))

    call = _Call()
    results = bind(call)
    # None is asked about integers, which loops count with: that is to trace it once more. But an
    # empty batch has no first.
    is_shared = any(
        place.dim is None and (has_tangent(jax.typeof(result)) or not trace.axis_data.size)
        for place, result in zip(call.of_function, results, strict=False)
    )
    is_batched = any(trace.to_batch_info(x)[1] is not None for x in tracers)
    may_ask = id(rule.f) not in asked and len(asked) < _MOST
    recorded = _recorded(results[0]) if is_shared and is_batched and may_ask else None
    if recorded is None:
        return results
    with _asked((*asked, id(rule.f))):
        of_rule = _of_rule(recorded.parent, call)
    _forget(rule)
    if of_rule in ((), call.of_function):
        return results
    # Nothing has read the results, and nothing was traced after them.
    recorded._trace.frame.tracing_eqns.pop()
    _forget(fun)
    return bind(_Call(of_rule))


def _recorded(result: Any) -> Any:
    """What stands for the result of a call in the jaxpr being traced; None where nothing does."""
    while isinstance(result, batching.BatchTracer):
        result = result.val
    equation = getattr(result, "parent", None)
    return None if equation is None or not _thunk(equation) else result


def _thunk(equation: Any) -> Any:
    """What traces the rule of a call."""
    params = equation.params
    return params.get("jvp_jaxpr_fun") or params.get("fwd_jaxpr_thunk")


def _is_jvp(equation: Any) -> bool:
    return "jvp_jaxpr_fun" in equation.params


def _of_rule(equation: Any, call: _Call) -> Sequence[_Place]:
    """For all tangents or, where the rule refuses these, for those that it takes one by one."""
    operands = equation.in_tracers[equation.params["num_consts"] :]
    is_perturbed = [has_tangent(x.aval) for x in operands]
    if places := _traced(equation, call, is_perturbed):
        return places
    one_by_one = [
        [i == j for j in range(len(operands))] for i, has in enumerate(is_perturbed) if has
    ]
    each = filter(None, (_traced(equation, call, alone) for alone in one_by_one))
    if not _is_jvp(equation):
        # Where it has its results does not depend on what is told of the tangents.
        return next(each, ())
    of_results = zip(*each, strict=True)
    return [min(places, key=lambda place: place.dim is None) for places in of_results]


def _traced(equation: Any, call: _Call, is_perturbed: Sequence[bool]) -> Sequence[_Place]:
    """Nothing where the rule raises, as it will where it is needed."""
    call.of_rule = ()
    # Past JAX's cache: rules that are being asked are not asked again by what they call.
    trace = closed_over(_thunk(equation), "fn")
    is_jvp = _is_jvp(equation)
    token = _emptied.set([])
    try:
        trace(*(is_one != is_jvp for is_one in is_perturbed))
    except Exception:
        # What JAX has cached of the rules of functions in this one goes with what it stored.
        for store, value in reversed(_emptied.get()):
            if not store:
                store.store(value)
    finally:
        _emptied.reset(token)
    return call.of_rule


# What asking a rule has taken out of JAX's stores; None while none is asked.
_emptied: contextvars.ContextVar[Any] = contextvars.ContextVar("emptied", default=None)
_plain_reset: Any = linear_util.Store.reset


def _reset(store: Any) -> None:
    taken = _emptied.get()
    if taken is not None and store:
        taken.append((store, store.val))
    _plain_reset(store)


def _forget(fun: Any) -> None:
    """JAX minds if a function has run twice, or both it and its rule."""
    for store in fun.stores:
        if store:
            store.reset()


# There is no other way in: JAX makes the traces of inner functions and of batches.
batching.BatchTrace.process_custom_jvp_call = _custom_jvp  # type: ignore[method-assign]
batching.BatchTrace.process_custom_vjp_call = _custom_vjp  # type: ignore[method-assign]
linear_util.Store.reset = _reset  # type: ignore[method-assign]
