"""The variables that a function makes, and those of them that it finds at its next call.

In: what a trace sees made, assigned and bound to attributes. Out: the variables that are kept
when the function has ended, by an attribute or by whatever else Python has. Next: ``_trace.py``,
whose programs give these their values.
"""

from __future__ import annotations

import collections
import gc
import weakref
from collections.abc import Callable, Collection, Hashable, MutableMapping, Sequence
from typing import Any, Self

from bmgrad._array import Array
from bmgrad._array_checks import note_left_behind
from bmgrad._tracing_state import holds_lifted, note_rebind
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
OF_EACH_CALL = (
    "it was made in the place of the last one, without a look at that, by a function that does so "
    "again at each call and is compiled. Return its value, or make it once and assign it"
)
_OF_ABANDONED = (
    "it was made by a function that failed, or had to be traced once more, and is in a list, a "
    "dict, a closure or an object that is no bp.Base, which cannot be told to let it go. Make it "
    "before the first call, or keep it in an attribute of a bp.Base"
)

# The ids of what a trace has read.
Reads = Collection[int]


class _Collector:
    """Whether Python's garbage collector is at work."""

    def __init__(self) -> None:
        self.is_at_work = False
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: object) -> None:
        self.is_at_work = phase == "start"


_collector = _Collector()


