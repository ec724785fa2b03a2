"""Modules over a batch that Python makes, where functions bring a batching rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Protocol

from bmgrad.runtime._source import Source


class Batched(Protocol):
    """The batches of a program; either answer may be None, where passes are to give it."""

    def module(
        self, in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> tuple[Source, Batched | None] | None:
        """The module of a batch, and the batches of that."""
        ...

    def outputs(
        self, in_axes: tuple[int, ...], size: int, axis_name: Hashable
    ) -> list[bool] | None:
        """Which results differ between the elements of a batch."""
        ...


@dataclasses.dataclass(frozen=True)
class Edited:
    """`batched`, whose modules `edit` changes."""

    batched: Batched
    edit: Callable[[Source], Source]

    def module(
        self, in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> tuple[Source, Batched | None] | None:
        if (found := self.batched.module(in_axes, size, out_axes, axis_name)) is None:
            return None
        module, again = found
        return self.edit(module), again and Edited(again, self.edit)

    def outputs(
        self, in_axes: tuple[int, ...], size: int, axis_name: Hashable
    ) -> list[bool] | None:
        return self.batched.outputs(in_axes, size, axis_name)
