"""What values of types that users define (hijax) lower to, whether or not the type says so.

Types say it to cross `jax.jit` and loops. One whose values only go from operation to operation need
not, for JAX passes objects there. It is what the attributes of an object hold then, and known once
there has been one.
"""

import dataclasses
from typing import Any

import jax
from jax.experimental import hijax

from bmgrad.runtime._errors import UnsupportedError


@dataclasses.dataclass(frozen=True)
class _ByAttributes:
    """What says in the place of a type how its values lower, which are objects of `cls`."""

    cls: type
    tree: Any
    avals: tuple[Any, ...]

    def lo_ty(self) -> tuple[Any, ...]:
        return self.avals

    def lower_val(self, value: Any) -> list[Any]:
        return jax.tree.leaves(vars(value))

    def raise_val(self, *lowered: Any) -> Any:
        value: Any = object.__new__(self.cls)
        vars(value).update(jax.tree.unflatten(self.tree, lowered))
        return value


_seen: dict[Any, _ByAttributes] = {}


def says_lowering(ty: Any) -> bool:
    """Whether `ty` says what its values lower to, or there has been one."""
    return type(ty).lo_ty is not hijax.HiType.lo_ty or ty in _seen


def lowering(ty: Any, value: Any = None) -> Any:
    """What says how values of `ty` lower: the type, or else what is known from `value`."""
    if value is not None and not says_lowering(ty):
        leaves, tree = jax.tree.flatten(vars(value))
        _seen[ty] = _ByAttributes(type(value), tree, tuple(map(jax.typeof, leaves)))
    if not says_lowering(ty):
        raise UnsupportedError(
            f"the type {ty.str_short()} does not say what its values lower to (lo_ty, lower_val, "
            "raise_val), which it must where they cross functions, loops or branches"
        )
    return _seen.get(ty, ty)
