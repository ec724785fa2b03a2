"""The derivative rules that users gave to functions, as JAX keeps them."""

import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import core, custom_derivatives, linear_util
from jax._src.interpreters import ad as internal_ad
from jax._src.interpreters import batching
from jax._src.lax.control_flow import conditionals
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad

from bmgrad.runtime._jax_internals._avals import ShapedArray, tangent_aval
from bmgrad.runtime._jax_internals._batch_dims import rules_with_axes_of_functions
from bmgrad.runtime._jax_internals._closures import closed_over
from bmgrad.runtime._jax_internals._discharge import discharge_rule
from bmgrad.runtime._jax_internals._ended_batches import batches_reopened
from bmgrad.runtime._jax_internals._equations import needed_inputs
from bmgrad.runtime._jax_internals._rules_at_call import traces_rules
from bmgrad.runtime._jax_internals._valued_trace import (
    AtValues,
    InOurTrace,
    values_of_rule,
)

# What rules of hijax add cotangents to, those that count and the others.
NullAccum: Any = internal_ad.NullAccum
ValAccum: Any = internal_ad.ValAccum
# By primitive the transposes that do the same.
accumulating_transposes: Any = internal_ad.fancy_transposes
# What a branch logs, and which one ran; one of the two versions has no logs.
CondSum: Any = vars(conditionals).get("CondSum")
_ZEROS = (ad.Zero, SymbolicZero)
# The attribute of what traces a forward rule that has the last trace.
_LAST = "bmgrad_last_trace"


def linearization_of(primitive: Any) -> Callable[..., Any] | None:
    """What a primitive has instead of a forward rule, or beside it.

    `(is_vjp, perturbed, *primals, **params) -> (results, perturbed, *residuals, linear)`, where
    `linear(*residuals, *tangents)` gives the tangents of the results.
    """
    return internal_ad.primitive_linearizations.get(primitive)


class CustomJvp(NamedTuple):
    """The rule of a `custom_jvp_call`: `(x..., dx...) -> (y..., dy...)`.

    The arguments are those of the call but its constants; tangents are there for the
    active arguments and for the results that `out_zeros` does not name zero. `num_errors`
    results of the call are error values that `checkify` put before those of the rule.
    """

    jaxpr: Any
    consts: list[Any]
    out_zeros: list[bool]
    num_errors: int = 0


def custom_jvp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomJvp:
    """`active` says for each argument but the constants whether it has a tangent."""
    rule = params["jvp_jaxpr_fun"]
    with batches_reopened(rule), rules_with_axes_of_functions():
        jaxpr, consts, out_zeros = rule.call_wrapped(*(not a for a in active))
    jaxpr, consts = discharge_rule(jaxpr, consts)
    num_given = closed_over(closed_over(rule, "fn", "jvp"), "num_errs")
    if num_given is None:
        return CustomJvp(jaxpr, consts, list(out_zeros))
    # Such a rule hands on the errors that it is given, and knows of none that the function adds.
    count = len(out_zeros)
    results, tangents = jaxpr.outvars[num_given:count], jaxpr.outvars[count:]
    num_dropped = num_given - sum(out_zeros[:num_given])
    return CustomJvp(
        jaxpr.replace(outvars=[*results, *tangents[num_dropped:]]),
        consts,
        list(out_zeros[num_given:]),
        len(params["call_jaxpr"].out_avals) - (count - num_given),
    )


# The entries of a backward rule by key, if it has some.
Logged: TypeAlias = dict[Any, Any] | None


class CustomVjp(NamedTuple):
    """The rule of a `custom_vjp_call`.

    `fwd` takes the arguments of the call but its constants and returns `num_made` values
    for `bwd`, then results. `residuals` says of each one that `bwd` takes whether it is an
    argument, and which of the arguments, constants counted, or of the former. `bwd` takes
    residuals and a cotangent, or None, for each result; it returns a cotangent, or None, for
    each argument but the constants, and what it logs. `num_closed_over` of the arguments are
    constants as well, of a call that `jax.vmap` has evaluated from a jaxpr. `num_errors`
    results of the call are error values that `checkify` put before those of the rule; they
    have no cotangents. `values` gives the values of residuals, None for those that are not
    known, and whether an argument has one. With `optimizes_remat` a `jax.checkpoint` runs the
    function where it needs no residuals. `bwd_key` gives what is equal for calls whose `bwd` do
    the same with the same values; None where it cannot be told.
    """

    fwd: Any
    fwd_consts: list[Any]
    num_made: int
    residuals: list[tuple[bool, int]]
    bwd: Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], Logged]]
    num_closed_over: int = 0
    num_errors: int = 0
    values: Callable[[], tuple[list[Any], bool]] = lambda: ([], False)
    optimizes_remat: bool = False
    bwd_key: Callable[[], Hashable] = lambda: None


