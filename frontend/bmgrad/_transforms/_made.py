"""The variables that a function makes, and those of them that it finds at its next call.

In: what a trace sees made, assigned and bound to attributes. Out: the variables that are kept
when the function has ended, by an attribute or by whatever else Python has. Next: ``_trace.py``,
whose programs give these their values.
"""

from __future__ import annotations

import collections
import gc
import threading
import weakref
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, Self

from bmgrad._array import Array
from bmgrad._variable import Variable

# Why a variable that was made has no value afterwards, for messages: a reason, and how to mend it.
OF_INNER = (
    "it was made or assigned in a function that JAX traces on its own (the body of jax.lax.scan, "
    "while_loop or cond, jax.checkpoint, jax.vmap or jax.jit), from which no value can leave. Make "
    "it before, carry its value through that function"
)
OF_ELEMENTS = (
    "it was made in a function under bm.vmap, where each element of the batch has a value of its "
    "own. Return its value"
)
_OF_EACH_CALL = (
    "it was made by a function that makes one anew at each call, without a look at the last, and "
    "is compiled. Return its value, or make it once and assign it"
)
_OF_ABANDONED = (
    "it was made by a function that failed, or had to be traced once more, and is in a list, a "
    "dict, a closure or an object that is no bp.Base, which cannot be told to let it go. Make it "
    "before the first call, or keep it in an attribute of a bp.Base"
)


class _Collector:
    """Whether Python's garbage collector is at work."""

    def __init__(self) -> None:
        self.is_at_work = False
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: object) -> None:
        self.is_at_work = phase == "start"


_collector = _Collector()


class _Known(weakref.ref[Variable]):
    """A variable that a trace has made, and that something other than an attribute of a node keeps.

    Attributes:
      kind: those that are made anew in its place are of the same kind.
      was_dropped: whether it has gone because somebody let it go just then. One that is garbage
        for the collector may have been let go of at any time before.
    """

    __slots__ = ("kind", "was_dropped")

    kind: Hashable
    was_dropped: bool

    def __new__(cls, variable: Variable) -> Self:
        self = super().__new__(cls, variable, _note_gone)
        self.kind, self.was_dropped = _kind(variable), False
        return self


def _note_gone(known: _Known) -> None:
    known.was_dropped = not _collector.is_at_work
    _of_thread.known.pop(id(known), None)


class _OfThread(threading.local):
    """What traces of this thread have made, by the ids of the references."""

    def __init__(self) -> None:
        self.known: dict[int, _Known] = {}


_of_thread = _OfThread()


class Made:
    """The arrays that a function makes while it is traced."""

    def __init__(self) -> None:
        self._before = list(_of_thread.known.values())
        self._arrays: MutableMapping[int, Array] = {}
        self._first_values: dict[int, Any] = {}
        # Of those in attributes of nodes, by id, whether the function may look at them later.
        self._in_attributes: dict[int, bool] = {}
        self._undo: list[Callable[[], None]] = []

    def __contains__(self, array: Array) -> bool:
        return id(array) in self._arrays

    def add(self, array: Array) -> None:
        self._arrays[id(array)] = array

    def assign(self, array: Array, value: Any) -> None:
        if isinstance(array, Variable):
            self._first_values.setdefault(id(array), array._value)
        array._value = value

    def bound(self, array: Array, *, is_looked_at: bool, undo: Callable[[], None]) -> None:
        """An attribute has come to hold an array, until ``undo`` is called."""
        self._undo.append(undo)
        self._in_attributes[id(array)] = is_looked_at or self._in_attributes.get(id(array), False)

    def undo(self) -> None:
        """Takes back that attributes hold what the function has made.

        What else does cannot be told to let go: variables there become what they were made as.
        """
        while self._undo:
            self._undo.pop()()
        for variable in self._elsewhere():
            variable._value = self._first_values.get(id(variable), variable._value)
            if not hasattr(variable, "_why_left_behind"):
                variable._why_left_behind = _OF_ABANDONED

    def kept(self) -> list[Variable]:
        """The variables that something keeps when the function has ended, and may look at later."""
        # Weak from now on: programs keep rules, and these their trace, for long.
        self._arrays = weakref.WeakValueDictionary(self._arrays)
        anew = self._anew()
        if len(anew) < len(self._elsewhere()):
            gc.collect()  # Others may be in circles of references only.
            anew = self._anew()
        for variable in self._elsewhere():
            known = _Known(variable)
            _of_thread.known[id(known)] = known
        anew += [x for x in self._variables() if self._in_attributes.get(id(x)) is False]
        for variable in anew:
            variable._why_left_behind = _OF_EACH_CALL
        is_anew = set(map(id, anew))
        return [variable for variable in self._variables() if id(variable) not in is_anew]

    def _variables(self) -> list[Variable]:
        return [array for array in self._arrays.values() if isinstance(array, Variable)]

    def _elsewhere(self) -> list[Variable]:
        """Those that are in no attribute of a node."""
        return [x for x in self._variables() if id(x) not in self._in_attributes]

    def _anew(self) -> list[Variable]:
        """Those of them in whose place the function has dropped one of an earlier call.

        It has not looked at that: what it reads is not gone.
        """
        dropped = collections.Counter(known.kind for known in self._before if known.was_dropped)
        anew = list[Variable]()
        for variable in self._elsewhere():
            if dropped[_kind(variable)] > 0:
                dropped[_kind(variable)] -= 1
                anew.append(variable)
        return anew


def _kind(variable: Variable) -> Hashable:
    value = variable._value
    return type(variable), getattr(value, "shape", None), getattr(value, "dtype", None)
