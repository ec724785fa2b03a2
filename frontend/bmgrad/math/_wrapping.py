"""How functions of jax arrays become functions of ``bm.Array``.

In: a function of jax. Out: one that takes Arrays anywhere in its arguments and gives Arrays back
(jax arrays for results without axes), with jax's docstring and signature. Next: ``_functions.py``,
the names, which is a module of its own because numpy calls functions ``any``, ``round``,
``unwrap``, ....
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._array import Array, result, unwrap, wrap
from bmgrad._variable import Variable

if TYPE_CHECKING:
    from jax.typing import DTypeLike

__all__ = ["Indexed", "as_jax", "as_numpy", "as_variable", "export", "inplace", "wrapped"]


# What these make is there to be changed, so it is an Array also where it has no axes.
_CREATION = {"array", "asarray", "copy", "empty", "empty_like", "full", "full_like"}
_CREATION |= {"ones", "ones_like", "zeros", "zeros_like"}


def wrapped(function: Callable[..., Any], module: str) -> Callable[..., Any]:
    """``function`` of jax arrays as a function of Arrays."""
    box = wrap if function.__name__ in _CREATION else result

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            kwargs = {key: unwrap(value) for key, value in kwargs.items()}
        return box(function(*[unwrap(arg) for arg in args], **kwargs))

    wrapper.__module__ = module
    wrapper.__qualname__ = wrapper.__name__
    return wrapper


def export(names: str, source: Any, target: dict[str, Any], module: str) -> list[str]:
    """Put the functions ``names`` of jax's ``source`` into ``target``, the names in ``module``.

    A name that this version of jax does not have is left out (and a test of ours fails): the next
    version must not keep the package from being imported.
    """
    exported = [name for name in names.split() if hasattr(source, name)]
    for name in exported:
        target[name] = wrapped(getattr(source, name), module)
    return exported


def inplace(name: str) -> Callable[..., None]:
    """The function ``name`` of jax.numpy as one that changes the Array that comes first."""
    function = getattr(jnp, name)

    @functools.wraps(function)
    def wrapper(a: Array, /, *args: Any, **kwargs: Any) -> None:
        if not isinstance(a, Array):
            raise TypeError(f"{name} changes a bm.Array in place, not a {type(a).__name__}")
        args, kwargs = unwrap(args), unwrap(kwargs) | {"inplace": False}
        a.value = function(a.value, *args, **kwargs)

    wrapper.__module__ = "bmgrad.math"
    return wrapper


class Indexed:
    """``mgrid`` and its kin."""

    def __init__(self, name: str) -> None:
        self._source = getattr(jnp, name)
        self.__doc__ = self._source.__doc__

    def __getitem__(self, index: Any) -> Any:
        return wrap(self._source[unwrap(index)])


def as_jax(x: Any, dtype: DTypeLike | None = None) -> jax.Array:
    """``x`` (an Array, or anything that ``jax.numpy`` takes) as a ``jax.Array``."""
    return jnp.asarray(unwrap(x), dtype=dtype)


def as_numpy(x: Any, dtype: DTypeLike | None = None) -> np.ndarray[Any, Any]:
    """``x`` (an Array, or anything that numpy takes) as a ``numpy.ndarray``."""
    return np.asarray(unwrap(x), dtype=dtype)


def as_variable(x: Any, dtype: DTypeLike | None = None) -> Variable:
    """A new Variable with the values of ``x``."""
    return Variable(jnp.array(unwrap(x), dtype=dtype))
