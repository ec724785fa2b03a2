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
from bmgrad.runtime import _hijax
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
    primitive, params = _hijax.named(eqn) or (eqn.primitive, eqn.params)
    if not is_saved(b.policy(primitive, *(atom.aval for atom in eqn.invars), **params)):
        return results
    values = [results] if isinstance(results, Value) else results
    return [b.op("bm.saveable", [value], value.type) for value in values]


@rule(*REMATS, keys=True)
def _checkpoint(b: Importer, eqn: Equation) -> list[Value]:
    params = eqn.params
    prevent_cse = params["prevent_cse"]
    prevents = any(prevent_cse) if isinstance(prevent_cse, tuple) else prevent_cse
    return emit_remat(b, eqn, params["jaxpr"], params["policy"], params["differentiated"], prevents)


def emit_remat(
    b: Importer,
    eqn: Equation,
    jaxpr: Any,
    policy: Callable[..., Any] | None,
    differentiated: bool,
    prevent_cse: bool,
) -> list[Value]:
    """The region of a function that keeps what its policy says, by default only its arguments."""
    jaxpr, given = b.bind(jaxpr, b.read_operands(eqn))
    if policy is jax.checkpoint_policies.everything_saveable:
        return b.call(jaxpr, given, "checkpoint")
    with _asking(b, policy):
        body = b.body(jaxpr)
    captures = body.captures()
    operands = [*(b.module.capture(array) for array in captures), *given]
    attributes = {"differentiated": differentiated, "prevent_cse": prevent_cse}
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
