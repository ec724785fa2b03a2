"""Rules of calls: of jaxprs, and of programs that bmgrad compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._references import split_references
from bmgrad._import._registry import CALLEES, REMATS, SHARD_MAP, Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule(*(name for name in CALLEES if name not in (*REMATS, SHARD_MAP)), keys=True)
def _call(b: Importer, eqn: Equation) -> list[Value]:
    closed, operands = b.bind(eqn.params[CALLEES[eqn.primitive.name]], b.read_operands(eqn))
    name = eqn.params.get("name") or eqn.primitive.name
    return b.call(closed, operands, str(name))


@rule("bmgrad_program", keys=True)
def _program(b: Importer, eqn: Equation) -> list[Value]:
    program, operands = eqn.params["program"], b.read_operands(eqn)
    if len(split_references(operands)[1]) < len(program.references):
        # JAX has put values in the place of its references, which no derivative is taken after.
        return import_kernel(b, eqn)
    return b.call_program(program, operands)
