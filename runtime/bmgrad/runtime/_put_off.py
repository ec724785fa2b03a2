"""Derivative rules that are imported when a derivative needs them.

In: a function that imports a call with its rules. Out: a name for the rule, which the
module of the caller declares in its place. Where a pass asks for the rule it says for which
operands; `_at_need.py` calls what is imported for these instead.

Rules call functions with rules, so those of derivatives of higher orders have no end.
"""

import itertools
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# In the IR, before a number: why a derivative rule has no body.
_REASON = "put off rules "  # `Custom.cpp` knows it by this.
_WANTED = re.compile(_REASON + r"(\d+) for ([01]+)")
# Which operands of a call a derivative perturbs.
Flags = tuple[bool, ...]


class WithRules(NamedTuple):
    """A module whose `@main` is a call with its rules, and what that has put off in turn."""

    module: Any
    put_off: Sequence[Any]


class PutOff:
    """A call whose rules are put off. Whoever holds a module with its `reason` keeps it.

    The first `num_captured` operands of the call are the last arguments of what `make` imports,
    given which of the others a derivative perturbs. With `is_transpose` what waits is a transpose,
    and what is imported has that one and otherwise the rules of before.
    """

    def __init__(
        self, make: Callable[[Flags], WithRules], num_captured: int, is_transpose: bool = False
    ) -> None:
        self.num_captured, self.is_transpose = num_captured, is_transpose
        self._make = make
        self._made: dict[Flags, WithRules] = {}
        self._lock = threading.RLock()
        self._number = next(_numbers)
        _known[self._number] = self

    @property
    def reason(self) -> str:
        """What the declaration of the rule says."""
        return f"{_REASON}{self._number}"

    def reason_for(self, flags: Flags) -> str:
        """What says that rules for the operands that `flags` marks are wanted."""
        return f"{self.reason} for {''.join('01'[flag] for flag in flags)}"

    def module(self, flags: Flags) -> Any:
        """The module of the call with the rules for those operands, as text or bytecode."""
        with self._lock:
            flags = flags[self.num_captured :]
            if flags not in self._made:
                self._made[flags] = self._make(flags)
            return self._made[flags].module


_numbers = itertools.count()
_known: weakref.WeakValueDictionary[int, PutOff] = weakref.WeakValueDictionary()


def find(reason: str) -> PutOff | None:
    """The call that has this reason."""
    number = reason.removeprefix(_REASON)
    return _known[int(number)] if number != reason else None


def wanted(message: str) -> tuple[PutOff, Flags] | None:
    """What a pass asks for in a message: a call, and the operands that it is differentiated in."""
    if (found := _WANTED.search(message)) is None:
        return None
    return _known[int(found[1])], tuple(flag == "1" for flag in found[2])
