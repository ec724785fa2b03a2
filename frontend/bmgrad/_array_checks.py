"""What arrays refuse although ``jax.numpy`` lets it pass: indices out of bounds, values cut short.

In: an index and a shape; a dtype or a number. Out: an IndexError; a rank of kinds to compare.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np


def rank(dtype: Any) -> int:
    """bool < unsigned < signed < float < complex: writing to a lower kind loses something."""
    kinds = (np.bool_, np.unsignedinteger, np.signedinteger, jnp.floating, jnp.complexfloating)
    for number, kind in enumerate(kinds):
        if jnp.issubdtype(dtype, kind):
            return number
    return -1


def scalar_rank(value: complex) -> int:
    """The same for a Python number, which has a kind but no dtype."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return 1 if value >= 0 else 2
    return 3 if isinstance(value, float) else 4


def check_bounds(index: Any, shape: tuple[int, ...]) -> None:
    """Raise IndexError for an integer outside its axis: jax would clamp a read and drop a write."""
    items = index if isinstance(index, tuple) else (index,)
    axes = list(enumerate(shape))
    for number, item in enumerate(items):
        if item is Ellipsis:  # what follows counts from the last axis
            items = items[:number:-1]
            axes.reverse()
            break
        axes = _check_item(item, axes)
    else:
        return
    for item in items:
        axes = _check_item(item, axes)


def _check_item(item: Any, axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if item is None or isinstance(item, bool):  # these add an axis
        return axes
    if isinstance(item, (int, np.integer)):
        if axes and not -axes[0][1] <= item < axes[0][1]:
            axis, size = axes[0]
            raise IndexError(f"index {item} is out of bounds for axis {axis} with size {size}")
    elif getattr(item, "dtype", None) == np.bool_:
        return axes[item.ndim :]
    return axes[1:]
