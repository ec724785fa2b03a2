"""Modules over a batch that Python makes, where functions bring a batching rule."""

from collections.abc import Callable, Hashable
from typing import TypeAlias

from bmgrad.runtime._source import Source

# Of input axes, size, output axes and the name of the axis. See `Program`.
Batched: TypeAlias = Callable[
    [tuple[int, ...], int, tuple[int, ...], Hashable], "tuple[Source, Batched | None] | None"
]


def edited(batched: Batched, edit: Callable[[Source], Source]) -> Batched:
    """`batched`, whose modules `edit` changes."""

    def run(
        in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> "tuple[Source, Batched | None] | None":
        if (found := batched(in_axes, size, out_axes, axis_name)) is None:
            return None
        module, again = found
        return edit(module), again and edited(again, edit)

    return run
