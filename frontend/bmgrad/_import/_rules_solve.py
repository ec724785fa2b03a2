"""Rules of solutions whose derivative is that of the equation they solve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import side_effect, union
from bmgrad._import._text import Value, i32_array
from bmgrad.runtime._jax_internals import has_tangent

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

# The functions of a linear solve, by the names that JAX and the op have for them.
_ROLES = ("solve", "matvec", "transpose_solve", "vecmat")


@rule("custom_linear_solve", keys=True)
def _linear_solve(b: Importer, eqn: Equation) -> list[Value]:
    jaxprs, lengths = eqn.params["jaxprs"], eqn.params["const_lengths"]
    operands = b.read_all(eqn)
    consts = {}
    for role in lengths._fields:
        count = getattr(lengths, role)
        consts[role], operands = operands[:count], operands[count:]
    if not all(has_tangent(atom.aval) for atom in eqn.invars[sum(lengths) :]):
        # Integers have no derivative that could be other than that of the function.
        return b.call(jaxprs.solve, [*consts["solve"], *operands], "solve")

    # All functions take what any of them closes over.
    params = list({value.name: value for role in _ROLES for value in consts[role]}.values())
    places = {value.name: place for place, value in enumerate(params)}
    roles = [role for role in _ROLES if getattr(jaxprs, role) is not None]
    given = {role: [places[value.name] for value in consts[role]] for role in roles}
    types = [value.type for value in (*params, *operands)]

    def define() -> tuple[dict[str, str], list[Any]]:
        with b.without_logs():
            bodies = {role: b.module.body(types, write(role)) for role in roles}
        captures = union(*(body.captures() for body in bodies.values()))
        symbols = {role: b.module.new_symbol(role) for role in roles}
        for role, body in bodies.items():
            b.module.function(symbols[role], body, captures)
        return symbols, captures

    def write(role: str) -> Any:
        def written(args: list[Value]) -> Sequence[Value]:
            own = [args[place] for place in given[role]]
            return b.evaluate_closed(getattr(jaxprs, role), [*own, *args[len(params) :]])

        return written

    objects = tuple(getattr(jaxprs, role) for role in roles)
    key = (tuple(map(id, objects)), tuple(map(tuple, given.values())), len(params))
    symbols, captures = b.once(objects, define, key)
    captured = [b.module.capture(array) for array in captures]
    segments = i32_array([len(captured) + len(params), len(operands)])
    attributes = ", ".join(f"{role} = @{symbol}" for role, symbol in symbols.items())
    return b.multi_op(
        "bm.linear_solve",
        [*captured, *params, *operands],
        [b.type(var.aval) for var in eqn.outvars],
        f"{attributes}, operandSegmentSizes = {segments}{side_effect(eqn)}",
    )
