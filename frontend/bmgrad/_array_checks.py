"""What arrays refuse: indices out of bounds and values cut short, which ``jax.numpy`` lets pass,
what is no array, and values of traces that are over.

In: an index and a shape; a dtype or a number; a value. Out: errors; a rank of kinds to compare.
"""

import reprlib
from typing import Any

import jax
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


def note_left_behind(array: Any, why: str) -> None:
    """Says why an array keeps the value that it has, of a trace, after that: and how to mend it."""
    if _why_left_behind(array) is None:
        array._left_behind = array._value, why


def _why_left_behind(array: Any) -> str | None:
    value, why = getattr(array, "_left_behind", (None, None))
    return why if value is array._value else None


def left_behind(reader: str, array: Any) -> Exception:
    """What is raised where ``reader`` reads an array whose value JAX knows nothing of any more."""
    why = _why_left_behind(array) or (
        "it was assigned in a function under jax.jit, jax.vmap or jax.grad, from which no value "
        "can leave. Assign it under bm.jit, bm.vmap or bm.grad"
    )
    return jax.errors.UnexpectedTracerError(
        f"{reader} reads a variable, {array._label()}, that holds a value of a trace of JAX: "
        f"{why}, and give it a value before it is used again{array._how_to_mend}"
    )


def no_array(error: Exception, label: str, value: Any) -> Exception:
    """``error``, that JAX makes no array of ``value``, for who assigns it."""
    kind = next((kind for kind in (TypeError, ValueError) if type(error) is kind), None)
    return (
        error if kind is None else kind(f"{label} cannot be given {reprlib.repr(value)}: {error}")
    )