def _counting_shared_once(bwd: Any, num_residuals: int, call: Any) -> Any:
    """The backward rule of `call`, of which batches count the cotangents of what they share once.

    JAX sums what the rule gives for arguments without a batch, as if each element had a result of
    its own; newer versions refuse to, unless these cotangents are known to be zero. Here the first
    element gets those of results that do not depend on the batch, and the others zeros. What is
    made of all elements together is left to JAX.
    """
    inner, dests = (closed_over(bwd, name) for name in ("bwd", "out_dim_dests"))
    if dests is None:
        return bwd
    inner = _counting_shared_once(inner, num_residuals, call)
    tag, axis_data, dims_of_args, *further = (
        value
        for name in ("tag", "axis_data", "in_dims", "num_res", "name")
        if (value := closed_over(bwd, name)) is not None
    )

    def batched(*args: Any) -> Any:
        dims_as_given = dims_of_args() if callable(dims_of_args) else dims_of_args
        dims = list(dims_as_given)
        is_first = jnp.arange(axis_data.size) == 0
        given, is_any_once = list(args), False
        for i in range(num_residuals, len(args)):
            is_once = None in dests and dims[i] is None and not isinstance(args[i], SymbolicZero)
            if is_once and not _depends(call, i - len(args), dests):
                own = is_first.reshape(-1, *[1] * np.ndim(args[i]))
                given[i], dims[i] = jnp.where(own, args[i], jnp.zeros_like(args[i])), 0
                is_any_once = True
        # What each element makes of those of all is one of the summands.
        each = [0 if dest is None else dest for dest in dests] if is_any_once else dests
        remake: Any = batching.batch_custom_vjp_bwd
        results = remake(inner, tag, axis_data, dims, each, *further).call_wrapped(*given)
        if not is_any_once:
            return results
        cts, logs = _cts_and_logs(results)
        sums = [
            ct.sum(0) if dest is None and not isinstance(ct, _ZEROS) else ct
            for ct, dest in zip(cts, dests, strict=True)
        ]
        if logs:
            # An entry has what each element is given.
            same = remake(inner, tag, axis_data, dims_as_given, each, *further)
            _, logs = _cts_and_logs(same.call_wrapped(*args))
        return sums if results is cts else (sums, logs)

    return linear_util.wrap_init(batched, debug_info=bwd.debug_info)


def _cts_and_logs(results: Any) -> tuple[Any, Logged]:
    """The cotangents, and the log entries that one of the two versions returns beside them."""
    has_logs = results and isinstance(results[0], (list, tuple))
    return (results[0], results[1]) if has_logs else (results, None)


def _depends(call: Any, result: int, dims: Sequence[int | None]) -> bool:
    """Whether a result of `call`, counted from the end, depends on an argument with a dimension.

    `dims` are those of its last arguments.
    """
    needed = needed_inputs(call, result)[-len(dims) :]
    return any(need and dim is not None for need, dim in zip(needed, dims, strict=True))


class _Fwd(NamedTuple):
    """A traced forward rule, the tree of its residuals, and which of them are arguments."""

    jaxpr: Any
    consts: list[Any]
    residual_tree: Any
    forwarded: Sequence[int | None]
    stored: Sequence[tuple[Any, Any]] = ()


