"""What is kept for objects while they live, whatever they say that they are equal to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class ByIdentity(Generic[_T]):
    """A table whose keys are objects themselves: two that are equal have entries of their own."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], _T]] = {}

    def get(self, owner: Any, make: Callable[[], _T]) -> _T:
        """What is kept for `owner`, made now if there is nothing.

        Raises TypeError where it cannot be known whether `owner` still lives.
        """
        key = id(owner)
        found = self._entries.get(key)
        if found is None or found[0]() is not owner:

            def forget(dead: weakref.ref[Any]) -> None:
                # Another object may have taken the place since.
                if (entry := self._entries.get(key)) is not None and entry[0] is dead:
                    del self._entries[key]

            found = self._entries[key] = weakref.ref(owner, forget), make()
        return found[1]

    def __iter__(self) -> Iterator[_T]:
        return iter([kept for _, kept in list(self._entries.values())])
