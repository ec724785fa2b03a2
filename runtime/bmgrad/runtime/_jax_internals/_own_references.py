"""Calls of functions with rules that are given references which the function around makes.

In: such a call, sealed while JAX puts values in the place of references (`_discharge.py`). Out:
the call of a function of these values, whose rule is made of the user's where that one only reads
them, and does not ask what is perturbed; else of a function whose rule is an error.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax._src import core
from jax._src.state.types import ReadEffect, RefEffect

from bmgrad.runtime._errors import UnsupportedError
from bmgrad.runtime._jax_internals._avals import is_reference_aval
from bmgrad.runtime._jax_internals._closures import rules_hold_tracers
from bmgrad.runtime._jax_internals._custom_rules import custom_vjp_rule
from bmgrad.runtime._jax_internals._discharge import (
    ClosedJaxpr,
    Sealed,
    call_without_rule_p,
    on_values,
    register_discharge,
    sealed_p,
    with_rules_on_values,
)


def _sealed_on_values(*operands: Any, sealed: Sealed) -> Any:
    call = sealed.eqn
    if "call_jaxpr" not in call.params:
        raise UnsupportedError(
            f"`{call.primitive.name}` takes a reference (jax.new_ref) that the function to compile "
            "makes; make it outside"
        )
    is_asked = call.params.get("symbolic_zeros") or rules_hold_tracers(call)
    if call.primitive.name == "custom_vjp_call" and not is_asked:
        found = _with_rule_on_values(call, operands)
        if found is not None:
            return found
    jaxpr = call.params["call_jaxpr"]
    name = jaxpr.jaxpr.debug_info.func_name
    return call_without_rule_p.bind(*operands, jaxpr=on_values(jaxpr, operands), name=name)


def _with_rule_on_values(call: Any, operands: Sequence[Any]) -> list[Any] | None:
    """The results and the values that references have then; None where the rule needs more."""
    closed, count = call.params["call_jaxpr"], call.params["num_consts"]
    given = operands[count:]
    held = [
        is_reference_aval(aval) and not is_reference_aval(jax.typeof(x))
        for aval, x in zip(closed.in_avals[count:], given, strict=True)
    ]
    if sum(map(is_reference_aval, closed.in_avals)) > sum(held):
        return None
    custom = custom_vjp_rule(call.params, [True] * len(given))
    keeps_one = any(
        is_argument and number >= count and held[number - count]
        for is_argument, number in custom.residuals
    )
    needs_more = custom.num_closed_over or custom.num_errors or custom.optimizes_remat
    if keeps_one or needs_more or not all(map(_only_reads, (closed, custom.fwd))):
        return None
    function, num_results = on_values(closed, operands), len(closed.out_avals)

    def call_with_rule(*operands: Any) -> list[Any]:
        # What the user's function closes over has no derivative, as there.
        consts, given = operands[:count], operands[count:]

        def run(*args: Any) -> list[Any]:
            results = core.jaxpr_as_fun(function)(*consts, *args)
            return list(results[:num_results])

        def forward(*args: Any) -> tuple[list[Any], list[Any]]:
            # Not before it is needed: a rule mostly calls the function that it belongs to.
            rule = with_rules_on_values(ClosedJaxpr(custom.fwd, custom.fwd_consts), args)
            made = core.jaxpr_as_fun(rule)(*args)
            kept = [
                args[number - count] if is_argument else made[number]
                for is_argument, number in custom.residuals
            ]
            return list(made[custom.num_made : custom.num_made + num_results]), kept

        def backward(kept: list[Any], cts: list[Any]) -> tuple[Any, ...]:
            return tuple(custom.bwd(kept, cts))

        run.__name__ = closed.jaxpr.debug_info.func_name
        with_rule = jax.custom_vjp(run)
        with_rule.defvjp(forward, backward)
        return list(with_rule(*given))

    # Sealed again, for the function around may be one of several that JAX goes through.
    traced = jax.make_jaxpr(call_with_rule)(*operands)
    values = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    values.update(zip(traced.jaxpr.invars, operands, strict=True))
    (eqn,) = traced.eqns
    inputs = [x.val if isinstance(x, core.Literal) else values[x] for x in eqn.invars]
    results = sealed_p.bind(*inputs, sealed=Sealed(eqn))
    return [*results, *(x for x, is_held in zip(given, held, strict=True) if is_held)]


def _only_reads(jaxpr: Any) -> bool:
    effects = [effect for effect in jaxpr.effects if isinstance(effect, RefEffect)]
    return all(isinstance(effect, ReadEffect) for effect in effects)


register_discharge(sealed_p, _sealed_on_values, lambda sealed: len(sealed.eqn.outvars))
