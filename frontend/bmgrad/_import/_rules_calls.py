"""Rules of calls: of jaxprs, and of programs that bmgrad compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

# How each call primitive names the jaxpr that it calls.
_CALLEES = {
    "call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "composite": "jaxpr",
    "core_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "custom_vmap_call": "call",
    "eval_jaxpr": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "remat_opt": "fwd_jaxpr",
    "xla_metadata_call": "jaxpr",
}


@rule(*_CALLEES, keys=True)
def _call(b: Importer, eqn: Equation) -> list[Value]:
    closed = eqn.params[_CALLEES[eqn.primitive.name]]
    name = eqn.params.get("name") or eqn.primitive.name
    return b.call(closed, b.read_all(eqn), str(name))


@rule("bmgrad_program", keys=True)
def _program(b: Importer, eqn: Equation) -> list[Value]:
    return b.call_program(eqn.params["program"], b.read_all(eqn))
