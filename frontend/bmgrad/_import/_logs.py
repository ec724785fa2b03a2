"""What backward rules log (`jax.custom_vjp.defvjp_with_logs`), as cotangents.

An entry is the cotangent of a *slot*: an array of zeros that a call of a function with such a rule
takes after its arguments, and nothing looks at. Blocks capture slots as any array that they close
over, so an entry finds its way out of calls, checkpoints and branches to an input of `@main`; a
loop scans over a slot for each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad.runtime._jax_internals import CondSum, ShapedArray, has_tangent

# Integers have no cotangents; pieces of so many bits of one are exact as a float.
_PIECE = 16


@dataclass(eq=False)
class Entry:
    """An array that is logged: its aval where it leaves the program, and its slot."""

    aval: ShapedArray
    slot: Any


class LogSpec(NamedTuple):
    """What a rule logs: a dict, whose leaves are arrays of these avals.

    Where that cannot be logged, ``refusal`` says why.
    """

    tree: Any
    avals: tuple[ShapedArray, ...]
    refusal: str = ""


def split_logs(logs: dict[Any, Any] | None) -> tuple[list[Any], LogSpec]:
    """The floats that say what is logged, and how to read them."""
    try:
        leaves, tree = jax.tree.flatten(logs or {})
        arrays = list(map(_array, leaves))
        avals = tuple(ShapedArray(x.shape, x.dtype) for x in arrays)
        return list(map(_encoded, arrays)), LogSpec(tree, avals)
    except (OverflowError, TypeError, ValueError, Unsupported) as error:
        # Mostly nobody asks for it.
        return [], unreadable_logs(f"a backward rule logs what cannot be logged: {error}")


def unreadable_logs(refusal: str) -> LogSpec:
    """The logs of a rule that nobody can be told, with the reason."""
    return LogSpec(jax.tree.structure({}), (), refusal)


def _array(leaf: Any) -> Any:
    array = jnp.asarray(leaf)
    is_wider = isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype != array.dtype
    if is_wider and leaf.dtype.kind in "iu" and not np.array_equal(leaf, np.asarray(array)):
        raise ValueError(f"{leaf!r} does not fit into {array.dtype}")
    return array


def slot_aval(aval: ShapedArray) -> ShapedArray:
    """The aval of what stands for a logged array of `aval`."""
    if has_tangent(aval):
        return aval
    if getattr(aval.dtype, "kind", "") not in ("b", "i", "u"):
        raise Unsupported(f"a backward rule logs a value of dtype {aval.dtype}; log an array")
    return ShapedArray((*aval.shape, _num_pieces(aval.dtype)), np.dtype(np.float32))


def _num_pieces(dtype: Any) -> int:
    return max(1, int(dtype.itemsize) * 8 // _PIECE)


def _unsigned(dtype: Any) -> np.dtype[Any]:
    return np.dtype(f"uint{8 * dtype.itemsize}")


def _encoded(array: Any) -> Any:
    if slot_aval(ShapedArray(array.shape, array.dtype)).dtype == array.dtype:
        return array
    words = array.astype(_unsigned(array.dtype))
    pieces = [(words >> _PIECE * i) & (1 << _PIECE) - 1 for i in range(_num_pieces(array.dtype))]
    return jnp.stack(pieces, -1).astype(np.float32)


def decoded(aval: ShapedArray, logged: Any) -> Any:
    """The array of `aval` that was logged, given the cotangent of its slot."""
    if has_tangent(aval):
        return logged
    pieces = logged.astype(_unsigned(aval.dtype))
    words = sum(pieces[..., i] << _PIECE * i for i in range(_num_pieces(aval.dtype)))
    return words.astype(aval.dtype)


class Logs:
    """The entries of a program, as they are found while it is written."""

    def __init__(self) -> None:
        # Of what is being written, innermost last; entries by their keys.
        self._open: list[dict[Any, Any]] = [{}]
        # Why what is logged cannot be said; no matter to who does not ask for it.
        self.refusal = ""
        self._entries: dict[int, Entry] = {}

    @property
    def found(self) -> dict[Any, Any]:
        """What the whole program logs: pytrees of :class:`Entry`."""
        return self._open[0]

    @contextmanager
    def inside(self) -> Iterator[dict[Any, Any]]:
        """Keeps what is found inside apart."""
        self._open.append({})
        try:
            yield self._open[-1]
        finally:
            self._open.pop()

    def add(self, logs: dict[Any, Any]) -> None:
        """Adds pytrees of entries, by their keys."""
        for key in logs:
            if key in self._open[-1]:
                self.refusal = self.refusal or (
                    f"two backward rules log under the key {key!r}; each key must be unique within "
                    "a backward pass"
                )
        self._open[-1].update(logs)

    def new(self, spec: LogSpec) -> list[Any]:
        """The slots of a call whose rule logs `spec`."""
        self.refusal = self.refusal or spec.refusal
        entries = [Entry(aval, _zeros(slot_aval(aval))) for aval in spec.avals]
        self._entries.update((id(entry.slot), entry) for entry in entries)
        self.add(jax.tree.unflatten(spec.tree, entries))
        return [entry.slot for entry in entries]

    def slots_among(self, captures: Sequence[Any]) -> list[Any]:
        return [array for array in captures if id(array) in self._entries]

    def stacked(self, slot: Any, length: int) -> Any:
        """The slot of a loop over so many steps, for that of its body."""
        entry = self._entries.pop(id(slot))
        aval = jax.typeof(slot)
        entry.aval = ShapedArray((length, *entry.aval.shape), entry.aval.dtype)
        entry.slot = _zeros(ShapedArray((length, *aval.shape), aval.dtype))
        self._entries[id(entry.slot)] = entry
        return entry.slot


def _zeros(aval: ShapedArray) -> Any:
    with jax.ensure_compile_time_eval():
        return jnp.zeros(aval.shape, aval.dtype)


def of_branches(index: Entry, logged: Sequence[dict[Any, Any]]) -> dict[Any, Any]:
    """What is logged where one of several branches runs; `index` is the entry that says which."""
    keys = dict.fromkeys(key for logs in logged for key in logs)
    return {key: CondSum(index, [logs.get(key) for logs in logged]) for key in keys}


@jax.custom_vjp
def saying_which(x: Any, index: Any) -> Any:
    """`x`, whose backward rule logs `index`."""
    return x


if hasattr(saying_which, "defvjp_with_logs"):  # One of the two versions.
    saying_which.defvjp_with_logs(
        lambda x, index: (x, index), lambda index, ct: ((ct, None), {"index": index})
    )
