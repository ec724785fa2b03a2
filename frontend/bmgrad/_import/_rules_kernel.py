"""Primitives without an op: kernels, whose lowering JAX supplies.

In: any equation. Out: a `bm.kernel` with the number that the runtime's registry
gives to the primitive with its parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bmgrad._import._errors import Unsupported
from bmgrad._import._module import Body
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import differentiable, emit_custom_jvp, jvp_functions
from bmgrad._import._text import Value, i64, string
from bmgrad.runtime import _kernels
from bmgrad.runtime._jax_internals import foreign_jvp, has_tangent, tangent_aval, trace

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def import_kernel(b: Importer, eqn: Equation) -> list[Value]:
    """The rule of primitives that have no other."""
    if eqn.effects:
        effects = ", ".join(sorted(str(effect) for effect in eqn.effects))
        raise Unsupported(
            f"it has side effects ({effects}), which a bmgrad program cannot hold; return "
            "what it needs from the function and do it outside"
        )
    in_avals = [atom.aval for atom in eqn.invars]
    out_avals = [var.aval for var in eqn.outvars]
    out_types = [b.type(aval) for aval in out_avals]
    number = _kernels.register(eqn.primitive, eqn.params, in_avals)
    attributes = f"id = {i64(number)}, name = {string(eqn.primitive.name)}"

    def emit(operands: list[Value]) -> list[Value]:
        return b.multi_op("bm.kernel", operands, out_types, attributes)

    jvp = foreign_jvp(eqn.primitive)
    active = [has_tangent(aval) for aval in in_avals]
    if jvp is None or not any(active) or not any(map(has_tangent, out_avals)):
        return emit(b.read_all(eqn))

    # A primitive of a third party, whose own rule is honoured.
    def make() -> tuple[Body, Body]:
        is_zero: list[bool] = []

        def run(_: Any, *values: Any) -> list[Any]:
            primals, given = values[: len(in_avals)], iter(values[len(in_avals) :])
            tangents = [next(given) if a else None for a in active]
            results, out_tangents = jvp(primals, tangents, eqn.params)
            is_zero.extend(t is None for t in out_tangents)
            return [*results, *(t for t in out_tangents if t is not None)]

        tangent_avals = [tangent_aval(aval) for aval in in_avals if has_tangent(aval)]
        avals = [*in_avals, *tangent_avals]
        names = [f"x{i}" for i in range(len(avals))]
        traced = trace(run, avals, name=f"{eqn.primitive.name}.jvp", arg_names=names)

        def rule(values: list[Value]) -> list[Value]:
            captured = [b.module.capture(const) for const in traced.consts]
            given = b.evaluate(traced.jaxpr, captured, values)
            results, nonzero = given[: len(out_avals)], iter(given[len(out_avals) :])
            out_tangents = [None if zero else next(nonzero) for zero in is_zero]
            return [*results, *differentiable(b, out_tangents, out_avals)]

        types = [b.type(aval) for aval in avals]
        return b.module.body(types[: len(in_avals)], emit), b.module.body(types, rule)

    key = ("kernel", number)
    made = b.once((), lambda: jvp_functions(b, eqn.primitive.name, key, make), key)
    return emit_custom_jvp(b, eqn, made)


@rule("pure_callback")
def _callback(b: Importer, eqn: Equation) -> list[Value]:
    raise Unsupported(
        "a program runs without Python, so it cannot call back into it; call the function "
        "outside, or write it with jax.numpy"
    )
