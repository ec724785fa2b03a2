"""What a function is made with besides its arguments, to tell whether that has changed.

In: a function. Out: :class:`Surroundings`, what it closes over and finds in its module and its
object, a level at a time. A transform made anew of the function, as `bm.grad(self.loss)` at each
step of a training, sees what was assigned there since the last one. Likewise :class:`Content`, of
objects that a function is given. Array objects do not count: their values are inputs of programs.
No code of the user runs: what a class says of its objects (`__class__`, `__iter__`, `__eq__`,
properties) may raise, or load what nobody has asked for.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import gc
import itertools
import pathlib
import sys
import threading
import types
import weakref
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from bmgrad._array import Array
from bmgrad.runtime import _jax_internals as internals

# How many values are looked at, how many functions and classes among them, and how large arrays of
# NumPy are read: the rest is taken to stay.
_MOST_VALUES = 1000
_MOST_CODE = 100
_MOST_BYTES = 1 << 16
_MOST_KINDS = 1000

# By base type what is compared of a plain value: 0.0 and -0.0 differ, NaN and NaN do not.
_PLAIN: dict[type, Callable[[Any], Any]] = {
    type(None): bool,
    int: int.__int__,
    float: float.__repr__,
    complex: complex.__repr__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    np.generic: np.generic.tobytes,
    range: range.__repr__,
}
_ARRAYS = (Array, jax.Array, jax.core.Tracer)
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CODE = (types.FunctionType, type)
_OF_C = (types.MemberDescriptorType, types.GetSetDescriptorType)
# Objects of these packages are not looked into, but for what they wrap. Loggers know each other.
_CLOSED = frozenset(
    {"builtins", "bmgrad", "jax", "jaxlib", "numpy", "scipy", "functools", "logging"}
)


class _Snapshot:
    """What stands for some values and what is around them. It keeps hardly any of it alive."""

    def __init__(self, values: Iterable[Any], package: str | None) -> None:
        found = _standing_for(values, package)
        self._values = list(itertools.islice(found, _MOST_VALUES))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]


class Surroundings(_Snapshot):
    """What is around a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__([function], _package_of(function))


class Content(_Snapshot):
    """What is in `values`, of functions and classes their data. With equal content they are equal.

    What code finds in modules is around it, not in it.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        super().__init__(values, None)


def is_plain(value: Any) -> bool:
    """Whether there is nothing in `value` that may change."""
    return _kind_of(type(value)).is_plain


class ArraysAround:
    """The arrays and array objects that a snapshot would have. It keeps no array object alive."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._references = {id(x): _reference(x) for x in _arrays_around(function)}

    def new(self, function: Callable[..., Any]) -> list[Any]:
        """Those that were not around the function then and are now."""
        return [x for x in _arrays_around(function) if not self._has(x)]

    def _has(self, array: Any) -> bool:
        reference = self._references.get(id(array))
        return reference is not None and reference() is array


def _arrays_around(function: Callable[..., Any]) -> list[Any]:
    found = itertools.islice(_around([function], _package_of(function)), _MOST_VALUES)
    return [value for value, _ in found if issubclass(type(value), _ARRAYS)]


def _reference(array: Any) -> Callable[[], Any]:
    return weakref.ref(array) if isinstance(array, Array) else lambda: array


def has_outlived_trace(array: Any) -> bool:
    """Whether an array or array object has a value after the trace in which it was made."""
    if isinstance(array, Array):
        array._value = internals.revived(array._value)
        array = array._value
    return not isinstance(internals.revived(array), jax.core.Tracer)


