"""Which arguments a derivative perturbs, for rules that ask (`symbolic_zeros`).

In: a jaxpr and which of its inputs a derivative is taken of. Out: the same jaxpr, in which
the calls of functions with such rules say which of their arguments depend on those inputs,
and which of their results nobody reads. Without it, rules are told that all may have tangents
and cotangents. Next: `_rules_custom.py`, which asks the rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jax.extend.core import Literal

from bmgrad._import._asked import AskedRules
from bmgrad._import._errors import RuleRaised
from bmgrad._import._jaxprs import READ, STEPS, equations, known_name
from bmgrad._import._registry import CALLEES, Equation
from bmgrad.runtime import _hijax
from bmgrad.runtime._foreign import has_own_jvp
from bmgrad.runtime._jax_internals import has_tangent, scan_counts

Flags = tuple[bool, ...]

# The parameter that is added to equations, beside `READ`.
_PERTURBED = "bmgrad_perturbed"


def perturbed_arguments(eqn: Equation, num_consts: int = 0) -> tuple[bool, ...]:
    """Which operands of a call, but the first, may have a tangent, as its rule is told."""
    inexact = tuple(has_tangent(atom.aval) for atom in eqn.invars[num_consts:])
    flags: Flags = eqn.params.get(_PERTURBED, inexact)[-len(inexact) :]
    # A derivative of the derivative may perturb what the first one does not.
    return flags if any(flags) else inexact


def marked(eqn: Equation, active: Sequence[bool]) -> Equation:
    """A call of which the operands `active` have tangents, if its rule is told."""
    if not (_is_asked(eqn) or _PERTURBED in eqn.params):
        return eqn
    return eqn.replace(params={**eqn.params, _PERTURBED: tuple(active)})


def is_unperturbed(eqn: Equation) -> bool:
    """Whether an operand of a call can have a tangent in derivatives of derivatives only."""
    return not any(eqn.params.get(_PERTURBED, (True,)))


def unmarked_params(eqn: Equation) -> dict[str, Any]:
    """The parameters of an equation without what is added here."""
    return {name: value for name, value in eqn.params.items() if name not in (_PERTURBED, READ)}


def read_results(eqn: Equation) -> Flags:
    """Which results of a call may have a cotangent."""
    read: Flags = eqn.params.get(READ, (True,) * len(eqn.outvars))
    return read


def asks(jaxpr: Any) -> bool:
    """Whether a rule in `jaxpr`, or in what it calls, is told which arguments are perturbed."""
    return any(map(_is_asked, equations(jaxpr)))


def _is_asked(eqn: Equation) -> bool:
    name = known_name(eqn)
    if name == "bmgrad_program":
        return bool(eqn.params["program"].asks)
    if name == "call_hi_primitive":
        prim = eqn.params["_prim"]
        return not (_hijax.mode_of(prim) is None or _hijax.has_own_derivative(prim))
    return bool(eqn.params.get("symbolic_zeros")) or has_own_jvp(eqn.primitive)


class Marker:
    """Marks the calls of a jaxpr; each inner jaxpr once for the same inputs and results.

    With `all_reverse` those of functions with reverse rules that do not ask are marked too.
    """

    def __init__(self, asked: AskedRules, *, all_reverse: bool = False) -> None:
        self._asked, self._all_reverse = asked, all_reverse
        self._marked: dict[tuple[int, Flags, Flags | None], tuple[Any, Flags, Any]] = {}

    def mark(
        self, jaxpr: Any, inputs: Sequence[bool], read: Flags | None = None
    ) -> tuple[Any, Flags]:
        """The marked jaxpr, and which results are perturbed where `inputs` are.

        `read` says which results anybody reads, by default all.
        """
        key = id(jaxpr), tuple(inputs), read
        if key not in self._marked:
            # The jaxpr is kept, or another could take over its identity.
            self._marked[key] = (*self._mark(jaxpr, inputs, read), jaxpr)
        marked, results, _ = self._marked[key]
        return marked, results

    def _mark(self, jaxpr: Any, inputs: Sequence[bool], read: Flags | None) -> tuple[Any, Flags]:
        opened = getattr(jaxpr, "jaxpr", jaxpr)
        # Versions of JAX differ in which of these a jaxpr calls constants.
        variables = [*opened.constvars, *opened.invars]
        first = len(variables) - len(inputs)
        flags = dict(zip(variables[first:], inputs, strict=True))
        returned = itertools.compress(opened.outvars, read or itertools.repeat(True))
        live = {atom for atom in returned if not isinstance(atom, Literal)}
        for eqn in reversed(opened.eqns):
            if eqn.effects or not live.isdisjoint(eqn.outvars):
                live.update(atom for atom in eqn.invars if not isinstance(atom, Literal))

        def perturbed(atoms: Sequence[Any]) -> list[bool]:
            return [not isinstance(atom, Literal) and flags.get(atom, False) for atom in atoms]

        eqns = []
        for eqn in opened.eqns:
            read = eqn.params.get(READ) or tuple(var in live for var in eqn.outvars)
            params, results = self._marked_call(eqn, perturbed(eqn.invars), read)
            eqns.append(eqn.replace(params={**eqn.params, **params}) if params else eqn)
            flags.update(zip(eqn.outvars, results, strict=True))
        marked, of_results = opened.replace(eqns=eqns), tuple(perturbed(opened.outvars))
        return (marked if opened is jaxpr else jaxpr.replace(jaxpr=marked)), of_results

    def _marked_call(
        self, eqn: Equation, inputs: list[bool], read: Flags
    ) -> tuple[dict[str, Any], Sequence[bool]]:
        """The parameters to change, and which results are perturbed."""
        name, params = known_name(eqn), eqn.params
        if name in CALLEES:
            jaxpr, results = self.mark(params[CALLEES[name]], inputs, read)
            return {CALLEES[name]: jaxpr}, results
        if name == "scan":
            jaxpr, results = self._mark_loop(params["jaxpr"], inputs, *scan_counts(params))
            return {"jaxpr": jaxpr}, results
        if name == "while":
            of_body = inputs[params["cond_nconsts"] :]
            counts = params["body_nconsts"], len(eqn.outvars)
            jaxpr, results = self._mark_loop(params["body_jaxpr"], of_body, *counts)
            return {"body_jaxpr": jaxpr}, results
        if name == "cond":
            marked = [self.mark(branch, inputs[1:], read) for branch in params["branches"]]
            by_result = zip(*(flags for _, flags in marked), strict=True)
            return {"branches": tuple(jaxpr for jaxpr, _ in marked)}, list(map(any, by_result))
        passes = any(inputs) and name not in STEPS
        perturbed = [passes and has_tangent(var.aval) for var in eqn.outvars]
        if not (_is_asked(eqn) or (self._all_reverse and name == "custom_vjp_call")):
            return {}, perturbed
        if name == "bmgrad_program":
            return {"program": params["program"].perturbed(inputs)}, perturbed
        if name == "custom_jvp_call" and any(perturbed):
            perturbed = self._told_by_rule(eqn, inputs, perturbed)
        return {_PERTURBED: tuple(inputs), READ: read}, perturbed

    def _told_by_rule(
        self, eqn: Equation, inputs: Sequence[bool], perturbed: list[bool]
    ) -> list[bool]:
        """Those of the `perturbed` results that the rule of a call does not say are zero."""
        try:
            made = self._asked.jvp(eqn.params, inputs[eqn.params["num_consts"] :])
        except RuleRaised:
            return perturbed  # It is asked again where the derivative is needed.
        is_zero = [*[False] * made.num_errors, *made.out_zeros]
        return [flag and not zero for flag, zero in zip(perturbed, is_zero, strict=True)]

    def _mark_loop(
        self, body: Any, inputs: list[bool], first: int, count: int
    ) -> tuple[Any, Flags]:
        """The body of a loop whose `count` carries are inputs from `first` on."""
        while True:
            jaxpr, results = self.mark(body, inputs)
            before = inputs[first : first + count]
            carries = [a or b for a, b in zip(before, results[:count], strict=True)]
            if carries == before:
                return jaxpr, (*carries, *results[count:])
            inputs = [*inputs[:first], *carries, *inputs[first + count :]]
