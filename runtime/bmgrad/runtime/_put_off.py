"""Derivative rules that are imported when a derivative needs them.

In: a function that imports a call with its rules. Out: a name for the rule, which the
module of the caller declares in its place. Where a pass asks for the rule, `_pipeline.py` looks the
name up and calls the imported function instead.

Rules call functions with rules, so those of derivatives of higher orders have no end.
"""

import itertools
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

# In the IR, before a number: why a derivative rule has no body.
_REASON = "put off rules "


class PutOff:
    """A call whose rules are put off. Whoever holds a module with its `reason` keeps it.

    `make` imports a module whose `@main` is the call, with its rules, and what this has put off in
    turn. The first `num_captured` operands of the call are the last arguments of that.
    """

    def __init__(self, make: "Callable[[], Imported]", num_captured: int) -> None:
        self.num_captured = num_captured
        self._make = make
        self._made: Imported | None = None
        self._lock = threading.RLock()
        self._number = next(_numbers)
        _known[self._number] = self

    @property
    def reason(self) -> str:
        """What the declaration of the rule says."""
        return f"{_REASON}{self._number}"

    def module(self) -> Any:
        """The module, as text or bytecode."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made[0]


Imported: TypeAlias = tuple[Any, Sequence[PutOff]]

_numbers = itertools.count()
_known: weakref.WeakValueDictionary[int, PutOff] = weakref.WeakValueDictionary()


def find(text: str) -> PutOff | None:
    """The call whose `reason` is part of `text`."""
    found = re.search(_REASON + r"(\d+)", text)
    return _known[int(found[1])] if found else None
