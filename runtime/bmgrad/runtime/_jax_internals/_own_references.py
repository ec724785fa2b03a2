"""Calls of functions with rules that are given references which the function around makes.

In: such a call, sealed while JAX puts values in the place of references (`_discharge.py`). Out:
the call of a function of these values, whose rule is made of the user's where the cotangents that
it gives do not depend on them, and it does not ask what is perturbed; else of a function whose rule
is an error. What a backward rule writes nobody reads then: its reference is the function's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import core

from bmgrad.runtime._errors import UnsupportedError
from bmgrad.runtime._jax_internals._avals import has_tangent, is_reference_aval, tangent_aval
from bmgrad.runtime._jax_internals._closures import rules_hold_tracers
from bmgrad.runtime._jax_internals._custom_rules import CustomVjp, custom_vjp_rule
from bmgrad.runtime._jax_internals._discharge import (
    ClosedJaxpr,
    Sealed,
    call_without_rule_p,
    discharge_inner,
    on_values,
    register_discharge,
    sealed_p,
    with_rules_on_values,
)
from bmgrad.runtime._jax_internals._equations import needed_inputs


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
    if custom.num_closed_over or custom.num_errors or custom.optimizes_remat:
        return None
    function, num_results = on_values(closed, operands), len(closed.out_avals)
    kept_references = {
        i: closed.in_avals[number].inner_aval
        for i, (is_argument, number) in enumerate(custom.residuals)
        if is_argument and number >= count and held[number - count]
    }
    if kept_references and _reads_kept(closed, custom, kept_references):
        return None

    def call_with_rule(*operands: Any) -> list[Any]:
        # What the user's function closes over has no derivative, as there.
        consts, given = operands[:count], operands[count:]

        def run(*args: Any) -> list[Any]:
            return list(core.jaxpr_as_fun(function)(*consts, *args))

        def forward(*args: Any) -> tuple[list[Any], list[Any]]:
            # Not before it is needed: a rule mostly calls the function that it belongs to.
            rule = with_rules_on_values(ClosedJaxpr(custom.fwd, custom.fwd_consts), args)
            made = core.jaxpr_as_fun(rule)(*args)
            kept = [
                args[number - count] if is_argument else made[number]
                for i, (is_argument, number) in enumerate(custom.residuals)
                if i not in kept_references
            ]
            return list(made[custom.num_made :]), kept

        def backward(kept: list[Any], cts: list[Any]) -> tuple[Any, ...]:
            zeros = {i: jnp.zeros(a.shape, a.dtype) for i, a in kept_references.items()}
            found, _ = custom.bwd(_with_references(kept, zeros), cts[:num_results])
            # No rule takes away from the derivative of what a reference holds, whatever it writes.
            of_values = iter(cts[num_results:])
            return tuple(
                _added(ct, next(of_values)) if is_held else ct
                for ct, is_held in zip(found, held, strict=True)
            )

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
    return list(sealed_p.bind(*inputs, sealed=Sealed(eqn)))


def _added(ct: Any, further: Any) -> Any:
    return further if ct is None else ct + further


def _with_references(kept: Sequence[Any], values: Mapping[int, Any]) -> list[Any]:
    """The residuals `kept`, and between them new references that hold `values`."""
    others = iter(kept)
    count = len(kept) + len(values)
    return [jax.new_ref(values[i]) if i in values else next(others) for i in range(count)]


def _reads_kept(closed: Any, custom: CustomVjp, kept: Mapping[int, Any]) -> bool:
    """Whether cotangents depend on what the references among the residuals hold."""
    made = [var.aval for var in custom.fwd.outvars]
    residuals = [(closed.in_avals if a else made)[number] for a, number in custom.residuals]
    others = [aval for i, aval in enumerate(residuals) if i not in kept]
    cts = [tangent_aval(aval) if has_tangent(aval) else None for aval in closed.out_avals]

    def run(values: list[Any], others: list[Any], cts: list[Any]) -> list[Any]:
        given = _with_references(others, dict(zip(kept, values, strict=True)))
        return [ct for ct in custom.bwd(given, cts)[0] if ct is not None]

    traced = discharge_inner(jax.make_jaxpr(run)(list(kept.values()), others, cts))
    needed = (needed_inputs(traced, i) for i in range(len(traced.out_avals)))
    return any(any(inputs[: len(kept)]) for inputs in needed)


register_discharge(sealed_p, _sealed_on_values, lambda sealed: len(sealed.eqn.outvars))
