"""References to arrays that change (`jax.new_ref`): their avals, and effects on them."""

from collections.abc import Collection, Iterable
from typing import Any

from jax._src.state import types as state

from bmgrad.runtime._jax_internals._avals import ShapedArray, plain_aval
from bmgrad.runtime._jax_internals._lowering import ordered_effects


def referenced_aval(aval: Any) -> ShapedArray:
    """The aval of the values that references of `aval` hold."""
    return plain_aval(aval.inner_aval)


def keeps_gradients_out(aval: Any) -> bool:
    """Whether what is written to references of `aval` counts as constant."""
    return bool(aval.kind == "no_grad_no_remat")


def keeps_order(effects: Collection[Any]) -> bool:
    """Whether the order of some of the effects counts, as that of reads and writes does."""
    return any(isinstance(e, state.RefEffect) for e in effects) or bool(ordered_effects(effects))


def effects_on(operands: Iterable[int]) -> frozenset[Any]:
    """The effects of an operation that reads and changes the references among its operands."""
    return frozenset(e(i) for i in operands for e in (state.ReadEffect, state.WriteEffect))
