"""Rules of reads and writes of references from outside.

In: an equation on a reference (`jax.new_ref`). Out: a kernel with a side effect, ordered among
those on the same reference by the reference's name. It has no derivative: a reference has no
tangent, so what has one cannot be written to it, and what is read has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._references import split_references
from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i64, string
from bmgrad.runtime import _kernels
from bmgrad.runtime._jax_internals import keeps_gradients_out, referenced_aval

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("get", "swap", "addupdate", keys=True)
def _access(b: Importer, eqn: Equation) -> list[Value]:
    operands, references = split_references(b.read_operands(eqn))
    reference = references[0]
    if operands and eqn.primitive.name != "get" and keeps_gradients_out(reference.aval):
        operands[0] = b.op("bm.stop_gradient", [operands[0]], operands[0].type)
    held = referenced_aval(reference.aval)
    in_avals = [atom.aval for atom in eqn.invars[1:]]
    number = _kernels.register(eqn.primitive, eqn.params, in_avals, held)
    attributes = (
        f"id = {i64(number)}, name = {string(eqn.primitive.name)}, has_side_effect, "
        f"ordered = [{string(reference.name)}], reference = {b.type(held).text}"
    )
    types = [b.type(var.aval) for var in eqn.outvars]
    return b.multi_op("bm.kernel", operands, types, attributes)