class _Known(weakref.ref[Variable]):
    """A variable that a trace has made.

    Attributes:
      kind: one that is made anew in its place is of the same kind.
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


class MadeBefore:
    """What the last trace of a function for equal arguments made, and no attribute of a node has.

    Of use to functions that are compiled: the next trace tells by it what is made anew at each
    call, and is no state that the function finds again.
    """

    def __init__(self) -> None:
        self._known: list[_Known] = []
        self._is_first = True
        self._collects_in_vain = False
        self._is_left_out = False
        # Whether what it makes takes the place of what other functions read.
        self.replaces_states = False

    def begin(self) -> None:
        """A trace begins. What has gone already was not in the way of what it will make."""
        self._is_left_out = any(known() is None for known in self._known)

    def is_replaced_by(self, variables: Sequence[Variable]) -> bool:
        """Whether the function has dropped it all for these, without a look at it.

        What it reads it does not drop. Where it drops some, or others, it may be that these are
        what it will find, and those were in the way.
        """
        if not self._known or self._is_left_out:
            return False
        kinds = collections.Counter(known.kind for known in self._known)
        are_dropped = all(known.was_dropped for known in self._known)
        return are_dropped and kinds == collections.Counter(map(_kind, variables))

    def collect(self) -> bool:
        """Frees what circles of references keep, if that may be why something is kept again."""
        if self._is_first or self._collects_in_vain:
            return False
        gc.collect()
        return True

    def end(
        self,
        variables: Sequence[Variable],
        *,
        is_kept: bool,
        read: Reads,
        collected_in_vain: bool,
    ) -> None:
        """The trace has ended: what it made, whether it keeps any, the ids of what it read."""
        for known in self._known if is_kept else ():
            # Others may go on reading what the function has put these in the place of.
            if id(variable := known()) not in read and holds_lifted(variable):
                note_rebind(variable)
                self.replaces_states = True
        self._known = list(map(_Known, variables))
        self._is_first = not is_kept
        self._collects_in_vain |= collected_in_vain

    def forget(self) -> None:
        """Says that the trace counts for nothing."""
        self._known, self._is_first = [], True

    def __bool__(self) -> bool:
        return bool(self._known) or not self._is_first


class Made:
    """The arrays and nodes that a function makes while it is traced."""

    def __init__(self, before: MadeBefore | None) -> None:
        self._before = before
        if before is not None:
            before.begin()
        self._objects: MutableMapping[int, Any] = {}
        self._first_values: dict[int, Any] = {}
        # Of those in attributes of nodes, by id, whether the function may look at them later.
        self._in_attributes: dict[int, bool] = {}
        # By id those that attributes hold no more after `undo`.
        self._undone: set[int] = set()
        self._undo: list[Callable[[], None]] = []

    def __contains__(self, value: object) -> bool:
        return id(value) in self._objects

    def add(self, value: object, undo: Callable[[], None] | None = None) -> None:
        self._objects[id(value)] = value
        if undo is not None:
            self._take_back(value, undo)

    def assign(self, array: Array, value: Any) -> None:
        if isinstance(array, Variable):
            self._first_values.setdefault(id(array), array._value)
        array._value = value

    def bound(
        self, value: object, node: object, old: object, undo: Callable[[], None], read: Reads
    ) -> None:
        """An attribute of ``node`` has come to hold ``value`` in the place of ``old``.

        That is ``value`` itself where a trace inside has told that nobody looks at the old one.
        ``undo`` takes it back. ``read`` are the ids of what the trace has read so far.
        """
        is_looked_at = not isinstance(old, Array) or id(old) in read
        if old is value:
            is_looked_at = False
        elif old in self:
            is_looked_at = not self.is_anew(old)
        elif isinstance(old, Array) and old._lifted:
            is_looked_at = True
            if self._before is not None:
                self._before.replaces_states = True
        self._in_attributes[id(value)] = is_looked_at or self._in_attributes.get(id(value), False)
        # What goes itself may keep what it has.
        if node not in self:
            self._take_back(value, undo)

    def _take_back(self, value: object, undo: Callable[[], None]) -> None:
        self._undo.append(undo)
        self._undone.add(id(value))

    def is_in_attribute(self, value: object) -> bool:
        return id(value) in self._in_attributes

    def is_anew(self, value: object) -> bool:
        """Whether an attribute holds it in the place of another, at which nobody has looked."""
        return not self._in_attributes.get(id(value), True)

    def undo(self) -> None:
        """Takes back that attributes hold what the function has made.

        What else does cannot be told to let go: variables there become what they were made as.
        """
        while self._undo:
            self._undo.pop()()
        for variable in self._variables():
            if id(variable) not in self._undone:
                variable._value = self._first_values.get(id(variable), variable._value)
                note_left_behind(variable, _OF_ABANDONED)
        if self._before is not None:
            self._before.forget()

    def kept(self, read: Reads) -> tuple[list[Variable], list[Variable]]:
        """What something keeps when the function has ended, which has read those with these ids.

        First the variables at which it may look at its next call, then those that it makes anew.
        """
        kept, anew, collected_in_vain = list[Variable](), list[Variable](), False
        if self._variables():
            # Weak from now on: programs keep rules, and these their trace, for long.
            self._objects = weakref.WeakValueDictionary(self._objects)
            # No list of them, which would keep them where they are collected.
            count, collected = len(self._told_apart()[0]), False
            if self._before is not None:
                collected = count > 0 and self._before.collect()
            kept, anew = self._told_apart()
            collected_in_vain = collected and len(kept) == count
        if self._before is not None:
            self._before.end(
                self._elsewhere(),
                is_kept=bool(kept),
                read=read,
                collected_in_vain=collected_in_vain,
            )
        for variable in anew:
            note_left_behind(variable, OF_EACH_CALL)
        return kept, anew

    def _told_apart(self) -> tuple[list[Variable], list[Variable]]:
        elsewhere = self._elsewhere()
        told: tuple[list[Variable], list[Variable]] = [], []
        # What is traced at each call needs not be told apart, and a state may be read at any time.
        may_be_anew = self._before is not None and not self._before.replaces_states
        are_anew = self._before is not None and self._before.is_replaced_by(elsewhere)
        for variable in self._variables():
            is_anew = self.is_anew(variable) if self.is_in_attribute(variable) else are_anew
            told[may_be_anew and is_anew].append(variable)
        return told

    def _variables(self) -> list[Variable]:
        return [value for value in self._objects.values() if isinstance(value, Variable)]

    def _elsewhere(self) -> list[Variable]:
        """Those that are in no attribute of a node."""
        return [x for x in self._variables() if id(x) not in self._in_attributes]


def _kind(variable: Variable) -> Hashable:
    value = variable._value
    return type(variable), getattr(value, "shape", None), getattr(value, "dtype", None)
