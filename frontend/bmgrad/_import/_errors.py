"""What an import that cannot be done raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from bmgrad.runtime._errors import ReverseModeError, UnsupportedError
from bmgrad.runtime._jax_internals import is_marked_asked

__all__ = ["Unsupported", "UnsupportedError"]


class Unsupported(Exception):
    """Raised by rules: the reason only. The importer adds primitive and location."""


class RuleRaised(Exception):
    """A derivative rule of the user raised `error` when it was traced."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class ValuesAsked(TypeError):
    """Python code asked for values that tracing does not have, and went on without them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} asks for values, and catches the error that there are none")


# What JAX raises where Python asks a tracer for its value: `if x > 0`, `int(n)`, `array[n]`.
VALUE_ERRORS = (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError)

# The types of errors that may say so; JAX's and ours are of these too.
MAY_ASK_FOR_VALUES = (TypeError, LookupError, ValueError, AttributeError, OverflowError)


def asks_for_values(error: Exception) -> bool:
    """Whether `error` says that Python needs a value which tracing does not have."""
    if isinstance(
        error,
        (*VALUE_ERRORS, ValuesAsked, ReverseModeError, jax.errors.NonConcreteBooleanIndexError),
    ):
        return True
    if is_marked_asked(error):
        return True  # It was raised in the place of one that was caught.
    text = str(error)
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return "nondiff_argnums" in text
    # What `jax.grad` inside says of a loop; ours is a ReverseModeError.
    if isinstance(error, ValueError) and "dynamic start/stop values" in text:
        return True
    # Python's and JAX's errors of what a tracer is not name it, as do those of a key or name that
    # a tracer was made a part of.
    is_of_tracer = any(x in text for x in ("Tracer", "traced array", "parameters to jaxpr equat"))
    return isinstance(error, MAY_ASK_FOR_VALUES) and is_of_tracer


def cannot_compare_trees(error: Exception) -> bool:
    """Whether JAX says that aux data of pytrees have no truth value: arrays are compared there."""
    return isinstance(error, ValueError) and "equality of metadata fields" in str(error)


def asks_in_a_rule(error: Exception) -> bool:
    """Whether `error`, of a backward rule, says so; such a rule may be written in NumPy too."""
    if isinstance(error, ReverseModeError):
        return False
    return isinstance(error, jax.errors.TracerArrayConversionError) or asks_for_values(error)


# A value is needed that tracing does not have: no matter which derivative is wanted.
_OF_TRACING = (
    *VALUE_ERRORS,
    jax.errors.TracerArrayConversionError,
    jax.errors.UnexpectedTracerError,
)


_OF_64_BITS = frozenset(map(np.dtype, ("int64", "uint64", "float64", "complex128")))


@contextlib.contextmanager
def asking_a_rule(avals: Iterable[Any] = ()) -> Iterator[None]:
    """Raises `RuleRaised` where the user's rule raises.

    Of a function of `avals`, which may have been called under `jax.enable_x64`.
    """
    has_wide = any(getattr(aval, "dtype", None) in _OF_64_BITS for aval in avals)
    try:
        with jax.enable_x64(True) if has_wide else contextlib.nullcontext():
            yield
    except _OF_TRACING:
        raise
    except Exception as error:
        raise RuleRaised(error) from None
