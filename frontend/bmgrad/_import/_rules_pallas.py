"""Kernels of Pallas that are interpreted: computations like any other.

In: an equation of a `pallas_call`. Out: the call of the jaxpr that its interpretation is, with the
derivatives of its operations. A kernel that is compiled for a device stays one, without a
derivative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._perturbed import unmarked_params
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._text import Value
from bmgrad.runtime._jax_internals import interpret_kernel, trace

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("pallas_call")
def _pallas_call(b: Importer, eqn: Equation) -> list[Value]:
    params = unmarked_params(eqn)
    # The simulators of devices, which have parameters, call the host.
    if params["interpret"] is not True:
        return import_kernel(b, eqn)
    closed = trace(
        lambda _, *args: interpret_kernel(params, *args),
        [atom.aval for atom in eqn.invars],
        name=eqn.primitive.name,
        arg_names=[f"x{i}" for i in range(len(eqn.invars))],
    )
    return b.evaluate_closed(closed, b.read_operands(eqn))
