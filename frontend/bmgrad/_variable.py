"""Variables: the arrays that a node's ``vars()`` collects.

In: initial values or a shape. Out: objects whose kind says who may change them: an optimiser
changes a :class:`TrainVar`, the model itself any :class:`Variable`. Next: ``_containers.py``,
``_base.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._array import Array

if TYPE_CHECKING:
    from jax.typing import DTypeLike

__all__ = ["Parameter", "TrainVar", "Variable"]


class Variable(Array):
    """An array that belongs to the state of a node.

    Args:
        value_or_size: the initial values (an array, or nested lists); or an int or a *tuple* of
            ints, the shape of a variable of zeros.
        dtype: the element type; by default that of the values, float32 for zeros.

    A variable keeps its shape and dtype for life: writes that would change them raise, as
    :class:`~bmgrad.math.Array` says. Transforms find the variables that a function reads and
    writes, and write new values back after the call.

    Example:
        >>> import bmgrad.math as bm
        >>> v = bm.Variable(bm.zeros(3))
        >>> v.value = bm.ones(3)
        >>> v
        Variable([1., 1., 1.], dtype=float32)
        >>> bm.Variable((2, 3)).shape
        (2, 3)
    """

    __slots__ = ()

    def __init__(self, value_or_size: Any, dtype: DTypeLike | None = None) -> None:
        if _is_shape(value_or_size):
            value_or_size = jnp.zeros(value_or_size, dtype=dtype)
        super().__init__(value_or_size, dtype)
        if getattr(self._value, "weak_type", False):
            # The state of a program has one type from the first call on.
            self._value = jax.lax.convert_element_type(self._value, self._value.dtype)


class TrainVar(Variable):
    """A variable that training changes: ``train_vars()`` of a node collects it.

    Arguments and errors are those of :class:`Variable`.

    Example:
        >>> import bmgrad.math as bm
        >>> bm.TrainVar(bm.ones(2))
        TrainVar([1., 1.], dtype=float32)
    """

    __slots__ = ()


class Parameter(Variable):
    """A variable that neither training nor the model changes by itself, but a user may.

    Arguments and errors are those of :class:`Variable`.

    Example:
        >>> import bmgrad.math as bm
        >>> bm.Parameter([20.0])
        Parameter([20.], dtype=float32)
    """

    __slots__ = ()


def _is_shape(value: Any) -> bool:
    # A list is data: Variable([1, 2, 3]) must not become an array of zeros of shape (1, 2, 3).
    sizes = value if isinstance(value, tuple) else (value,)
    return all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in sizes)
