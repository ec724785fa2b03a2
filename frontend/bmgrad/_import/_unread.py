"""Functions with reverse rules whose results no derivative goes through.

In: a jaxpr. Out: the same, in which the calls of such functions say so, as of `f` in
`stop_gradient(f(x))`: their rules are not followed, and what these cost is not paid. That is true
of derivatives of each order, as what stands between a result and those of the jaxpr has derivative
zero. Next: `_rules_custom.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal

from bmgrad._import._jaxprs import LOOPS, READ, STEPS, equations, known_name
from bmgrad._import._registry import CALLEES, Equation
from bmgrad.runtime._jax_internals import has_tangent

Flags = tuple[bool, ...]


def has_reverse_rules(jaxpr: Any) -> bool:
    """Whether a function that `jaxpr` calls has a reverse rule of its own."""
    return any(eqn.primitive.name == "custom_vjp_call" for eqn in equations(jaxpr))


def with_unread_marked(jaxpr: Any) -> Any:
    """`jaxpr` where the calls of functions with reverse rules that are unread say so."""
    if not has_reverse_rules(jaxpr):
        return jaxpr
    return _Marker().mark(jaxpr, (True,) * len(jaxpr.outvars))[0]


def _is_step(eqn: Equation) -> bool:
    if known_name(eqn) not in STEPS:
        return False
    # The sign of a complex number has a derivative.
    return not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.complexfloating)


def unread_in(jaxpr: Any) -> Any:
    """`jaxpr` of whose results none is read, marked so."""
    return _Marker().mark(jaxpr, (False,) * len(jaxpr.outvars))[0]


class _Marker:
    """Marks each inner jaxpr once for the same results; those of loops may all be read."""

    def __init__(self) -> None:
        self._marked: dict[tuple[int, Flags], tuple[Any, Flags, Any]] = {}

    def mark(self, jaxpr: Any, read: Flags) -> tuple[Any, Flags]:
        """The marked jaxpr, and which inputs have cotangents where results that are `read` do."""
        if (key := (id(jaxpr), read)) not in self._marked:
            # The jaxpr is kept, or another could take over its identity.
            self._marked[key] = (*self._mark(jaxpr, read), jaxpr)
        marked, inputs, _ = self._marked[key]
        return marked, inputs

    def _mark(self, jaxpr: Any, read: Flags) -> tuple[Any, Flags]:
        opened = getattr(jaxpr, "jaxpr", jaxpr)
        live = set(_variables(itertools.compress(opened.outvars, read)))
        eqns = []
        for eqn in reversed(opened.eqns):
            of_results = tuple(var in live for var in eqn.outvars)
            marked, inputs = self._marked_call(eqn, of_results)
            live.update(_variables(itertools.compress(eqn.invars, inputs)))
            eqns.append(marked)
        marked = opened.replace(eqns=eqns[::-1])
        inputs = tuple(var in live for var in opened.invars)
        return (marked if opened is jaxpr else jaxpr.replace(jaxpr=marked)), inputs

    def _marked_call(self, eqn: Equation, read: Flags) -> tuple[Equation, Flags]:
        """A marked equation, and which of its operands have cotangents."""
        name, params = known_name(eqn), eqn.params
        inputs = tuple(has_tangent(atom.aval) for atom in eqn.invars)
        # What has an effect may put its operands into a reference.
        if not any(read) and not eqn.effects:
            inputs = (False,) * len(inputs)
        changed: dict[str, Any] = {}
        if name == "custom_vjp_call" and not any(read):
            changed[READ] = read
        elif name in CALLEES:
            changed[CALLEES[name]], flags = self.mark(params[CALLEES[name]], read)
            if len(flags) == len(inputs) and not eqn.effects:
                inputs = flags
        elif name == "cond":
            marked = [self.mark(branch, read) for branch in params["branches"]]
            changed["branches"] = tuple(branch for branch, _ in marked)
        elif name in LOOPS:
            body = params[LOOPS[name]]
            changed[LOOPS[name]], _ = self.mark(body, (True,) * len(body.out_avals))
        elif _is_step(eqn):
            inputs = (False,) * len(inputs)
        return (eqn.replace(params={**params, **changed}) if changed else eqn), inputs


def _variables(atoms: Iterable[Any]) -> Iterator[Any]:
    return (atom for atom in atoms if not isinstance(atom, Literal))