class _Kept:
    """Equal where it is of the same object, which it keeps alive, or the same number or date."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Kept):
            return False
        value, others = self._value, other._value
        if value is others or type(value) is not type(others):
            return value is others
        # What is written in C is no code of the user. Equal numbers may differ in their sign.
        is_of_c = _is_of_c(type(value), "__eq__") and _is_of_c(type(value), "__repr__")
        return is_of_c and bool(value == others) and repr(value) == repr(others)

    __hash__ = None  # type: ignore[assignment]


class _Same:
    """Equal where it is of the same object, which still lives."""

    def __init__(self, value: Any) -> None:
        self._value = weakref.ref(value)

    def __eq__(self, other: object) -> bool:
        value = self._value()
        return isinstance(other, _Same) and value is not None and value is other._value()

    __hash__ = None  # type: ignore[assignment]


def _standing_for(values: Iterable[Any], package: str | None) -> Iterator[Any]:
    """What stands for each value in or around `values`: in them if there is no `package`."""
    for value, kind in _around(values, package):
        is_read = kind.is_numpy and np.ndarray.nbytes.__get__(value) <= _MOST_BYTES
        is_equal = package is None and (is_read or kind.is_object)
        yield type(value) if is_equal else kind.stands(value)
        if is_read:
            yield np.ndarray.shape.__get__(value), str(np.ndarray.dtype.__get__(value))
            yield zlib.crc32(np.ndarray.tobytes(value))


def _around(values: Iterable[Any], package: str | None) -> Iterator[tuple[Any, _Kind]]:
    """The values in and around `values` and their kinds, the nearest first.

    Data come before code, which there is more of.
    """
    todo, code, num_code = deque(values), deque[Any](), 0
    seen: set[int] = set()
    kinds: dict[type, _Kind] = {}  # Types are compared by identity here, whatever they say.
    while todo or code:
        value = (todo or code).popleft()
        cls = type(value)
        kind = kinds.get(cls) if type(cls) is type else _kind_of(cls)
        if kind is None:
            kind = kinds[cls] = _kind_of(cls)
        if kind.is_plain:
            yield value, kind
        elif id(value) not in seen:
            seen.add(id(value))
            yield value, kind
            for x in kind.held(value, package):
                if not issubclass(type(x), _CODE):
                    todo.append(x)
                elif num_code < _MOST_CODE and id(x) not in seen:
                    num_code += 1
                    code.append(x)


def _nothing(value: Any, package: str | None) -> Iterable[Any]:
    return ()


def _first(values: Iterable[Any]) -> list[Any]:
    return list(itertools.islice(values, _MOST_VALUES))


def _names_of(base: type[dict[Any, Any]], value: Any) -> tuple[Any, ...] | None:
    """The keys of a dict, in its order, if they are plain strings."""
    keys = tuple(_first(base.keys(value)))
    return keys if set(map(type, keys)) <= {str} else None


def _in_dict(base: type[dict[Any, Any]], value: Any) -> list[Any]:
    """The values, and the keys where they do not stand for the dict."""
    keys = _first(base.keys(value)) if _names_of(base, value) is None else []
    return [*keys, *_first(base.values(value))]


# By base type what is in a container.
_CONTAINERS: dict[type[Collection[Any]], Callable[[Any], list[Any]]] = {
    list: lambda value: _first(list.__iter__(value)),
    tuple: lambda value: _first(tuple.__iter__(value)),
    # Of another order than the dict that it is.
    OrderedDict: lambda value: _in_dict(OrderedDict, value),
    dict: lambda value: _in_dict(dict, value),
    set: lambda value: _first(set.__iter__(value)),
    frozenset: lambda value: _first(frozenset.__iter__(value)),
    deque: lambda value: _first(deque.__iter__(value)),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What is looked at of the values of one type, which it does not keep alive.

    Attributes:
      stands: from a value to what is compared of it.
      held: from a value, and the package of the function if there is one, to what is looked at
        after it.
      is_object: whether that is all that there is to it but its identity.
    """

    stands: Callable[[Any], Any]
    held: Callable[[Any, str | None], Iterable[Any]] = _nothing
    is_plain: bool = False
    is_numpy: bool = False
    is_object: bool = False


_kinds: dict[int, tuple[weakref.ref[type], _Kind]] = {}


