"""Primitives without an op: kernels, whose lowering JAX supplies.

In: any equation. Out: a `bm.kernel` with the number that the runtime's registry
gives to the primitive with its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i64, string
from bmgrad.runtime import _kernels

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def import_kernel(b: Importer, eqn: Equation) -> list[Value]:
    """The rule of primitives that have no other."""
    if eqn.effects:
        effects = ", ".join(sorted(str(effect) for effect in eqn.effects))
        raise Unsupported(
            f"it has side effects ({effects}), which a bmgrad program cannot hold; return "
            "what it needs from the function and do it outside"
        )
    number = _kernels.register(eqn.primitive, eqn.params, [atom.aval for atom in eqn.invars])
    types = [b.type(var.aval) for var in eqn.outvars]
    attributes = f"id = {i64(number)}, name = {string(eqn.primitive.name)}"
    return b.multi_op("bm.kernel", b.read_all(eqn), types, attributes)


@rule("pure_callback")
def _callback(b: Importer, eqn: Equation) -> list[Value]:
    raise Unsupported(
        "a program runs without Python, so it cannot call back into it; call the function "
        "outside, or write it with jax.numpy"
    )
