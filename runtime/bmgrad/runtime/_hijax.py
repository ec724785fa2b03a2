"""Primitives of hijax, JAX's interface for operations that are Python objects.

In: the object that an equation of `call_hi_primitive` holds. Out: which rules it brings. Of JAX's
own objects those that carry the rule of a user's function have rules here; the others are what they
expand to. Next: `_jax_internals/_hi_operations.py`, which asks the rules.
"""

from typing import Any, Literal, TypeAlias, cast

from jax.extend.core.primitives import name_p

from bmgrad.runtime._jax_internals._hi_custom_rules import OfCustomCall
from bmgrad.runtime._jax_internals._hi_operations import (
    OfPrimitive,
    OnArrays,
    defines,
    expand,
    is_of_jax,
    jvp,
    name_of,
    num_closed_over,
    vjp_bwd,
    vjp_fwd,
)
from bmgrad.runtime._jax_internals._hi_types import Operation
from bmgrad.runtime._jax_internals._hi_values import without_hi_values

__all__ = ["expand", "is_of_jax", "jvp", "name_of", "num_closed_over", "vjp_bwd", "vjp_fwd"]

Mode: TypeAlias = Literal["jvp", "vjp"]

# The objects of JAX that hold a user's rule, and those that have a derivative of their own.
_CARRIERS: dict[str, Mode] = {"CustomVJPTraced": "vjp", "CustomJVPTraced": "jvp"}
_OWN = ("CustomRoot", "Frexp", "Ldexp")


def mode_of(prim: Any) -> Mode | None:
    """How `prim` says what its derivative is; None where only its expansion does."""
    if isinstance(prim, OnArrays):
        # Without a rule there is none, and that is an error where it is needed.
        return mode_of(prim.prim) or ("jvp" if prim.needs_rule else None)
    if isinstance(prim, (OfCustomCall, OfPrimitive)):
        return cast(Mode | None, prim.mode)
    if is_of_jax(prim):
        # `jax.vmap` may have wrapped somebody's object.
        inner = getattr(prim, "prim", None)
        if isinstance(inner, Operation):
            return mode_of(inner)
        return "jvp" if has_own_derivative(prim) else _CARRIERS.get(type(prim).__name__)
    if defines(prim, "jvp") or defines(prim, "lin"):
        return "jvp"
    return "vjp" if defines(prim, "vjp_fwd") else None


def has_own_derivative(prim: Any) -> bool:
    """Whether the derivative of `prim`, which JAX defines, is mathematics that no rule says."""
    return is_of_jax(prim) and type(prim).__name__ in _OWN


def checkpointed(prim: Any) -> tuple[Any, Any] | None:
    """The closed jaxpr and the policy of a function under `jax.checkpoint`; None for others."""
    if not is_of_jax(prim, "RematTraced"):
        return None
    return without_hi_values(prim.jaxpr), prim.policy


def named(eqn: Any) -> tuple[Any, dict[str, str]] | None:
    """The primitive and parameters of a name (`checkpoint_name`) as policies know it."""
    prim = eqn.params.get("_prim")
    return (name_p, {"name": prim.name}) if is_of_jax(prim, "CheckpointName") else None


def optimizes_remat(prim: Any) -> bool:
    """Whether a user's function was given its rule with `optimize_remat=True`."""
    if isinstance(prim, OnArrays):
        return optimizes_remat(prim.prim)
    return type(prim).__name__ == "CustomVJPTraced" and bool(prim.opt_remat)
