"""References (`jax.new_ref`) as primals of ``vjp``, ``jvp`` and ``linearize``.

What such a reference holds is differentiated, and its tangent or cotangent is in a reference
too, which changes as the primal does: after a call it holds that of what the primal holds then
(``jvp``), or held before (``vjp``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._held_reference import HeldReference
from bmgrad._transforms._trace import TracedFunction
from bmgrad.runtime._jax_internals import has_tangent, is_reference, referenced_aval

# JAX's type annotations say that this is a module.
_ad: Any = vars(jax)["ad"]


def check_reference(given: Any, primal: Any, what: str) -> None:
    """Raises where ``given`` is no reference to what references of the aval ``primal`` hold."""
    wanted = referenced_aval(primal)
    came = referenced_aval(jax.typeof(given)) if is_reference(given) else None
    if came is None or (came.shape, came.dtype) != (wanted.shape, wanted.dtype):
        raise TypeError(
            f"{what} is {given!r}, but the primal is a reference (jax.new_ref): give a reference "
            f"of shape {wanted.shape} and dtype {wanted.dtype}"
        )


# Why a program does not take what a reference holds.
_CONSTANT = "that a derivative rule is given too, or that keeps gradients out"


def check_gradient(reference: Any, primal: Any) -> None:
    """Raises where gradients by primals of this aval do not fit into ``reference``."""
    came = referenced_aval(jax.typeof(reference))
    if has_tangent(primal) and (came.shape, came.dtype) != (primal.shape, primal.dtype):
        raise ValueError(
            f"with_refs was given a reference of shape {came.shape} and dtype {came.dtype}, but "
            f"the gradient by this primal requires a ref of type {primal.str_short()}"
        )


@dataclasses.dataclass(frozen=True)
class _Held:
    """A primal that is a reference, in a program that takes what it holds.

    ``input`` is its input, and ``result`` the place of what it holds afterwards among the
    results that have tangents; None where it does not change.
    """

    input: int
    result: int | None


@dataclasses.dataclass(frozen=True)
class HeldPrimals:
    """The primals that are references, in order.

    Attributes:
      avals: of them.
      references: how each is differentiated; None for what no derivative is taken of: it holds
        integers, is not used, or a derivative rule is given it.
      is_constant: for which of these the function looks at the reference itself.
    """

    avals: tuple[Any, ...]
    references: tuple[_Held | None, ...]
    is_constant: tuple[bool, ...]

    @classmethod
    def of(
        cls, traced: TracedFunction, arguments: Arguments, moving: Sequence[bool] | None = None
    ) -> HeldPrimals:
        """Those among the arguments, of which derivatives are taken by the ``moving`` ones."""
        if not arguments.references:
            return _NONE
        inexact = [i for i, aval in enumerate(traced.program.out_avals) if has_tangent(aval)]
        first_write = traced.num_results
        reads = {
            id(array.reference): traced.first_read + i
            for i, array in enumerate(traced.reads)
            if isinstance(array, HeldReference)
        }
        writes = {
            id(array.reference): first_write + i
            for i, array in enumerate(traced.writes)
            if isinstance(array, HeldReference)
        }
        kept = {id(x) for x in traced.references_in(arguments).values()}
        found: list[_Held | None] = []
        for reference, moves in zip(
            arguments.references, moving or [True] * len(arguments.references), strict=True
        ):
            known = reads.get(id(reference)) if moves else None
            if known is None or not has_tangent(traced.program.in_avals[known]):
                found.append(None)
                continue
            position = writes.get(id(reference))
            found.append(_Held(known, None if position is None else inexact.index(position)))
        avals = tuple(map(jax.typeof, arguments.references))
        constant = tuple(id(reference) in kept for reference in arguments.references)
        return cls(avals, tuple(found), constant)

    @property
    def inputs(self) -> set[int]:
        """The inputs of the program that are differentiated."""
        return {each.input for each in self.references if each}

    def _in_order(self) -> list[tuple[int, _Held]]:
        """In the order of inputs, with the place among the references."""
        known = [(i, each) for i, each in enumerate(self.references) if each]
        return sorted(known, key=lambda pair: pair[1].input)

    def _changed(self) -> list[tuple[int, int]]:
        """The results of those that change, in their order, with the place of the reference."""
        known = [(each.result, i) for i, each in self._in_order() if each.result is not None]
        return sorted(known)

    def check_all(self, function: str) -> None:
        """Raises where a derivative by one cannot be taken."""
        if any(self.is_constant):
            raise TypeError(
                f"a primal of {function} is a reference (jax.new_ref) {_CONSTANT}, so it has no "
                f"tangent; close over it, as in {function}(lambda x: f(ref, x), ...)"
            )

    # -- Forward mode --------------------------------------------------------------------------

    def read_tangents(self, tangents: Sequence[Any]) -> list[Any]:
        """What the program takes after the tangents of arrays, given references to tangents."""
        return [tangents[i][...] for i, _ in self._in_order()]

    def write_tangents(self, tangents: Sequence[Any], results: Sequence[Any]) -> None:
        """Puts what primals hold afterwards the tangents of into those of ``tangents``."""
        for result, i in self._changed():
            tangents[i][...] = results[result]

    # -- Reverse mode --------------------------------------------------------------------------

    def check_kinds(self, kinds: Sequence[Any]) -> None:
        """Raises where ``with_refs`` was given something else than this can do."""
        for i, (kind, aval) in enumerate(zip(kinds, self.avals, strict=True)):
            if isinstance(kind, _ad.DontWant):
                continue
            if self.is_constant[i]:
                raise TypeError(
                    f"with_refs was given {kind!r} for a primal that is a reference (jax.new_ref) "
                    f"{_CONSTANT}, so it has no cotangent; say jax.ad.DontWant(), or close over "
                    "that one, as in vjp(lambda x: f(ref, x), x)"
                )
            if not is_reference(kind):
                raise ValueError(
                    f"with_refs was given {kind!r} for a primal that is a reference (jax.new_ref), "
                    "whose gradient can't be returned as a value; give a reference to add it to, "
                    "or jax.ad.DontWant()"
                )
            check_gradient(kind, referenced_aval(aval))
            held = self.references[i]
            if held and held.result is not None and sum(kind is other for other in kinds) > 1:
                raise ValueError(
                    "with_refs was given one reference for several primals, of which the function "
                    "changes one, so that it would hold the gradient by that alone; give each its "
                    "own"
                )

    def check_left_out(self) -> None:
        """Raises where a gradient by one would be lost."""
        if any(self.references) or any(
            constant and has_tangent(referenced_aval(aval))
            for constant, aval in zip(self.is_constant, self.avals, strict=True)
        ):
            raise ValueError(
                "a primal is a reference (jax.new_ref), whose gradient cannot be returned as a "
                "value: give a reference to add it to, as in vjp_fn.with_refs(gradient)(ct), or "
                "say jax.ad.DontWant() in its place"
            )

    def cotangents(self, references: Sequence[Any]) -> tuple[list[bool], set[int], list[Any]]:
        """Which inputs have cotangents, in order, which results, and what those of these are."""
        asked = [references[i] is not None for i, _ in self._in_order()]
        changed = [(result, i) for result, i in self._changed() if references[i] is not None]
        return asked, {result for result, _ in changed}, [references[i][...] for _, i in changed]

    def accumulate(self, references: Sequence[Any], cotangents: Iterator[Any]) -> None:
        """Puts the cotangents of what the primals held into ``references``."""
        for i, each in self._in_order():
            if references[i] is None:
                continue
            if each.result is None:
                jax.ref.addupdate(references[i], ..., next(cotangents))
            else:
                references[i][...] = next(cotangents)


_NONE = HeldPrimals((), (), ())
