"""The rule of hijax: operations that are objects, with an expansion and derivative rules.

In: an equation that holds such an object. Out: what it expands to, as the function of a
`bm.custom_jvp` or `bm.custom_vjp` where the object brings a rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from bmgrad._import._errors import RuleRaised, asking_a_rule
from bmgrad._import._module import Body
from bmgrad._import._perturbed import perturbed_arguments, read_results
from bmgrad._import._registry import Equation, WithRule, rule
from bmgrad._import._rules_custom import (
    TracedVjp,
    collects_logs,
    emit_custom_jvp,
    emit_custom_vjp,
    emit_put_off,
    emit_raising,
    has_loops,
    jvp_functions,
    traced_vjp,
    vjp_functions,
    vjp_names,
)
from bmgrad._import._rules_exponents import frexp_jvp, ldexp_jvp
from bmgrad._import._rules_foreign import jvp_body, trace_flat, trace_jvp
from bmgrad._import._rules_remat import emit_remat
from bmgrad._import._rules_root import expansion, root_jvp
from bmgrad._import._text import Value
from bmgrad.runtime import _hijax
from bmgrad.runtime._jax_internals import (
    CustomVjp,
    TracedJaxpr,
    has_tangent,
    put_together,
    taken_apart,
)

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


# Of JAX's own objects those whose derivative is not that of their expansion, nor a user's.
_FORWARD_RULES = {"CustomRoot": root_jvp, "Frexp": frexp_jvp, "Ldexp": ldexp_jvp}


@rule("call_hi_primitive", keys=True)
def _call_hi_primitive(b: Importer, eqn: Equation) -> list[Value]:
    prim, in_avals = eqn.params["_prim"], [atom.aval for atom in eqn.invars]
    for aval in (*in_avals, *(var.aval for var in eqn.outvars)):
        b.type(aval)  # Values of hijax's own types are refused before anything is traced.
    if (found := _hijax.checkpointed(prim)) is not None:
        return emit_remat(b, eqn, *found, differentiated=False, prevent_cse=True)
    name, mode = _hijax.name_of(prim), _hijax.mode_of(prim)
    expanded = b.once((prim,), lambda: trace_flat(expansion(prim), in_avals, name))
    if mode is None or not any(map(has_tangent, in_avals)):
        return b.call(expanded, b.read_all(eqn), name)
    active, read = perturbed_arguments(eqn), read_results(eqn)
    logs = collects_logs(b, eqn)
    key = (_key(prim), active) if mode == "jvp" else (_key(prim), active, read, logs)
    if b.puts_off(eqn, key, has_loops(expanded.jaxpr)):
        return emit_put_off(b, eqn, name, (prim,), lambda: b.primal_body(expanded))
    try:
        if mode == "jvp":
            made = b.once(
                (prim,),
                lambda: _with_jvp(b, prim, name, expanded, active, key),
                ("jvp", id(prim), active),
            )
        else:
            made = b.once(
                (prim,),
                lambda: _with_vjp(b, prim, name, expanded, active, read, logs, key),
                ("vjp", id(prim), active, read, logs),
            )
    except RuleRaised as raised:
        return emit_raising(b, eqn, expanded, raised.error, b.read_all(eqn))
    if mode == "jvp":
        return emit_custom_jvp(b, eqn, made)
    return emit_custom_vjp(b, eqn, made)


def _with_jvp(
    b: Importer,
    prim: Any,
    name: str,
    expanded: TracedJaxpr,
    active: Sequence[bool],
    key: Hashable,
) -> WithRule:
    def make() -> tuple[Body, Body]:
        with asking_a_rule():
            jvp = trace_jvp(partial(_forward_rule(prim), prim), expanded.in_avals, name, active)
        return b.primal_body(expanded), jvp_body(b, jvp, expanded.out_avals)

    return jvp_functions(b, name, key, make)


def _forward_rule(prim: Any) -> Callable[..., tuple[list[Any], list[Any]]]:
    own = _FORWARD_RULES.get(type(prim).__name__) if _hijax.is_of_jax(prim) else None
    return own or _hijax.jvp


def _with_vjp(
    b: Importer,
    prim: Any,
    name: str,
    expanded: TracedJaxpr,
    active: Sequence[bool],
    read: Sequence[bool],
    logs: bool,
    key: Hashable,
) -> WithRule:
    @functools.cache
    def traced() -> TracedVjp:
        custom = _vjp_rule(prim, name, expanded, active)
        return traced_vjp(expanded, custom, read, logs=logs)

    def define(symbols: list[str]) -> WithRule:
        return vjp_functions(b, symbols, expanded, traced())

    return b.with_rule(key, vjp_names(name), define)


def _vjp_rule(prim: Any, name: str, expanded: TracedJaxpr, active: Sequence[bool]) -> CustomVjp:
    tree: Any = None

    def fwd(*args: Any) -> list[Any]:
        nonlocal tree
        results, residuals = _hijax.vjp_fwd(prim, active, args)
        leaves, tree = jax.tree.flatten(taken_apart(residuals))
        return [*leaves, *results]

    def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> tuple[list[Any], Any]:
        given = put_together(jax.tree.unflatten(tree, residuals))
        return _hijax.vjp_bwd(prim, active, given, cts)

    with asking_a_rule():
        traced = trace_flat(fwd, expanded.in_avals, f"{name}.fwd")
    count = tree.num_leaves
    return CustomVjp(
        fwd=traced.jaxpr,
        fwd_consts=traced.consts,
        num_made=count,
        residuals=[(False, i) for i in range(count)],
        bwd=bwd,
        num_closed_over=_hijax.num_closed_over(prim),
        optimizes_remat=_hijax.optimizes_remat(prim),
    )


def _key(prim: Any) -> Hashable:
    """Equal for objects that say that they are equal, if they can."""
    try:
        hash(prim)
    except TypeError:
        return "hijax", id(prim)
    return "hijax", prim