def _kind_of(cls: type) -> _Kind:
    # By identity: how a type is compared and hashed its metaclass says.
    known = _kinds.get(id(cls))
    if known is None or known[0]() is not cls:
        if len(_kinds) >= _MOST_KINDS:
            _kinds.clear()
        known = _kinds[id(cls)] = weakref.ref(cls), _new_kind(cls)
    return known[1]


# By base type what an object of Python or JAX is made with. Whatever else is of a package in
# `_CLOSED` may be another function that is compiled.
_MADE_WITH: dict[Any, Callable[[Any], Iterable[Any]]] = {
    types.MethodType: lambda value: (value.__func__, value.__self__),
    functools.partial: lambda value: (value.func, value.args, value.keywords, vars(value)),
    functools.cached_property: lambda value: (value.func,),
    property: lambda value: (value.fget,),
    (classmethod, staticmethod): lambda value: (value.__func__,),
    slice: lambda value: (value.start, value.stop, value.step),
    threading.local: lambda value: (threading.local.__getattribute__(value, "__dict__"),),
    (jax.custom_jvp, jax.custom_vjp): lambda value: vars(value).values(),
}


def _new_kind(cls: type) -> _Kind:
    for base, compared in _PLAIN.items():
        if issubclass(cls, base):
            return _Kind(_with_type(compared), is_plain=True)
    if issubclass(cls, types.FunctionType):
        return _Kind(_identity, _in_function)
    if issubclass(cls, type):
        return _Kind(_identity, _in_class)
    if issubclass(cls, (*_ARRAYS, np.ndarray, types.ModuleType)):
        return _Kind(_identity, is_numpy=issubclass(cls, np.ndarray))
    for some, made_with in _MADE_WITH.items():
        if issubclass(cls, some):
            # Methods are made at each access.
            stands = type if some is types.MethodType else _identity
            return _Kind(stands, functools.partial(_made_with, made_with))
    places = list(_places(cls))
    for container, in_it in _CONTAINERS.items():
        if issubclass(cls, container):
            held = functools.partial(_in_container, in_it, places)
            stands_for: Callable[[Any], Any] = container.__len__
            if issubclass(container, dict):
                stands_for = functools.partial(_names_of, container)
            return _Kind(_with_type(stands_for), held)
    if not places and not cls.__weakrefoffset__:
        return _Kind(_identity, lambda value, _: _first(gc.get_referents(value)))
    if _package(cls) in _CLOSED:
        return _Kind(_identity, lambda value, _: (getattr(value, "__wrapped__", None),))
    held = functools.partial(_in_object, places)
    return _Kind(_identity, held, is_object=bool(places))


def _is_of_c(cls: type, name: str) -> bool:
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    return type(found) is types.WrapperDescriptorType


