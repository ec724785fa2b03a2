"""Which operands of a forward rule's equations depend on the tangents that it is given.

A primitive that brings its transpose is asked for it with those operands together: the compiler
can ask no more when it finds them linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Literal

from bmgrad._import._registry import CALLEES


class Tangents:
    """Of equations, by identity."""

    def __init__(self) -> None:
        # The equations are kept, or others could take over their identity.
        self._noted: dict[int, tuple[Any, tuple[int, ...]]] = {}

    def of(self, eqn: Any) -> tuple[int, ...]:
        """The operands of `eqn` that depend on tangents; none outside forward rules."""
        _, positions = self._noted.get(id(eqn), (None, ()))
        return positions

    def note(self, jaxpr: Any, inputs: Sequence[Any]) -> None:
        """Follows the tangents `inputs`, some of the inputs of `jaxpr`, through its equations."""
        dependent = set(inputs)
        for eqn in jaxpr.eqns:
            positions = tuple(
                i
                for i, atom in enumerate(eqn.invars)
                if not isinstance(atom, Literal) and atom in dependent
            )
            if not positions:
                continue
            self._noted[id(eqn)] = eqn, positions
            dependent.update(eqn.outvars)
            if name := CALLEES.get(eqn.primitive.name):
                inner = eqn.params[name]
                inner = getattr(inner, "jaxpr", inner)
                self.note(inner, [inner.invars[i] for i in positions])
