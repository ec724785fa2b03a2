"""What an import that cannot be done raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from bmgrad.runtime._errors import UnsupportedError

__all__ = ["Unsupported", "UnsupportedError"]


class Unsupported(Exception):
    """Raised by rules: the reason only. The importer adds primitive and location."""


class TooDeep(Unsupported):
    """A derivative rule lies deeper in other rules than the importer follows them."""


class RuleRaised(Exception):
    """A derivative rule of the user raised `error` when it was traced."""

    def __init__(self, error: Exception) -> None:
        self.error = error


# A value is needed that tracing does not have: no matter which derivative is wanted.
_OF_TRACING = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


@contextlib.contextmanager
def asking_a_rule() -> Iterator[None]:
    """Raises `RuleRaised` where the user's rule raises."""
    try:
        yield
    except _OF_TRACING:
        raise
    except Exception as error:
        raise RuleRaised(error) from None
