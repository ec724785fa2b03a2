"""Tracing functions in which `jax.vmap` maps others that have a JVP rule.

In: such a call. Out: its equation, whose results have an axis for the batch where the function or
the rule gives one for each element. JAX learns that of the rule while it differentiates; a jaxpr is
made before, and says what the function gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jax._src import linear_util
from jax._src.interpreters import batching, partial_eval

from bmgrad.runtime._jax_internals._avals import has_tangent

# Where the results of a function have the batch, for each batch that it is over.
Dims: TypeAlias = dict[int, list[int | None]]


class FunctionTrace(partial_eval.DynamicJaxprTrace):
    """Records a jaxpr."""

    # Of the layout of its base: JAX makes the traces of functions with custom rules and has no
    # way to ask for another kind, so they become one of this kind when they are met.
    __slots__ = ()

    def process_custom_jvp_call(
        self, prim: Any, fun: Any, jvp: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        results = self.record_custom_jvp(prim, fun, jvp, tracers, **keywords)
        dims = _dims(fun)
        if not any(None in of_batch for of_batch in dims.values()):
            return results
        wanted = _wanted(dims, _dims_of_rule(results[0].parent, jvp))
        if wanted == dims:
            return results
        # Nothing has read the results, and nothing was recorded after them.
        self.frame.tracing_eqns.pop()
        _forget(fun)
        return self.record_custom_jvp(prim, _with_dims(fun, wanted), jvp, tracers, **keywords)

    def record_custom_jvp(
        self, prim: Any, fun: Any, jvp: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        """The results of the call, whose equation holds the jaxpr of `fun` and the rule `jvp`."""
        record: Any = super().process_custom_jvp_call
        return record(prim, *map(_traced_alike, (fun, jvp)), tracers, **keywords)

    def process_custom_vjp_call(
        self, prim: Any, fun: Any, fwd: Any, bwd: Any, tracers: Any, /, **keywords: Any
    ) -> Any:
        record: Any = super().process_custom_vjp_call
        return record(prim, *map(_traced_alike, (fun, fwd)), bwd, tracers, **keywords)


def _traced_alike(fun: Any) -> Any:
    """`fun`, which JAX traces in a way of its own, in a `FunctionTrace`."""
    return fun.wrap(_in_function_trace, (), None)


def _in_function_trace(fun: Any, *args: Any) -> Any:
    for x in args:
        if isinstance(x, partial_eval.DynamicJaxprTracer):
            trace: Any = x._trace
            if type(trace) is partial_eval.DynamicJaxprTrace:
                trace.__class__ = FunctionTrace
    return fun(*args)


def _axis(params: Sequence[Any]) -> Any:
    """The axis of a batch, if that is what a transformation with these parameters makes."""
    return next((param for param in params if isinstance(param, batching.AxisData)), None)


def _dims(fun: Any) -> Dims:
    """By the transformations of `fun`, which has run, that are batches."""
    batches = ((i, _axis(params)) for i, (_, params) in enumerate(fun.transforms))
    return {i: list(fun.stores[i].val) for i, axis in batches if axis is not None}


def _dims_of_rule(equation: Any, jvp: Any) -> Dims:
    """The same of a rule; nothing where it raises, as it will again if it is needed."""
    operands = equation.in_tracers[equation.params["num_consts"] :]
    try:
        is_zero = [not has_tangent(x.aval) for x in operands]
        equation.params["jvp_jaxpr_fun"].call_wrapped(*is_zero)
        return _dims(jvp)
    except Exception:
        return {}
    finally:
        _forget(jvp)


def _forget(fun: Any) -> None:
    """JAX minds if a function has run twice, or both it and its rule."""
    for store in fun.stores:
        if store:
            store.reset()


def _wanted(dims: Dims, of_rule: Mapping[int, Sequence[int | None]]) -> Dims:
    """Those of the function, and those of the rule where the function gives no batch."""
    return {
        i: [r if d is None else d for d, r in zip(given, of_rule.get(i, given), strict=True)]
        for i, given in dims.items()
    }


def _with_dims(fun: Any, wanted: Dims) -> Any:
    """`fun`, whose results have the batches at the `wanted` dimensions."""
    made = linear_util.wrap_init(fun.f, dict(fun.params), debug_info=fun.debug_info)
    steps = zip(fun.transforms, fun.stores, strict=True)
    for i, ((step, params), store) in reversed(list(enumerate(steps))):
        if i in wanted:
            step = _moving(step, _axis(params), wanted[i])
        made = made.wrap(step, params, store)
    return made


def _moving(batch: Any, axis: Any, wanted: Sequence[int | None]) -> Any:
    """`batch`, a transformation, whose results have the batch at the `wanted` dimensions."""

    def moved(fun: Any, store: Any, *args: Any) -> list[Any]:
        given = linear_util.Store()
        results = batch(fun, given, *args)
        store.store(wanted)
        return [
            batching.matchaxis(axis, dim, want, x)
            for x, dim, want in zip(results, given.val, wanted, strict=True)
        ]

    return moved
