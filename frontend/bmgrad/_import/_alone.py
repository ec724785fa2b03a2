"""Equations that are imported by themselves, when the rules that were put off are needed.

In: a call, and which of its rules are wanted. Out: a module of just that call with these rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from jax.extend.core import Literal

from bmgrad._import._errors import UnsupportedError
from bmgrad._import._perturbed import Marker, perturbed_arguments
from bmgrad._import._registry import Equation
from bmgrad._import._rule_scope import RuleScope
from bmgrad._import._rules_foreign import trace_flat
from bmgrad._import._rules_kernel import kernel_number
from bmgrad._import._write import write_module
from bmgrad.runtime import _kernels
from bmgrad.runtime._batchers import Batch
from bmgrad.runtime._jax_internals import TracedJaxpr
from bmgrad.runtime._put_off import WithRules

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@dataclasses.dataclass(eq=False)
class Needs:
    """What is said of a program beside its module, for the derivative rules in it as well."""

    effects: set[Any] = dataclasses.field(default_factory=set)
    devices: bool = False
    # Whether a derivative rule has a `checkify.check` that its function has not.
    rules_check: bool = False

    def beyond(self, declared: Needs) -> str:
        """What is needed more than was `declared`, in words."""
        further = [str(effect) for effect in self.effects - declared.effects]
        further += ["a check"] * (self.rules_check > declared.rules_check)
        further += ["a need to know the devices"] * (self.devices > declared.devices)
        return ", ".join(further)


class Alone(NamedTuple):
    """An equation to import by itself, with the rules that were put off.

    `declared` is what is said of the program that has it. `transposes` are the operands, together,
    with respect to which it is transposed; with `waits` its forward rule is still put off.
    """

    eqn: Equation
    captures: Sequence[Any]
    make_importer: Callable[[], Importer]
    in_rules: RuleScope
    policy: Callable[..., Any] | None
    declared: Needs
    transposes: tuple[tuple[int, ...], ...]
    waits: bool

    def imported(self) -> WithRules:
        return self._imported(lambda _: self._function())

    def over(self, batch: Batch) -> WithRules:
        """What the equation is over a batch, by the batching rule of its primitive."""
        return self._imported(lambda importer: self._function_over(batch, importer))

    def _imported(self, function: Callable[[Importer], tuple[TracedJaxpr, Any]]) -> WithRules:
        importer = self.make_importer()
        importer.policy, importer.alone = self.policy, self
        name = str(self.eqn.primitive.name)
        with self.in_rules():
            traced, jaxpr = function(importer)
            source, found = write_module(
                importer, traced, jaxpr, name, self.captures, consts_are_known=True
            )
        if len(found) != len(self.captures) or importer.module.references:
            raise UnsupportedError(
                f"the derivative rule of `{name}` reads a value of a trace around it, or a "
                "reference, that was not known to be needed; pass it to the function as an "
                "argument"
            )
        if further := importer.needs.beyond(self.declared):
            raise UnsupportedError(
                f"the derivative rule of `{name}`, called in the derivative rule of another "
                f"function, has {further}, of a kind that nothing has that was imported before; "
                "leave it out of the rule, or take fewer derivatives"
            )
        return WithRules(source, importer.put_off)

    def _function(self) -> tuple[TracedJaxpr, Any]:
        """A function of just the equation, which takes each of its operands."""
        inputs: list[Any] = []
        for atom in self.eqn.invars:
            is_new = not isinstance(atom, Literal) and atom not in inputs
            inputs.append(atom if is_new else _Unread(atom.aval))
        outvars = self.eqn.outvars
        jaxpr = SimpleNamespace(constvars=[], invars=inputs, outvars=outvars, eqns=[self.eqn])
        in_avals, out_avals = ([v.aval for v in group] for group in (inputs, outvars))
        names = [f"x{i}" for i in range(len(inputs))]
        return TracedJaxpr(jaxpr, [], in_avals, out_avals, names), jaxpr

    def _function_over(self, batch: Batch, importer: Importer) -> tuple[TracedJaxpr, Any]:
        eqn = self.eqn
        fun, avals = _kernels.over_batches(kernel_number(eqn), (batch,))
        traced = trace_flat(fun, avals, f"{eqn.primitive.name}.batch")
        perturbed = perturbed_arguments(eqn)
        jaxpr, _ = Marker(importer.asked).mark(traced.jaxpr, perturbed)
        for linear in self.transposes:
            importer.tangents.note(jaxpr, [jaxpr.invars[i] for i in linear])
        return traced, jaxpr


@dataclasses.dataclass(eq=False)
class _Unread:
    """The input for an operand that is a literal, or another operand once more."""

    aval: Any
