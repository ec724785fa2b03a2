"""References (`jax.new_ref`) as inputs of programs: what they hold, as of array objects."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from bmgrad._import import Imported
from bmgrad.runtime import _jax_internals as internals


class HeldReference:
    """A reference whose value a program takes, and gives back if it changes it.

    It has the one attribute of a `bm.Array` that calls need.
    """

    def __init__(self, reference: Any) -> None:
        self.reference = reference

    @property
    def value(self) -> Any:
        return self.reference[...]

    @value.setter
    def value(self, value: Any) -> None:
        self.reference[...] = value


class _InThread(threading.local):
    """The references that are primals of what is traced, outermost first."""

    def __init__(self) -> None:
        self.primals: list[Sequence[Any]] = []


_in_thread = _InThread()


@contextmanager
def as_primals(references: Sequence[Any]) -> Iterator[None]:
    """Says that derivatives are taken by what these hold, of what is traced inside."""
    _in_thread.primals.append(references)
    try:
        yield
    finally:
        _in_thread.primals.pop()


def is_of_trace(reference: Any) -> bool:
    """Whether a trace around may take derivatives by what it holds."""
    if isinstance(reference, jax.core.Tracer):
        return True
    return any(reference is x for references in _in_thread.primals for x in references)


def never(_: Any) -> bool:
    """For what leaves references where they are."""
    return False


def import_holding(
    traced: internals.TracedJaxpr,
    held: Callable[[Any], bool],
    load: Callable[[internals.TracedJaxpr], Imported],
) -> tuple[Imported, list[HeldReference], list[HeldReference]]:
    """What ``load`` makes of ``traced``, and the references that are further inputs and results.

    ``held`` says which may become so.
    """
    found = internals.on_held(traced, held)
    if found is None:
        return load(traced), [], []
    imported = load(found.traced)
    held_ids = set(map(id, found.references))
    if not held_ids.isdisjoint(map(id, imported.references.values())):
        # A derivative rule uses one too, and the order of all reads and writes counts.
        return load(traced), [], []
    references = list(map(HeldReference, found.references))
    return imported, references, list(itertools.compress(references, found.changed))
