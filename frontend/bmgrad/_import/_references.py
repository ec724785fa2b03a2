"""References (`jax.new_ref`), which are no values of the IR: what uses one says its name.

In: a jaxpr that takes references, and the ones that it is given. Out: the same jaxpr as one
that closes over them, so what is written for it is for these references only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bmgrad._import._text import Value


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """A reference by its name in the program; `aval` is JAX's."""

    name: str
    aval: Any


Operand = Value | Reference
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, eq=False)
class _Opened:
    """As much of a jaxpr as the importer looks at."""

    constvars: Sequence[Any]
    invars: Sequence[Any]
    outvars: Sequence[Any]
    eqns: Sequence[Any]
    effects: Any
    debug_info: Any


@dataclass(frozen=True, eq=False)
class ClosedOver:
    """As much of a closed jaxpr, whose constants may be references."""

    jaxpr: _Opened
    consts: Sequence[Any]

    @property
    def eqns(self) -> Sequence[Any]:
        return self.jaxpr.eqns

    @property
    def effects(self) -> Any:
        return self.jaxpr.effects

    @property
    def in_avals(self) -> list[Any]:
        return [var.aval for var in self.jaxpr.invars]

    @property
    def out_avals(self) -> list[Any]:
        return [var.aval for var in self.jaxpr.outvars]


def close_over(closed: Any, references: Mapping[int, Reference]) -> ClosedOver:
    """`closed`, a jaxpr that is closed or not, with `references` as these of its inputs."""
    jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
    return ClosedOver(
        _Opened(
            [*jaxpr.constvars, *(jaxpr.invars[i] for i in references)],
            [var for i, var in enumerate(jaxpr.invars) if i not in references],
            jaxpr.outvars,
            jaxpr.eqns,
            jaxpr.effects,
            jaxpr.debug_info,
        ),
        [*consts, *references.values()],
    )


def split_references(operands: Sequence[Operand]) -> tuple[list[Value], dict[int, Reference]]:
    """The values among operands, and the references by position."""
    values = [x for x in operands if isinstance(x, Value)]
    return values, {i: x for i, x in enumerate(operands) if isinstance(x, Reference)}


def with_references(values: Sequence[_T], references: Mapping[int, _R]) -> list[_T | _R]:
    """What `split_references` took apart."""
    given = iter(values)
    count = len(values) + len(references)
    return [references[i] if i in references else next(given) for i in range(count)]