def _with_type(compared: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: (type(value), compared(value))


def _identity(value: Any) -> Any:
    try:
        return _Same(value)
    except TypeError:  # It takes no weak references. What holds no objects can be kept.
        return type(value) if gc.is_tracked(value) else _Kept(value)


def _in_function(value: Any, package: str | None) -> Iterable[Any]:
    if not _is_open(_package(value), package):
        return ()
    return _held_by(value) if package is None else [*_held_by(value), *_read_by(value)]


def _made_with(
    made_with: Callable[[Any], Iterable[Any]], value: Any, _: str | None
) -> Iterable[Any]:
    return made_with(value)


def _in_container(
    in_it: Callable[[Any], list[Any]], places: Sequence[tuple[int, str]], value: Any, _: str | None
) -> Iterable[Any]:
    return [*in_it(value), *_in(value, places)]


def _in_object(places: Sequence[tuple[int, str]], value: Any, _: str | None) -> Iterable[Any]:
    return [*_in(value, places), type(value)]


def _in_class(value: Any, package: str | None) -> Iterable[Any]:
    if not _is_open(_package(value), package):
        return ()
    left_out = _OF_C if package is not None else (*_OF_C, types.FunctionType)
    members = (x for x in vars(value).values() if type(x) not in left_out)
    return [*_first(members), *value.__bases__]


def _places(cls: type) -> Iterator[tuple[int, str]]:
    """In which base, and by which name, objects have their dict and what is in slots.

    A property of a subclass may have that name.
    """
    for position, base in enumerate(cls.__mro__):
        members = vars(base)
        if type(members.get("__dict__")) in _OF_C:
            yield position, "__dict__"
        if "__slots__" in members:
            slots = (name for name, x in members.items() if type(x) in _OF_C[:1])
            yield from ((position, name) for name in slots)


def _in(value: Any, places: Sequence[tuple[int, str]]) -> list[Any]:
    return [_in_place(value, *place) for place in places]


def _in_place(value: Any, position: int, name: str) -> Any:
    try:
        return vars(type(value).__mro__[position])[name].__get__(value)
    except AttributeError:  # Not assigned yet.
        return None


def _closed_over(function: types.FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]


def _held_by(function: types.FunctionType) -> list[Any]:
    own = function.__defaults__, function.__kwdefaults__, vars(function)
    return [*own, *_closed_over(function)]


def _read_by(function: types.FunctionType) -> list[Any]:
    names, attributes = _names_in(function.__code__)
    known = [function.__globals__[name] for name in names if name in function.__globals__]
    known += [x for x in _closed_over(function) if issubclass(type(x), types.ModuleType)]
    _add_attributes(known, attributes)
    return known


def _add_attributes(known: list[Any], names: Sequence[str]) -> None:
    """Adds to `known` what has these names in modules among it, as `settings.rate`."""
    met: set[int] = set()
    for value in known:  # Which grows.
        if not issubclass(type(value), types.ModuleType) or id(value) in met:
            continue
        met.add(id(value))  # Modules may have each other as attributes.
        attributes = types.ModuleType.__getattribute__(value, "__dict__")
        if _is_open(_top(attributes.get("__name__"))):
            known += [attributes[name] for name in names if name in attributes]


@functools.lru_cache(maxsize=1024)
def _names_in(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The globals that code reads, and the attributes."""
    names: dict[str, None] = {}
    attributes: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names[instruction.argval] = None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes[instruction.argval] = None
        elif isinstance(instruction.argval, types.CodeType):
            inner = _names_in(instruction.argval)
            names.update(dict.fromkeys(inner[0]))
            attributes.update(dict.fromkeys(inner[1]))
    return tuple(names), tuple(attributes)


def _package_of(function: Any) -> str:
    """That of the function inside: what wraps one may be an object, which says whose it is."""
    while issubclass(type(function), functools.partial):
        function = function.func
    if issubclass(type(function), (types.FunctionType, types.MethodType)):
        return _package(function)
    attributes = _in(function, list(_places(type(function))))
    said = (dict.get(x, "__module__") for x in attributes if type(x) is dict)
    return next((_top(name) for name in said if name), _package(type(function)))


def _package(value: Any) -> str:
    """The package of a function or a type."""
    return _top(value.__module__)


def _top(module: Any) -> str:
    return str(module or "").partition(".")[0]


def _is_open(package: str, of_function: str | None = None) -> bool:
    """Whether its functions, classes and modules are looked into: the user may assign there."""
    return package == of_function or not _is_installed(package)


def _is_installed(package: str) -> bool:
    """Whether a package is one of Python's or was installed: it is not what a user works on."""
    if package in _CLOSED or package in sys.stdlib_module_names:
        return True
    module = sys.modules.get(package)
    if not issubclass(type(module), types.ModuleType):
        return True
    attributes = types.ModuleType.__getattribute__(module, "__dict__")
    path = attributes.get("__file__") or next(iter(attributes.get("__path__") or ()), "")
    return _is_of_installed(str(path))


@functools.lru_cache(maxsize=1024)
def _is_of_installed(path: str) -> bool:
    return not _INSTALLED.isdisjoint(pathlib.PurePath(path).parts)
