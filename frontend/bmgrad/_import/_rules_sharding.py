"""`jax.shard_map` over a mesh of one device: its function is called as it is.

In: an equation of it. Out: the call of its jaxpr, in which collectives over the axes of the mesh
find one element (`_rules_collective.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import CALLEES, SHARD_MAP, Equation, rule
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule(SHARD_MAP, keys=True)
def _shard_map(b: Importer, eqn: Equation) -> list[Value]:
    mesh = eqn.params["mesh"]
    if mesh.size != 1:
        raise Unsupported(
            f"it divides its work between {mesh.size} devices, and a program is for one; call "
            "bm.grad or bm.jit inside jax.shard_map, not around it"
        )
    closed, operands = b.bind(eqn.params[CALLEES[SHARD_MAP]], b.read_operands(eqn))
    with b.within(b.in_rules.on_one_device(eqn.params)):
        return b.call(closed, operands, SHARD_MAP)
