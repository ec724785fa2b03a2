"""Collectors: what ``vars()`` and ``nodes()`` return.

In: named objects. Out: a dictionary that refuses to give one name to two objects, with the few set
operations that optimisers and transforms need. Next: ``_base.py``, which fills them.
"""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import jax
from jax.tree_util import DictKey, register_pytree_with_keys

from bmgrad._array import Array

__all__ = ["ArrayCollector", "Collector", "TensorCollector"]

V = TypeVar("V")


def _register(cls: type[Collector[Any]]) -> None:
    """Make ``cls`` a pytree of its values."""

    def flatten_with_keys(c: Collector[Any]) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        return [(DictKey(key), value) for key, value in c.items()], tuple(c)

    def flatten(c: Collector[Any]) -> tuple[list[Any], tuple[str, ...]]:
        return list(c.values()), tuple(c)

    def unflatten(keys: tuple[str, ...], values: Iterable[Any]) -> Collector[Any]:
        return cls._of(dict(zip(keys, values, strict=True)))

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


class Collector(dict[str, V]):
    """A dictionary from names to objects in which no name changes its object by accident.

    ``a + b`` merges, ``a - b`` removes what ``b`` has (a mapping, or a sequence of names),
    ``subset`` keeps the instances of a class, ``unique`` the first name of each object,
    ``replace`` binds a name anew. A collector is a jax pytree of its values.

    Raises:
        ValueError: a name would stand for two objects, or a name to be removed is missing.
        TypeError: what is added is not a mapping or a sequence.

    Example:
        >>> import bmgrad as bp
        >>> c = bp.Collector(a=1) + {"b": 2.0}
        >>> c.subset(float)
        {'b': 2.0}
        >>> c + {"a": 3}
        Traceback (most recent call last):
        ...
        ValueError: the name 'a' stands for two objects: 1 and 3. Use replace() to bind it anew.
    """

    def __init__(self, other: Any = (), /, **named: V) -> None:
        super().__init__()
        # A sequence holds pairs here, as for dict(); update() is the one that numbers unnamed
        # objects.
        self.update(dict(other), **named)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    def _check(self, key: str, value: V) -> None:
        """What may not be in this kind of collector raises here."""

    def __setitem__(self, key: str, value: V) -> None:
        self._check(key, value)
        if key in self and self[key] is not value:
            raise ValueError(
                f"the name '{key}' stands for two objects: {self[key]!r} and {value!r}. "
                "Use replace() to bind it anew."
            )
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: V) -> V:
        """The object called ``key``, which becomes ``default`` if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def replace(self, key: str, new_value: V) -> None:
        """Bind the existing name ``key`` to ``new_value``."""
        if key not in self:
            raise KeyError(f"there is no '{key}' to replace; the names are {_names(self)}")
        self._check(key, new_value)
        super().__setitem__(key, new_value)

    def update(self, other: Any = (), /, **named: V) -> None:
        """Add the items of a mapping, or the objects of a sequence as ``_var0``, ...."""
        if isinstance(other, Mapping):
            items = dict(other)
        elif isinstance(other, Sequence) and not isinstance(other, str):
            start = len(self)
            items = {f"_var{start + i}": value for i, value in enumerate(other)}
        else:
            raise TypeError(
                f"a collector takes a mapping or a sequence, not {type(other).__name__}"
            )
        for key, value in itertools.chain(items.items(), named.items()):
            self[key] = value

    def __add__(self, other: Mapping[str, V] | Sequence[V]) -> Self:
        result = self.copy()
        result.update(other)
        return result

    def __or__(self, other: Mapping[str, V]) -> Self:  # type: ignore[override]
        return self + other

    def __ior__(self, other: Mapping[str, V]) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    def __sub__(self, other: Mapping[str, V] | Iterable[str]) -> Self:
        result = self.copy()
        for key in other:
            if key not in result:
                raise ValueError(f"cannot remove '{key}': the names are {_names(self)}")
            if isinstance(other, Mapping) and other[key] is not result[key]:
                raise ValueError(
                    f"cannot remove '{key}': it stands for two objects: "
                    f"{result[key]!r} and {other[key]!r}"
                )
            del result[key]
        return result

    def copy(self) -> Self:
        """A new collector of the same objects."""
        return self._of(self)

    def subset(self, var_type: type | tuple[type, ...]) -> Self:
        """The items whose object is an instance of ``var_type``."""
        return self._of({k: v for k, v in self.items() if isinstance(v, var_type)})

    def unique(self) -> Self:
        """Each object once, under the first of its names."""
        seen: dict[int, str] = {}
        for key, value in self.items():
            seen.setdefault(id(value), key)
        return self._of({key: self[key] for key in seen.values()})

    @classmethod
    def _of(cls, items: Mapping[str, Any]) -> Self:
        """A collector of ``items`` unchecked: they come from a collector, or from a jax pytree."""
        result = cls.__new__(cls)
        dict.update(result, items)
        return result


class ArrayCollector(Collector[Array]):
    """A :class:`Collector` of arrays and variables, as ``vars()`` returns it.

    Raises:
        TypeError: an object that is not a ``bm.Array`` would be added.

    Example:
        >>> import bmgrad as bp, bmgrad.math as bm
        >>> c = bp.ArrayCollector(w=bm.TrainVar(bm.ones(2)), s=bm.Variable(bm.zeros(1)))
        >>> c.subset(bm.TrainVar)
        {'w': TrainVar([1., 1.], dtype=float32)}
        >>> c.assign({"w": bm.zeros(2), "s": bm.ones(1)})
        >>> c.dict()
        {'w': Array([0., 0.], dtype=float32), 's': Array([1.], dtype=float32)}
    """

    def _check(self, key: str, value: Array) -> None:
        if not isinstance(value, Array):
            raise TypeError(
                f"'{key}' must be a bm.Array or bm.Variable, not {type(value).__name__}"
            )

    def assign(self, inputs: Mapping[str, Any]) -> None:
        """Give every array the value of its name in ``inputs``, which must have the same names.

        Nothing is written when a name, a shape or a dtype does not fit.
        """
        if inputs.keys() != self.keys():
            missing, unknown = self.keys() - inputs.keys(), inputs.keys() - self.keys()
            raise ValueError(f"missing values: {_names(missing)}; unknown names: {_names(unknown)}")
        before = self.dict()
        try:
            for key, array in self.items():
                array.value = inputs[key]
        except (TypeError, ValueError):
            for key, array in self.items():
                array.value = before[key]
            raise

    def dict(self) -> builtins.dict[str, jax.Array]:
        """A plain dictionary of the values now."""
        return {key: array.value for key, array in self.items()}

    def data(self) -> list[jax.Array]:
        """The values now, in order."""
        return [array.value for array in self.values()]


TensorCollector = ArrayCollector


def _names(keys: Iterable[str]) -> str:
    return ", ".join(f"'{key}'" for key in sorted(keys)) or "none"


_register(Collector)
