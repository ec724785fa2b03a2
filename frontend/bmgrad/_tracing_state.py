"""Who is tracing right now: the one thing that arrays and the tracer share.

In: a :class:`TraceContext` that the tracer pushes while it runs user code. Out: :func:`current`,
which every read and write of an array's value asks. Outside a trace the answer is ``None`` and the
array uses the value it holds. Next: ``_array.py`` (who asks) and ``_transforms/_trace.py`` (who
pushes).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import jax

from bmgrad.runtime import _dispatch
from bmgrad.runtime._jax_internals import evaluation, trace_state

if TYPE_CHECKING:
    from bmgrad._array import Array

__all__ = [
    "TraceContext",
    "current",
    "holds_lifted",
    "note_rebind",
    "pop",
    "push",
    "tracing",
]


class TraceContext(Protocol):
    """What a tracer answers while it is the current one."""

    def read(self, array: Array) -> jax.Array:
        """The value of ``array`` as this trace sees it now."""

    def write(self, array: Array, value: Any) -> None:
        """Make ``value`` (a jax array or tracer of the array's shape and dtype) its value."""

    def at_hand(self, value: Any) -> Any:
        """What ``value``, an array object or a tracer, is at this call; None if that is not known.

        Before the function of this trace has assigned anything.
        """

    def own(self, made: object, undo: Callable[[], None] | None = None) -> None:
        """A new array, whose held value is its value, or a new node: made inside this trace.

        ``undo`` is to be called if the trace fails.
        """

    def bound(self, value: object, node: object, old: object, undo: Callable[[], None]) -> None:
        """An attribute of ``node`` has come to hold ``value`` in the place of ``old``.

        ``undo`` is to be called if the trace fails.
        """


_stack = _dispatch.TraceStack()
_dispatch.set_trace_state(trace_state, evaluation)


def current() -> TraceContext | None:
    """The innermost trace context of this thread, or None."""
    context: TraceContext | None = _stack.top
    return context


def push(context: TraceContext | None) -> None:
    """Make ``context`` the current one; None suspends tracing until the matching :func:`pop`."""
    _stack.push(context)


def pop() -> TraceContext | None:
    """Leave the current context and return it."""
    context: TraceContext | None = _stack.pop()
    return context


@contextlib.contextmanager
def tracing(context: TraceContext | None) -> Iterator[TraceContext | None]:
    """``with tracing(context): ...`` pushes, and pops also when the body raises."""
    push(context)
    try:
        yield context
    finally:
        pop()


def holds_lifted(value: object) -> bool:
    """Whether ``value`` is, or has in it, an array object or reference that some program may use.

    Lists, tuples, dicts and nodes are looked into, in circles too; other objects are not.
    """
    todo, seen = [value], set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if getattr(item, "_lifted", False) is True or isinstance(item, jax.Ref):
            return True
        if isinstance(item, dict):
            todo.extend(item.values())
        elif isinstance(item, (list, tuple)):
            todo.extend(item)
        elif getattr(item, "_is_node", False) is True:
            todo.extend(item.__dict__.values())
    return False


def note_rebind(old: object) -> None:
    """Called with what a node's attribute held before it was bound to something else.

    A compiled program holds the array *objects* that its function read. When an attribute that
    held such an object comes to hold another one, the program would go on reading the old object:
    a program of an epoch before traces again.
    """
    if holds_lifted(old):
        _dispatch.bump_epoch()
