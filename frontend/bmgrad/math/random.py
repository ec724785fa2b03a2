"""Random numbers: the methods of the global :class:`RandomState` ``DEFAULT`` as functions.

``DEFAULT`` is a variable: transforms thread it through a program as any other state, and
``bm.random.seed(n)`` makes runs repeat. Every function takes ``key=`` (a seed or a jax key) to
draw without touching ``DEFAULT``.

Example:
    >>> import bmgrad.math as bm
    >>> bm.random.seed(0)
    >>> x = bm.random.normal(2.0, 0.5, size=(2, 3))
    >>> bm.random.seed(0)
    >>> bool((x == bm.random.normal(2.0, 0.5, size=(2, 3))).all())
    True
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bmgrad._random import DEFAULT, DISTRIBUTIONS, RandomState

_METHODS = """
    categorical choice dirichlet multinomial multivariate_normal orthogonal permutation rand randint
    randn random random_integers random_sample ranf sample seed shuffle split_key split_keys
"""
_NAMES = [*_METHODS.split(), *DISTRIBUTIONS]

__all__ = [
    "DEFAULT",
    "Generator",
    "RandomState",
    "default_rng",
    *_NAMES,
]

Generator = RandomState


def default_rng(seed: Any = None) -> RandomState:
    """A stream of its own, from ``seed`` (an int or a key) or from fresh entropy."""
    return RandomState(seed)


def _function(name: str) -> Callable[..., Any]:
    method = getattr(RandomState, name)

    @functools.wraps(method)
    def function(*args: Any, **kwargs: Any) -> Any:
        return method(DEFAULT, *args, **kwargs)

    signature = inspect.signature(method)
    function.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=list(signature.parameters.values())[1:]
    )
    function.__module__, function.__qualname__ = __name__, name
    return function


for _name in _NAMES:
    globals()[_name] = _function(_name)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