def _traced_fwd(params: Mapping[str, Any], wanted: tuple[bool, ...]) -> _Fwd:
    """The forward rule where the `wanted` arguments are perturbed."""
    trace_fwd = closed_over(params["fwd_jaxpr_thunk"], "fn")
    # Of the last trace only is known what `bwd` gets.
    last: tuple[tuple[bool, ...], _Fwd] | None = vars(trace_fwd).get(_LAST)
    if last is not None and last[0] == wanted:
        _put_back(last[1].stored)
        return last[1]
    # Not by way of JAX's cache. After a trace that failed, what it has of others holds no longer.
    for thunk in _thunks(params["fwd_jaxpr_thunk"]):
        closed_over(thunk, "cells").clear()
    vars(trace_fwd).pop(_LAST, None)
    with (
        core.set_current_trace(None),
        batches_reopened(trace_fwd),
        rules_with_axes_of_functions(),
    ):
        jaxpr, consts = discharge_rule(*trace_fwd(*wanted))
    _, residual_tree, forwarded = params["out_trees"]()
    found = _Fwd(jaxpr, consts, residual_tree, forwarded)
    vars(trace_fwd)[_LAST] = wanted, found
    return found


def custom_vjp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomVjp:
    """`active` says for each argument but the constants whether it has a tangent."""
    lifted = _lifted(params["fwd_jaxpr_thunk"])
    num_given = lifted.num_errors or 0
    num_lifted = lifted.num_consts + num_given
    traced = _traced_fwd(params, (*[False] * num_lifted, *active[num_lifted:]))
    fwd, residual_tree, forwarded = traced.jaxpr, traced.residual_tree, traced.forwarded
    made = itertools.count()
    # Error values that `checkify` put before the arguments are not counted in `forwarded`.
    sources = [(False, next(made)) if f is None else (True, f + num_given) for f in forwarded]
    num_made = next(made)
    # Flags and numbers that the rule keeps stay what they are: `bwd` may branch on them.
    known = {
        i: fwd.outvars[number].val
        for i, (is_argument, number) in enumerate(sources)
        if not is_argument and isinstance(fwd.outvars[number], core.Literal)
    }
    out_avals = [tangent_aval(aval) for aval in params["call_jaxpr"].out_avals]
    is_checkified = lifted.num_errors is not None
    num_errors = len(out_avals) - (len(fwd.outvars) - num_made) if is_checkified else 0

    # `bwd` may be kept for good, so it does not hold `params`.
    wrapped, has_symbolic_zeros = params["bwd"], params["symbolic_zeros"]
    rule = _counting_shared_once(wrapped, len(sources), params["call_jaxpr"])

    def zero(aval: ShapedArray) -> Any:
        return SymbolicZero(aval) if has_symbolic_zeros else np.zeros(aval.shape, aval.dtype)

    def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> tuple[list[Any], Logged]:
        filled = [zero(aval) if ct is None else ct for ct, aval in zip(cts, out_avals, strict=True)]
        given = iter(residuals)
        kept = [known[i] if i in known else next(given) for i in range(len(sources))]
        with batches_reopened(wrapped):
            results = rule.call_wrapped(*kept, *filled[num_errors:])
        found, logs = _cts_and_logs(results)
        return [None if isinstance(ct, _ZEROS) else ct for ct in found], logs

    residuals = [source for i, source in enumerate(sources) if i not in known]

    def values() -> tuple[list[Any], bool]:
        found = values_of_rule(closed_over(params["fwd_jaxpr_thunk"], "fn", "fwd"))
        if found is None:
            return [None] * len(residuals), False
        given, returned = found
        # Constants come first among the arguments of the call, and are not given to the rule.
        first = params["num_consts"]
        of_residuals = [
            (given[number - first] if number >= first else None)
            if is_argument
            else returned[number]
            for is_argument, number in residuals
        ]
        return of_residuals, any(value is not None for value in given)

    def bwd_key() -> Hashable:
        if closed_over(wrapped, "bwd"):  # The rule of a batch, and the user's inside.
            return None
        numbers = tuple((i, type(number), repr(number)) for i, number in known.items())
        return _wrapped_key(wrapped), numbers, residual_tree

    return CustomVjp(
        fwd,
        traced.consts,
        num_made,
        residuals,
        bwd,
        # Error values, which come first, may vary: nothing comes of it.
        num_lifted if lifted.num_consts else 0,
        num_errors,
        values,
        any(eqn.primitive.name == "remat_opt" for eqn in fwd.eqns),
        bwd_key,
    )


