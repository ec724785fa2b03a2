"""Primitives without an op: kernels, whose lowering JAX supplies.

In: any equation. Out: a `bm.kernel` with the number that the runtime's registry
gives to the primitive with its parameters, and around it the rules that the primitive
of a third party brings (`_rules_foreign.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._errors import Unsupported
from bmgrad._import._perturbed import perturbed_arguments, unmarked_params
from bmgrad._import._registry import Equation
from bmgrad._import._rules_custom import emit_put_off, side_effect
from bmgrad._import._rules_foreign import (
    ForeignRules,
    Write,
    call_foreign,
    foreign_rules,
    has_rules,
)
from bmgrad._import._text import Value, i64, string
from bmgrad.runtime import _kernels
from bmgrad.runtime._foreign import has_batching_rule
from bmgrad.runtime._jax_internals import (
    axes_of,
    has_tangent,
    needs_devices,
    ordered_effects,
    refused_effects,
)

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def import_kernel(b: Importer, eqn: Equation) -> list[Value]:
    """The rule of primitives that have no other."""
    if refused := refused_effects(eqn.effects):
        raise Unsupported(
            f"it has side effects ({', '.join(refused)}) that a bmgrad program cannot hold. Return "
            "what it needs from the function and do it there"
        )
    if axes := axes_of(eqn.effects):
        names = ", ".join(map(str, axes))
        raise Unsupported(
            f"it works over the named axis {names}, as no program can hold it; of JAX's "
            "collectives psum, pmax, pmin, ppermute, pbroadcast, all_gather, psum_scatter, "
            "all_to_all and axis_index are supported"
        )
    number, emit = kernel(b, eqn)
    in_avals = [atom.aval for atom in eqn.invars]
    out_avals = [var.aval for var in eqn.outvars]
    active = perturbed_arguments(eqn)

    together = tuple(i for i in b.tangents.of(eqn) if has_tangent(in_avals[i]))
    # What depends on tangents in a rule is transposed in reverse mode.
    wanted = b.transposes_of(eqn)
    linear = (together,) if together else wanted
    key = ("kernel", number, active)
    in_progress = (*key, linear, False)
    waits = has_rules(eqn.primitive, in_avals, out_avals) and b.puts_off(eqn, in_progress)
    if waits and not linear:
        types = [b.type(aval) for aval in in_avals]
        return emit_put_off(
            b,
            eqn,
            eqn.primitive.name,
            (eqn,),
            lambda: b.module.body(types, emit),
            ", linear = [], transposes = []",
        )

    def rules_for() -> ForeignRules | None:
        return foreign_rules(eqn, in_avals, out_avals, active, linear, waits, b.is_lazy, wanted)

    rules = b.once((), rules_for, ("rules", *key, linear, waits))
    if rules is not None:
        return call_foreign(b, eqn, key, rules, emit)
    return emit(b.read_all(eqn))


def kernel_number(eqn: Equation) -> int:
    """The number of the equation's kernel in the registry."""
    return _kernels.register(
        eqn.primitive,
        unmarked_params(eqn),
        [atom.aval for atom in eqn.invars],
        is_partitionable=eqn.ctx.threefry_partitionable,
    )


def kernel(b: Importer, eqn: Equation) -> tuple[int, Write]:
    """The number of the equation's kernel, and what writes it."""
    b.needs.effects |= eqn.effects
    b.needs.devices |= needs_devices(eqn)
    out_types = [b.type(var.aval) for var in eqn.outvars]
    number = kernel_number(eqn)
    attributes = f"id = {i64(number)}, name = {string(eqn.primitive.name)}{side_effect(eqn)}"
    if ordered := ordered_effects(eqn.effects):
        attributes += f", ordered = [{', '.join(map(string, ordered))}]"
    if has_batching_rule(eqn.primitive):
        attributes += ", has_batching_rule"

    def emit(operands: list[Value]) -> list[Value]:
        return b.multi_op("bm.kernel", operands, out_types, attributes)

    return number, emit
