"""Batches of functions that have a batching rule of their own (`custom_vmap`).

In: the jaxpr of a program in which such a function is called. Out: the module of the program
over a batch, for which JAX maps the jaxpr and so asks the rule. What is differentiated after
that is the rule, as under JAX's own transforms; a kernel in `bm.batch` would know values only.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax

from bmgrad.runtime import _jax_internals as internals
from bmgrad.runtime._batched import Batched
from bmgrad.runtime._jax_internals import TracedJaxpr
from bmgrad.runtime._source import Source
from bmgrad.runtime._types import batched_aval


@dataclasses.dataclass(frozen=True)
class Rebatching:
    """The batches of `traced`; see `Program`.

    `write` gives the module of a jaxpr whose constants are no inputs, None where it reads what it
    cannot. The inputs of the program are those of the jaxpr, its constants if `takes_consts`, and
    what inner functions close over.
    """

    traced: TracedJaxpr
    takes_consts: bool
    axes: Sequence[tuple[Hashable, int]]
    scope: Callable[[], AbstractContextManager[Any]]
    write: Callable[[TracedJaxpr], Source | None]

    def module(
        self, in_axes: tuple[int, ...], size: int, out_axes: tuple[int, ...], axis_name: Hashable
    ) -> tuple[Source, Batched | None] | None:
        with self.scope(), internals.with_axes(self.axes):
            if (found := self._trace(in_axes, size, out_axes, axis_name)) is None:
                return None
            traced, _ = found
            self._check_results(traced, size, out_axes)
            source = self.write(traced)
        again = dataclasses.replace(self, traced=traced, takes_consts=False)
        return None if source is None else (source, again)

    def outputs(
        self, in_axes: tuple[int, ...], size: int, axis_name: Hashable
    ) -> list[bool] | None:
        everywhere = (0,) * len(self.traced.out_avals)
        with self.scope(), internals.with_axes(self.axes):
            found = self._trace(in_axes, size, everywhere, axis_name)
        return None if found is None else found[1]

    def _trace(
        self, in_axes: Sequence[int], size: int, out_axes: Sequence[int], axis_name: Hashable
    ) -> tuple[TracedJaxpr, list[bool]] | None:
        """The batch, and which results differ in it; None where an array closed over is batched."""
        jaxpr, consts = self.traced.jaxpr, self.traced.consts
        num_args = len(jaxpr.invars)
        is_given = [self.takes_consts and not internals.is_reference(const) for const in consts]
        variables = [*jaxpr.invars, *itertools.compress(jaxpr.constvars, is_given)]
        mapped = in_axes[: len(variables)]
        if any(axis >= 0 for axis in in_axes[len(variables) :]):
            return None
        differing: list[bool] = []

        def element(*args: Any) -> tuple[Any, ...]:
            given = iter(args[num_args:])
            held = [next(given) if g else c for g, c in zip(is_given, consts, strict=True)]
            results = tuple(internals.evaluate_jaxpr(jaxpr, held, args[:num_args]))
            differing[:] = map(internals.is_batched, results)
            return results

        batch = jax.vmap(
            element,
            tuple(_or_none(axis) for axis in mapped),
            tuple(_or_none(axis) for axis in out_axes),
            axis_name=axis_name,
            axis_size=size,
        )
        avals = [
            batched_aval(v.aval, axis, size) for v, axis in zip(variables, mapped, strict=True)
        ]
        names = [*self.traced.in_names, *(f"const{i}" for i in range(len(variables) - num_args))]
        traced = internals.trace_rule(
            lambda _, *args: batch(*args), avals, name="batch", arg_names=names
        )
        return traced, differing

    def _check_results(self, traced: TracedJaxpr, size: int, out_axes: Sequence[int]) -> None:
        """A rule may return anything, and JAX does not look."""
        for position, (aval, axis) in enumerate(zip(traced.out_avals, out_axes, strict=True)):
            wanted = batched_aval(self.traced.out_avals[position], axis, size)
            if (aval.shape, aval.dtype) != (wanted.shape, wanted.dtype):
                raise ValueError(
                    "by the rule of a function with a batching rule (custom_vmap), result "
                    f"{position} of a batch of {size} is {aval.str_short()}, but the function "
                    f"makes it {wanted.str_short()}; return a result of that shape from the rule"
                )


def _or_none(axis: int) -> int | None:
    return axis if axis >= 0 else None
