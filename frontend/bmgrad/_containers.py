"""Lists and dictionaries of variables and nodes that a node can hold as one attribute.

In: variables (:class:`VarList`, :class:`VarDict`) or nodes (``NodeList``, ``NodeDict`` in
``_base.py``). Out: a list or dict that refuses anything else, and that tells compiled programs
when what it holds changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any, TypeVar

from bmgrad._tracing_state import note_rebind
from bmgrad._variable import Variable

__all__ = ["CheckedDict", "CheckedList", "VarDict", "VarList"]

T = TypeVar("T")

if TYPE_CHECKING:

    class _List(list[T]): ...

    class _Dict(dict[str, T]): ...

else:
    # The abstract classes come first: their append, extend, pop, update, ... all end in the few
    # methods that are defined below, where list's and dict's own would pass them by.

    class _List(MutableSequence[T], list): ...

    class _Dict(MutableMapping[str, T], dict): ...


class CheckedList(_List[T]):
    """A list whose items are checked on the way in."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        list.__init__(self)
        self.extend(items)

    def _check(self, item: T) -> T:
        """What may not be in this kind of list raises TypeError here."""
        return item

    def __getitem__(self, index: Any) -> Any:
        found = list.__getitem__(self, index)
        return type(self)(found) if isinstance(index, slice) else found

    def __setitem__(self, index: Any, item: Any) -> None:
        if isinstance(index, slice):
            item = [self._check(i) for i in item]
        elif self[index] is self._check(item):  # what ``l[i] += 1`` ends with
            return
        note_rebind(self)
        list.__setitem__(self, index, item)

    def __delitem__(self, index: Any) -> None:
        note_rebind(self)
        list.__delitem__(self, index)

    def __len__(self) -> int:
        return list.__len__(self)

    def __iter__(self) -> Iterator[T]:
        return list.__iter__(self)

    def insert(self, index: Any, value: T) -> None:
        """Put ``value`` before position ``index``."""
        checked = self._check(value)
        note_rebind(self)
        list.insert(self, index, checked)

    def __contains__(self, item: object) -> bool:
        # By identity: arrays compare elementwise.
        return any(own is item for own in self)

    def index(self, value: Any, *range_: Any) -> int:
        """The position of this very object."""
        for position in range(*slice(*(range_ or (None,))).indices(len(self))):
            if self[position] is value:
                return position
        raise ValueError(f"{value!r} is not in the list")

    def sort(self, **options: Any) -> None:
        """Sort by ``key=``, as ``list.sort`` does."""
        self[:] = sorted(self, **options)

    def copy(self) -> Any:
        """A new list of the same kind with the same objects."""
        return type(self)(self)

    def __add__(self, other: Iterable[T]) -> Any:  # type: ignore[override]
        return type(self)([*self, *other])

    def __radd__(self, other: Iterable[T]) -> Any:
        return type(self)([*other, *self])

    def __mul__(self, times: int) -> Any:  # type: ignore[override]
        return type(self)(list(self) * times)

    __rmul__ = __mul__  # type: ignore[assignment]

    def __imul__(self, times: int) -> Any:  # type: ignore[override]
        self[:] = list(self) * times
        return self


class CheckedDict(_Dict[T]):
    """A dictionary with string keys whose values are checked on the way in."""

    def __init__(self, *args: Any, **kwargs: T) -> None:
        dict.__init__(self)
        self.update(*args, **kwargs)

    def _check(self, item: T) -> T:
        """What may not be in this kind of dictionary raises TypeError here."""
        return item

    def __getitem__(self, key: str) -> T:
        return dict.__getitem__(self, key)

    def __setitem__(self, key: str, item: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"keys become parts of names and must be strings, not {key!r}")
        if self.get(key) is self._check(item):  # what ``d[key] += 1`` ends with
            return
        note_rebind(self)
        dict.__setitem__(self, key, item)

    def __delitem__(self, key: str) -> None:
        note_rebind(self)
        dict.__delitem__(self, key)

    def __len__(self) -> int:
        return dict.__len__(self)

    def __iter__(self) -> Iterator[str]:
        return dict.__iter__(self)

    def __or__(self, other: Mapping[str, T]) -> Any:  # type: ignore[override]
        return type(self)({**self, **other})

    def __ior__(self, other: Mapping[str, T]) -> Any:  # type: ignore[override]
        self.update(other)
        return self

    def copy(self) -> Any:
        """A new dictionary of the same kind with the same objects."""
        return type(self)(self)


def _check_variable(item: Any) -> Variable:
    if not isinstance(item, Variable):
        raise TypeError(f"a list or dict of variables cannot hold a {type(item).__name__}")
    return item


class VarList(CheckedList[Variable]):
    """A list of variables that ``vars()`` of the node which holds it collects, as ``'F0.ws-0'``,
    ....

    ``l[i] = v`` gives the variable at ``i`` the value ``v``, unless ``v`` is itself a Variable.

    Raises:
        TypeError: an item is not a Variable.

    Example:
        >>> import bmgrad.math as bm
        >>> l = bm.VarList(bm.TrainVar(bm.zeros(n)) for n in (1, 2))
        >>> l[1] = bm.ones(2)
        >>> l[1]
        TrainVar([1., 1.], dtype=float32)
    """

    def _check(self, item: Variable) -> Variable:
        return _check_variable(item)

    def __setitem__(self, index: Any, item: Any) -> None:
        if isinstance(index, slice) or isinstance(item, Variable):
            super().__setitem__(index, item)
        else:
            self[index].value = item


class VarDict(CheckedDict[Variable]):
    """A dictionary of variables that ``vars()`` of the node which holds it collects, as
    ``'F0.ws-key'``.

    ``d[key] = v`` gives the variable at ``key`` the value ``v``, unless ``v`` is itself a Variable.

    Raises:
        TypeError: a value is not a Variable, or a key not a string.

    Example:
        >>> import bmgrad.math as bm
        >>> d = bm.VarDict(w=bm.TrainVar(bm.zeros(2)))
        >>> d["w"] = bm.ones(2)
        >>> d["w"]
        TrainVar([1., 1.], dtype=float32)
    """

    def _check(self, item: Variable) -> Variable:
        return _check_variable(item)

    def __setitem__(self, key: str, item: Any) -> None:
        if key in self and not isinstance(item, Variable):
            self[key].value = item
        else:
            super().__setitem__(key, item)
