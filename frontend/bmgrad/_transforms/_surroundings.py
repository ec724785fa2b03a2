"""What a function is made with besides its arguments, to tell whether that has changed.

In: a function. Out: :class:`Surroundings`, what it closes over and finds in its module and its
object, a level at a time. A transform made anew of the function, as `bm.grad(self.loss)` at each
step of a training, sees what was assigned there since the last one. Array objects do not count:
their values are inputs of programs.
"""

from __future__ import annotations

import functools
import itertools
import types
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from bmgrad._array import Array
from bmgrad.runtime import _jax_internals as internals

# How many values are looked at, and how large arrays of NumPy are read: the rest is taken to stay.
_MOST_VALUES = 500
_MOST_BYTES = 1 << 16

_OTHER_NUMBERS = (float, complex, np.generic)
_PLAIN = (int, str, bytes, *_OTHER_NUMBERS)
_CONTAINERS = (list, tuple, set, frozenset, deque)
# Of packages whose functions and objects are not looked into.
_CLOSED = frozenset({"builtins", "bmgrad", "jax", "jaxlib", "numpy", "scipy", "functools"})


class Surroundings:
    """A snapshot of what is around a function. It keeps none of it alive."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._values = list(itertools.islice(_values(function), _MOST_VALUES))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Surroundings) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]


def arrays_around(function: Callable[..., Any]) -> dict[int, Any]:
    """The arrays and array objects that a snapshot would have, by their ids."""
    found = itertools.islice(_around(function), _MOST_VALUES)
    return {id(value): value for value in found if isinstance(value, (Array, jax.Array))}


def has_outlived_trace(array: Any) -> bool:
    """Whether an array or array object has a value after the trace in which it was made."""
    if isinstance(array, Array):
        array._value = internals.revived(array._value)
        array = array._value
    return not isinstance(internals.revived(array), jax.core.Tracer)


class _Same:
    """Equal where it is of the same object, which still lives."""

    def __init__(self, value: Any) -> None:
        self._value = weakref.ref(value)

    def __eq__(self, other: object) -> bool:
        value = self._value()
        return isinstance(other, _Same) and value is not None and value is other._value()

    __hash__ = None  # type: ignore[assignment]


def _values(function: Callable[..., Any]) -> Iterator[Any]:
    """What stands for each value around `function`."""
    for value in _around(function):
        if isinstance(value, int):
            yield type(value), value
        elif isinstance(value, _OTHER_NUMBERS):
            yield type(value), repr(value)  # 0.0 and -0.0 differ, NaN and NaN do not.
        elif value is None or isinstance(value, (str, bytes)):
            yield value
        else:
            yield _identity(value)
            if isinstance(value, np.ndarray) and value.nbytes <= _MOST_BYTES:
                yield zlib.crc32(value.tobytes())


def _around(function: Callable[..., Any]) -> Iterator[Any]:
    """The values around `function`, those nearest to it first."""
    package = _package(_innermost(function))
    todo: deque[Any] = deque([function])
    seen: set[int] = set()
    while todo:
        value = todo.popleft()
        if value is None or isinstance(value, _PLAIN):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            yield value
            todo += _held_by(value, package)


def _identity(value: Any) -> Any:
    if isinstance(value, (dict, *_CONTAINERS)):
        return type(value), len(value)
    if isinstance(value, types.MethodType):
        return type(value)  # It is made at each access.
    try:
        return _Same(value)
    except TypeError:  # It takes no weak references.
        return type(value)


def _held_by(value: Any, package: str) -> list[Any]:
    """What is looked at after `value`, because it is in it."""
    if isinstance(value, dict):
        return [*_first(value), *_first(value.values())]
    if isinstance(value, _CONTAINERS):
        return _first(value)
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        return _read_by(value) if _package(value) == package else []
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, (Array, jax.Array, np.ndarray, types.ModuleType, type)):
        return []
    # Of a package that is not looked into it may be another function that is compiled.
    if _package(type(value)) in _CLOSED:
        return [getattr(value, "__wrapped__", None)]
    return [getattr(value, "__dict__", None), *_in_slots(value)]


def _in_slots(value: Any) -> Iterator[Any]:
    for kind in type(value).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            yield getattr(value, name, None)


def _first(values: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(values, _MOST_VALUES))


def _read_by(function: types.FunctionType) -> list[Any]:
    names = _names_in(function.__code__)
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    known = [function.__globals__[name] for name in names if name in function.__globals__]
    return [function.__defaults__, function.__kwdefaults__, *cells, *known]


@functools.lru_cache(maxsize=512)
def _names_in(code: types.CodeType) -> tuple[str, ...]:
    inner = (x for x in code.co_consts if isinstance(x, types.CodeType))
    return (*code.co_names, *(name for one in inner for name in _names_in(one)))


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", None) or "").partition(".")[0]
