"""Batches of calls that bring a batching rule, as that makes them.

In: a function that imports a call over batches. Out: a number for the module of the caller to
hold, by which passes ask for what is imported; it is differentiated in place of the call's rules.
"""

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

from bmgrad.runtime._put_off import WithRules

# The sizes of batches, innermost first, and the axes of the operands in each, 0 or -1 for none.
Batches: TypeAlias = tuple[tuple[int, tuple[int, ...]], ...]


class Batcher:
    """What a batching rule makes of a call. Whoever holds a module with its `number` keeps it.

    `make` imports that, with the rules of the calls in it put off, given the batches of the
    operands after the first `num_captured`.
    """

    def __init__(self, make: Callable[[Batches], WithRules], num_captured: int) -> None:
        self.number = next(_numbers)
        self._make, self._num_captured = make, num_captured
        self._made: dict[Batches, WithRules] = {}
        self._lock = threading.RLock()
        _known[self.number] = self

    def module(self, batches: Batches) -> Any:
        """The module of the call over `batches`, as text or bytecode."""
        count = self._num_captured
        if any(axis >= 0 for _, axes in batches for axis in axes[:count]):
            raise NotImplementedError(
                "a batching rule is asked for a batch of an array that its function closes over; "
                "pass the array as an argument"
            )
        batches = tuple((size, axes[count:]) for size, axes in batches)
        with self._lock:
            if batches not in self._made:
                self._made[batches] = self._make(batches)
            return self._made[batches].module


_numbers = itertools.count()
_known: weakref.WeakValueDictionary[int, Batcher] = weakref.WeakValueDictionary()


def find(number: int) -> Batcher:
    """The one that has this number."""
    return _known[number]
