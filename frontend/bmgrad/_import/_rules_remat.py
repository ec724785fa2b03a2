"""Rules of `jax.checkpoint` and of what it may keep.

A checkpointed function is a region. Its policy is asked while the equations inside are
imported, those of functions that are called there too, and marks what it admits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax

from bmgrad._import._registry import CALLEES, REMATS, Equation, rule
from bmgrad._import._text import Value
from bmgrad.runtime._jax_internals import is_saved

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

# What holds equations is not asked for, but these are.
_HOLD_EQUATIONS = {
    *CALLEES,
    "cond",
    "custom_jvp_call",
    "custom_vjp_call",
    "scan",
    "while",
}


def mark_saveable(
    b: Importer, eqn: Equation, results: Value | Sequence[Value]
) -> Value | Sequence[Value]:
    """The results of an equation, marked where the policy of the checkpoint around admits them."""
    if b.policy is None or eqn.primitive.name in _HOLD_EQUATIONS:
        return results
    if not is_saved(b.policy(eqn.primitive, *(atom.aval for atom in eqn.invars), **eqn.params)):
        return results
    values = [results] if isinstance(results, Value) else results
    return [b.op("bm.saveable", [value], value.type) for value in values]


@rule(*REMATS, keys=True)
def _checkpoint(b: Importer, eqn: Equation) -> list[Value]:
    policy = eqn.params["policy"]
    jaxpr, given = b.bind(eqn.params["jaxpr"], b.read_operands(eqn))
    if policy is jax.checkpoint_policies.everything_saveable:
        return b.call(jaxpr, given, "checkpoint")
    with _asking(b, policy):
        body = b.body(jaxpr)
    captures = body.captures()
    operands = [*(b.module.capture(array) for array in captures), *given]
    prevent_cse = eqn.params["prevent_cse"]
    attributes = {
        "differentiated": eqn.params["differentiated"],
        "prevent_cse": any(prevent_cse) if isinstance(prevent_cse, tuple) else prevent_cse,
    }
    return b.multi_op(
        "bm.remat",
        operands,
        [b.type(var.aval) for var in eqn.outvars],
        ", ".join(name for name, is_set in attributes.items() if is_set),
        [b.module.region(body, captures)],
    )


@contextmanager
def _asking(b: Importer, policy: Callable[..., Any] | None) -> Iterator[None]:
    outer, b.policy = b.policy, policy
    try:
        yield
    finally:
        b.policy = outer


@rule("optimization_barrier", keys=True)
def _optimization_barrier(b: Importer, eqn: Equation) -> list[Value]:
    operands = b.read_all(eqn)
    return b.multi_op("bm.optimization_barrier", operands, [value.type for value in operands])
