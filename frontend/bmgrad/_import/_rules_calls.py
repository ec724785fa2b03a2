"""Rules of calls: of jaxprs, and of programs that bmgrad compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._registry import CALLEES, REMATS, Equation, rule
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule(*(name for name in CALLEES if name not in REMATS), keys=True)
def _call(b: Importer, eqn: Equation) -> list[Value]:
    closed = eqn.params[CALLEES[eqn.primitive.name]]
    name = eqn.params.get("name") or eqn.primitive.name
    return b.call(closed, b.read_all(eqn), str(name))


@rule("bmgrad_program", keys=True)
def _program(b: Importer, eqn: Equation) -> list[Value]:
    return b.call_program(eqn.params["program"], b.read_all(eqn))
