"""What analyses of jaxprs need to know: what an equation is, and which functions it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bmgrad._import._registry import CALLEES, Equation, rule_of

# The parameter that says which results of a call anybody reads.
READ = "bmgrad_read"

# Loops, and the parameters that are their bodies.
LOOPS = {"scan": "jaxpr", "while": "body_jaxpr"}

# What has derivative zero of floats, as JAX says when it asks rules.
STEPS = frozenset({"ceil", "floor", "round", "sign", "stop_gradient"})


def known_name(eqn: Equation) -> str:
    """The primitive's name where the importer has a rule for it; another library's has none."""
    return str(eqn.primitive.name) if rule_of(eqn.primitive) else ""


def inner_jaxprs(eqn: Equation) -> list[Any]:
    """The functions that an equation calls, but those that have rules."""
    params, name = eqn.params, known_name(eqn)
    if name in CALLEES:
        return [params[CALLEES[name]]]
    if name in LOOPS:
        return [params[LOOPS[name]]]
    return list(params["branches"]) if name == "cond" else []


def equations(jaxpr: Any) -> Iterator[Equation]:
    """Those of `jaxpr`, and of what it calls, each once."""
    pending, known = [jaxpr], {id(jaxpr)}
    while pending:
        jaxpr = pending.pop()
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
            yield eqn
            inner = [each for each in inner_jaxprs(eqn) if id(each) not in known]
            known.update(map(id, inner))
            pending += inner
