"""What the body of a transform finds under its jit: its inputs, and what they are at this call.

In: the arrays that are known to be inputs, and what the jit was called with. Out: the trace
context of the body, and what it raises where the call is to be made in another way. Next:
``_call.py``.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from bmgrad._array import Array
from bmgrad._import import MAY_ASK_FOR_VALUES
from bmgrad._transforms._differences import Differs
from bmgrad._transforms._surroundings import Content
from bmgrad._transforms._trace import TracedFunction

# What was traced, and what for.
KeyAndTraced = tuple[Hashable, TracedFunction]


class MissingInputs(Exception):
    """The body reads arrays that its jit does not have as inputs yet."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.arrays = arrays


class IsAtValues(Exception):
    """The body of a jit has traced its function, which holds for the values of this call only."""


class IsDisabled(Exception):
    """Nothing is to be compiled now."""


# What a call raises that is to be made in another way: with inputs, static arguments, at values,
# or as it is.
OTHER_WAYS = (MissingInputs, IsAtValues, IsDisabled, Differs, *MAY_ASK_FOR_VALUES)


class Known:
    """The arrays that functions of one epoch are known to read; each list is only ever replaced."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []


class Inputs:
    """The trace context of a body under jit: the arrays known so far are inputs.

    ``given`` has what the call that makes the jit was given, by the ids of tracers.
    """

    def __init__(
        self, arrays: Sequence[Array], values: Sequence[Any], given: dict[int, Any] | None
    ) -> None:
        self._index = {id(array): i for i, array in enumerate(arrays)}
        self._values = list(values)
        self._given = given
        self._owned: dict[int, Array] = {}
        self._written: set[int] = set()

    def read(self, array: Array) -> Any:
        if id(array) in self._owned:
            return array._value
        return self._values[self._position(array)]

    def write(self, array: Array, value: Any) -> None:
        if id(array) in self._owned:
            array._value = value
            return
        position = self._position(array)
        self._values[position] = value
        self._written.add(position)

    def at_hand(self, value: Any) -> Any:
        if self._given is None:
            return None
        if not isinstance(value, Array):
            return self._given.get(id(value))
        if id(value) in self._owned:
            return self._given.get(id(value._value))
        return None if self._index.get(id(value)) in self._written else value._value

    def own(self, made: Any, undo: Callable[[], None] | None = None) -> None:
        self._owned[id(made)] = made

    def bound(self, value: object, node: object, old: object, undo: Callable[[], None]) -> None:
        pass  # The functions of users have traces of their own.

    def require(self, arrays: Sequence[Array]) -> None:
        missing = [a for a in arrays if id(a) not in self._index and id(a) not in self._owned]
        if missing:
            raise MissingInputs(missing)

    def _position(self, array: Array) -> int:
        self.require([array])
        return self._index[id(array)]

    def written(self) -> dict[int, Any]:
        return {position: self._values[position] for position in sorted(self._written)}


class InThread(threading.local):
    """What is known of the call that is being made in this thread."""

    def __init__(self) -> None:
        # What a call outside jit reads, and what it assigns, as it was before.
        self.reads: list[Array] = []
        self.before: list[tuple[Array, Any]] = []
        # What takes back that functions, which the call has traced, keep what they make.
        self.undo: list[Callable[[], None]] = []
        # Whether the call of a jit goes on after all that there is to know was noted.
        self.is_second_try = False
        # What a jit is called with, while what it makes may depend on it.
        self.given: Any = None
        # What is in the objects that it is called with, as far as it is compiled for that.
        self.content: Content | None = None
        # What was traced at the values of this call, by its jit, and whether anything was.
        self.at_values: KeyAndTraced | None = None
        self.is_at_values = False

    def take_back(self) -> bool:
        """Makes it as if nothing had been traced; whether anything was kept."""
        was_kept = bool(self.undo)
        while self.undo:
            self.undo.pop()()
        return was_kept

    def given_by_id(self, tracers: Any) -> dict[int, Any] | None:
        """What the jit is called with, by the ids of the tracers in its place; None if unknown."""
        tracers, given = jax.tree.leaves(tracers), jax.tree.leaves(self.given)
        if self.given is None or len(tracers) != len(given):
            return None
        return dict(zip(map(id, tracers), given, strict=True))


def named(method: Callable[..., Any], known: Known, name: str) -> Callable[..., Any]:
    """The method of what is known, by the user's name for it. It does not keep its object.

    That holds a jit of it, and what the user's function closes over, which is to go with the last
    reference: an array on a device is no burden that Python's garbage collector sees.
    """
    weak = weakref.WeakMethod(method)

    def run(*args: Any, **kwargs: Any) -> Any:
        bound = weak()
        assert bound is not None, "only the object itself calls it"
        return bound(known, *args, **kwargs)

    run.__name__ = run.__qualname__ = name
    run.__signature__ = inspect.signature(  # type: ignore[attr-defined]
        functools.partial(method, known)
    )
    return run
