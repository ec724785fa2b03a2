"""Batches of calls that bring a batching rule, as that makes them.

In: a function that imports a call over a batch. Out: a number for the module of the caller to
hold, by which passes ask for what is imported; it is differentiated in place of the call's rules.
"""

import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

from bmgrad.runtime._put_off import WithRules

# The size of a batch, and the axes of the operands in it, 0 or -1 for none.
Batch: TypeAlias = tuple[int, tuple[int, ...]]


class Batcher:
    """What a batching rule makes of a call. Whoever holds a module with its `number` keeps it.

    `make` imports that, given a batch of the operands after the first `num_captured`.
    """

    def __init__(self, make: Callable[[Batch], WithRules], num_captured: int) -> None:
        self.number = next(_numbers)
        self._make, self._num_captured = make, num_captured
        self._made: dict[Batch, WithRules] = {}
        self._lock = threading.RLock()
        _known[self.number] = self

    def module(self, batch: Batch) -> Any:
        """The module of the call over `batch`, as text or bytecode."""
        size, axes = batch
        if any(axis >= 0 for axis in axes[: self._num_captured]):
            raise NotImplementedError(
                "a batching rule is asked for a batch of an array that its function closes over; "
                "pass the array as an argument"
            )
        batch = size, axes[self._num_captured :]
        with self._lock:
            if batch not in self._made:
                self._made[batch] = self._make(batch)
            return self._made[batch].module


_numbers = itertools.count()
_known: weakref.WeakValueDictionary[int, Batcher] = weakref.WeakValueDictionary()


def find(number: int) -> Batcher:
    """The one that has this number."""
    return _known[number]
