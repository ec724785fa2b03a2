"""Repeated calls of compiled functions; see `runtime/native/`."""

from collections.abc import Callable
from typing import Any, TypeVar

A = TypeVar("A")

class TraceStack:
    """The trace contexts of each thread, all in one place."""

    @property
    def top(self) -> Any:
        """The innermost context of this thread, or None."""

    def push(self, context: Any, /) -> None:
        """Makes it the innermost one; None suspends tracing."""

    def pop(self) -> Any:
        """Leaves the innermost context, which it returns."""

class Shortcut:
    """What calls of a compiled function go to at once.

    Not open to a thread that traces, here or in JAX, nor to arguments that hold flags, which
    calls are told apart by: instances of `plain_types` hold none, of others `holds_flags` says
    it, where that is not None. After one of `other_ways` a call is made again, the long way.
    """

    def __init__(
        self,
        other_ways: tuple[type[BaseException], ...],
        plain_types: set[type],
        holds_flags: Callable[[Any], bool] | None,
    ) -> None: ...
    @property
    def hits(self) -> int:
        """How many calls it has made."""

    def open(self, target: Callable[..., Any], epoch: int, arrays: list[Any] | None, /) -> None:
        """Calls go to `target` until the epoch changes.

        Where `arrays` is a list, `target` takes their values, the arguments and the keywords,
        and returns a result and a dict of what it assigns; else the arguments as they are.
        """

    def close(self) -> None:
        """Calls go the long way."""

class Dispatcher:
    """A callable that takes its shortcut where that is open.

    Subclasses have `_call(*args, **kwargs)`, the long way, and `_assign(written, arrays)`.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def _set_shortcut(self, shortcut: Shortcut, /) -> None: ...

def set_trace_state(state: Any, evaluation: Any, /) -> None:
    """Shortcuts are open where ``state.value`` is ``evaluation``, outside transforms of JAX."""

def epoch() -> int:
    """How often array objects that programs may hold were replaced."""

def bump_epoch() -> None:
    """Closes all shortcuts of the epochs before."""

def begin_array(array: Any, /) -> None:
    """What every new array object needs beside its value, however it was made."""

def new_array(type: type[A], value: Any, /) -> A:
    """An array object that holds `value` unchecked."""

def node_functions(type: type, /) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How array objects become pytree nodes, and how one of `type` is made of a node."""
