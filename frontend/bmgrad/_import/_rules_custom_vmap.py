"""The rules of functions that JAX runs, and that have the derivative of what they compute.

In: an equation of `custom_vmap_call` or `compute_on`. Out: a kernel, whose batching asks JAX
and with it the user's rule, and whose lowering says where it runs, as the function of a
`bm.custom_jvp`. The derivative is that of the function, run where the program runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bmgrad._import._module import Body
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import (
    emit_custom_jvp,
    emit_put_off,
    function_name,
    has_loops,
    jvp_functions,
    with_tangents,
)
from bmgrad._import._rules_foreign import batcher
from bmgrad._import._rules_kernel import kernel
from bmgrad._import._text import Value, i64_array
from bmgrad.runtime._jax_internals import has_tangent

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("custom_vmap_call", keys=True)
def _custom_vmap(b: Importer, eqn: Equation) -> list[Value]:
    b.has_batching_rules = True
    return _kernel_with_derivative(b, eqn, eqn.params["call"])


@rule("compute_on", keys=True)
def _compute_on(b: Importer, eqn: Equation) -> list[Value]:
    return _kernel_with_derivative(b, eqn, eqn.params["jaxpr"])


def _kernel_with_derivative(b: Importer, eqn: Equation, closed: Any) -> list[Value]:
    """A kernel whose derivative is that of `closed`, which it computes."""
    number, emit = kernel(b, eqn)
    if not any(map(has_tangent, closed.in_avals)) or not any(map(has_tangent, closed.out_avals)):
        return emit(b.read_all(eqn))
    name = function_name(closed)

    def make() -> tuple[Body, Body]:
        differentiated = b.body(closed)
        captures = differentiated.captures()
        callee = b.module.new_symbol(f"{name}.unbatched")
        b.module.function(callee, differentiated, captures)
        inexact = [len(captures) + i for i, a in enumerate(closed.in_avals) if has_tangent(a)]
        results = with_tangents(b, closed.out_avals)

        def jvp(values: list[Value]) -> list[Value]:
            captured = [b.module.capture(array) for array in captures]
            attributes = f"callee = @{callee}, wrt = {i64_array(inexact)}"
            return b.multi_op("bm.jvp", [*captured, *values], results, attributes)

        types = [b.type(aval) for aval in closed.in_avals]
        return b.module.body(types, emit), b.module.body(with_tangents(b, closed.in_avals), jvp)

    key = "kernel with derivative", number
    if b.puts_off(eqn, key, has_loops(closed)):
        types = [b.type(aval) for aval in closed.in_avals]
        return emit_put_off(b, eqn, name, (closed,), lambda: b.module.body(types, emit))
    made = b.once((closed,), lambda: jvp_functions(b, name, key, make), key)
    return emit_custom_jvp(b, eqn, made, attributes=batcher(b, eqn, key, made.captures))