def custom_rule_key(params: Mapping[str, Any]) -> Hashable:
    """Equal for calls of one function with one rule, though JAX wraps each call anew.

    Rules mostly call the function that they belong to, so an importer that follows
    rules meets the same one inside. None where it cannot be told.
    """
    if "jvp_jaxpr_fun" in params:
        return _wrapped_key(closed_over(params["jvp_jaxpr_fun"], "fn", "jvp"))
    fwd = _wrapped_key(closed_over(params["fwd_jaxpr_thunk"], "fn", "fwd"))
    bwd = params["bwd"]
    # Under `vmap` the user's function is inside.
    while inner := closed_over(bwd, "bwd"):
        bwd = inner
    return fwd and (fwd, _wrapped_key(bwd))


class _Lifted(NamedTuple):
    """What became arguments of a call when JAX evaluated it from a jaxpr.

    Attributes:
      num_consts: its constants.
      num_errors: the error values of `checkify`; None where it has not been there.
    """

    num_consts: int
    num_errors: int | None


def _lifted(thunk: Any) -> _Lifted:
    num_consts, num_errors = 0, None
    for inner in _thunks(thunk):
        fwd = closed_over(inner, "fn", "fwd")
        num_consts += closed_over(fwd, "num_consts") or 0
        if (found := closed_over(fwd, "num_errs")) is not None:
            num_errors = found + (num_errors or 0)
    return _Lifted(num_consts, num_errors)


def _thunks(thunk: Any) -> list[Any]:
    """What traces a forward rule, and what that calls where JAX evaluated the call from a jaxpr."""
    thunks = []
    while thunk is not None:
        thunks.append(thunk)
        thunk = closed_over(closed_over(thunk, "fn", "fwd"), "fwd_jaxpr_thunk")
    return thunks


def _wrapped_key(wrapped: Any) -> Hashable:
    if wrapped is None:
        return None
    steps: list[Hashable] = []
    while True:
        steps += [(step, _static_key(params)) for step, params in wrapped.transforms]
        if isinstance(wrapped.f, InOurTrace):
            if isinstance(wrapped.f, AtValues):
                # It holds them, so no other object gets their identity.
                steps.append(tuple(map(id, wrapped.f.origins)))
            wrapped = wrapped.f.followed
            continue
        # A call that JAX evaluates from a jaxpr again (`vmap` of `jit`) has its rule there.
        inner = closed_over(closed_over(wrapped, "jvp_jaxpr_fun"), "fn", "jvp")
        inner = inner or closed_over(closed_over(wrapped, "fwd_jaxpr_thunk"), "fn", "fwd")
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


# -- Rules that are traced when their function is called -------------------------------------------


def _stores(thunk: Any, name: str) -> list[Any]:
    """Where a rule leaves what JAX asks besides its results: of the function, or the rule."""
    followed = getattr(closed_over(thunk, "fn", name).f, "followed", None)
    return [store for store in getattr(followed, "stores", ()) if store is not None]


def _take_out(stores: Sequence[Any]) -> list[tuple[Any, Any]]:
    """What is in them. JAX expects them empty where it has called the function itself."""
    taken = [(store, store.val) for store in stores if store]
    for store in stores:
        store.reset()
    return taken


def _put_back(stored: Sequence[tuple[Any, Any]]) -> None:
    for store, value in stored:
        store.reset()
        store.store(value)


def _trace_jvp_at_call(params: Mapping[str, Any], active: Sequence[bool]) -> None:
    thunk = params["jvp_jaxpr_fun"]
    try:
        custom_jvp_rule(params, active)  # JAX keeps it.
    finally:
        _take_out(_stores(thunk, "jvp"))


def _trace_fwd_at_call(params: Mapping[str, Any], active: Sequence[bool]) -> None:
    thunk = params["fwd_jaxpr_thunk"]
    try:
        custom_vjp_rule(params, active)
    finally:
        stored = _take_out(_stores(thunk, "fwd"))
        kept = vars(closed_over(thunk, "fn"))
        if _LAST in kept:
            wanted, found = kept[_LAST]
            kept[_LAST] = wanted, found._replace(stored=stored)


traces_rules(custom_derivatives.custom_jvp_call_p, _trace_jvp_at_call)
traces_rules(custom_derivatives.custom_vjp_call_p, _trace_fwd_at_call)
