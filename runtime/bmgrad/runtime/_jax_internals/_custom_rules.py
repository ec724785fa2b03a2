"""The derivative rules that users gave to functions, as JAX keeps them."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import api, core
from jax._src.interpreters import ad as internal_ad
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad

from bmgrad.runtime._jax_internals._avals import ShapedArray, tangent_aval
from bmgrad.runtime._jax_internals._discharge import discharge_rule
from bmgrad.runtime._jax_internals._ended_batches import batches_reopened
from bmgrad.runtime._jax_internals._valued_trace import values_of_rule

# What rules of hijax add cotangents to, those that count and the others.
NullAccum: Any = internal_ad.NullAccum
ValAccum: Any = internal_ad.ValAccum
# Stands for a primal that the function returned by `vjp` has no use for.
NotNeeded: Any = api.NotNeeded


class CustomJvp(NamedTuple):
    """The rule of a `custom_jvp_call`: `(x..., dx...) -> (y..., dy...)`.

    The arguments are those of the call but its constants; tangents are there for the
    active arguments and for the results that `out_zeros` does not name zero.
    """

    jaxpr: Any
    consts: list[Any]
    out_zeros: list[bool]


def custom_jvp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomJvp:
    """`active` says for each argument but the constants whether it has a tangent."""
    rule = params["jvp_jaxpr_fun"]
    with batches_reopened(rule):
        jaxpr, consts, out_zeros = rule.call_wrapped(*(not a for a in active))
    return CustomJvp(*discharge_rule(jaxpr, consts), list(out_zeros))


class CustomVjp(NamedTuple):
    """The rule of a `custom_vjp_call`.

    `fwd` takes the arguments of the call but its constants and returns `num_made` values
    for `bwd`, then results. `residuals` says of each one that `bwd` takes whether it is an
    argument, and which of the arguments, constants counted, or of the former. `bwd` takes
    residuals and a cotangent, or None, for each result; it returns a cotangent, or
    None, for each argument but the constants. `num_closed_over` of the arguments are
    constants as well, of a call that `jax.vmap` has evaluated from a jaxpr. `values` gives the
    values of residuals, None for those that are not known.
    """

    fwd: Any
    fwd_consts: list[Any]
    num_made: int
    residuals: list[tuple[bool, int]]
    bwd: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    num_closed_over: int = 0
    values: Callable[[], list[Any]] = list


def custom_vjp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomVjp:
    """`active` says for each argument but the constants whether it has a tangent."""
    num_closed_over = _num_lifted(params["fwd_jaxpr_thunk"])
    wanted = [False] * num_closed_over + list(active[num_closed_over:])
    trace_fwd = params["fwd_jaxpr_thunk"]
    # JAX knows of the last trace only what `bwd` gets, and of none after one that failed: what
    # it keeps of others holds no longer.
    for thunk in _thunks(trace_fwd):
        _closed_over(thunk, "cells").clear()
    with batches_reopened(trace_fwd):
        fwd, consts = discharge_rule(*trace_fwd.call_wrapped(*wanted))
    _, _, forwarded = params["out_trees"]()
    made = itertools.count()
    sources = [(False, next(made)) if f is None else (True, f) for f in forwarded]
    # Flags and numbers that the rule keeps stay what they are: `bwd` may branch on them.
    known = {
        i: fwd.outvars[number].val
        for i, (is_argument, number) in enumerate(sources)
        if not is_argument and isinstance(fwd.outvars[number], core.Literal)
    }
    out_avals = [tangent_aval(aval) for aval in params["call_jaxpr"].out_avals]

    def zero(aval: ShapedArray) -> Any:
        if params["symbolic_zeros"]:
            return SymbolicZero(aval)
        return np.zeros(aval.shape, aval.dtype)

    def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        filled = [zero(aval) if ct is None else ct for ct, aval in zip(cts, out_avals, strict=True)]
        given = iter(residuals)
        kept = [known[i] if i in known else next(given) for i in range(len(sources))]
        with batches_reopened(params["bwd"]):
            results = params["bwd"].call_wrapped(*kept, *filled)
        # One of the two versions returns log entries beside the cotangents.
        results = results[0] if isinstance(results, tuple) else results
        zeros = (ad.Zero, SymbolicZero)
        return [None if isinstance(ct, zeros) else ct for ct in results]

    residuals = [source for i, source in enumerate(sources) if i not in known]

    def values() -> list[Any]:
        found = values_of_rule(_closed_over(params["fwd_jaxpr_thunk"], "fn", "fwd"))
        if found is None:
            return [None] * len(residuals)
        given, returned = found
        # Constants come first among the arguments of the call, and are not given to the rule.
        first = params["num_consts"]
        return [
            (given[number - first] if number >= first else None)
            if is_argument
            else returned[number]
            for is_argument, number in residuals
        ]

    return CustomVjp(fwd, consts, next(made), residuals, bwd, num_closed_over, values)


def custom_rule_key(params: Mapping[str, Any]) -> Hashable:
    """Equal for calls of one function with one rule, though JAX wraps each call anew.

    Rules mostly call the function that they belong to, so an importer that follows
    rules meets the same one inside. None where it cannot be told.
    """
    if "jvp_jaxpr_fun" in params:
        return _wrapped_key(_closed_over(params["jvp_jaxpr_fun"], "fn", "jvp"))
    fwd = _wrapped_key(_closed_over(params["fwd_jaxpr_thunk"], "fn", "fwd"))
    bwd = params["bwd"]
    # Under `vmap` the user's function is inside.
    while inner := _closed_over(bwd, "bwd"):
        bwd = inner
    return fwd and (fwd, _wrapped_key(bwd))


def _num_lifted(thunk: Any) -> int:
    """How many constants of a call became arguments when JAX evaluated it from a jaxpr."""
    of_calls = (_closed_over(inner, "fn", "fwd") for inner in _thunks(thunk))
    return sum(_closed_over(fwd, "num_consts") or 0 for fwd in of_calls)


def _thunks(thunk: Any) -> list[Any]:
    """What traces a forward rule, and what that calls where JAX evaluated the call from a jaxpr."""
    thunks = []
    while thunk is not None:
        thunks.append(thunk)
        thunk = _closed_over(_closed_over(thunk, "fn", "fwd"), "fwd_jaxpr_thunk")
    return thunks


def _closed_over(wrapped: Any, *path: str) -> Any:
    """What the function inside `wrapped` closes over under these names, one in the other."""
    value: Any = getattr(wrapped, "f", None)
    for name in path:
        names = getattr(getattr(value, "__code__", None), "co_freevars", ())
        if name not in names:
            return None
        value = value.__closure__[names.index(name)].cell_contents
    return value


def _wrapped_key(wrapped: Any) -> Hashable:
    if wrapped is None:
        return None
    steps: list[Hashable] = []
    while True:
        steps += [(step, _static_key(params)) for step, params in wrapped.transforms]
        # A call that JAX evaluates from a jaxpr again (`vmap` of `jit`) has its rule there.
        inner = _closed_over(_closed_over(wrapped, "jvp_jaxpr_fun"), "fn", "jvp")
        inner = inner or _closed_over(_closed_over(wrapped, "fwd_jaxpr_thunk"), "fn", "fwd")
        if inner is None:
            return wrapped.f, tuple(steps)
        wrapped = inner


def _static_key(value: Any) -> Hashable:
    """The part of a parameter that is the same at each call."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_static_key, value))
    if isinstance(value, (bool, int, float, str, ShapedArray, jax.tree_util.PyTreeDef)):
        return value
    if hasattr(value, "val"):  # A static argument of the user.
        try:
            hash(value.val)
        except TypeError:
            return id(value.val)
        return type(value.val), value.val
    return str(type(value))
