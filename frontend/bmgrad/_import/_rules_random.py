"""Random draws that depend on their parameters in a differentiable way.

Bits and keys are kernels, and what `jax.random` makes of them is arithmetic. Left is the gamma
distribution, which JAX draws by rejection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bmgrad._import._module import Body
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import emit_custom_jvp, jvp_functions
from bmgrad._import._rules_kernel import kernel
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("random_gamma", keys=True)
def _random_gamma(b: Importer, eqn: Equation) -> list[Value]:
    """A draw moves with the shape parameter as the quantile that it is."""
    number, draw = kernel(b, eqn)
    key_type, type = (b.type(atom.aval) for atom in eqn.invars)

    def jvp(values: list[Value]) -> list[Value]:
        key, shape, moved = values
        (drawn,) = draw([key, shape])
        sample = drawn
        if eqn.params["log_space"]:
            # The sample may be less than the smallest number.
            tiny = b.constant(np.asarray(np.finfo(type.dtype).tiny), type.shape)
            sample = b.op("bm.max", [b.op("bm.exp", [drawn], type), tiny], type)
        slope = b.op("bm.random_gamma_grad", [shape, sample], type)
        if eqn.params["log_space"]:
            slope = b.op("bm.div", [slope, sample], type)
        return [drawn, b.op("bm.mul", [moved, slope], type)]

    def make() -> tuple[Body, Body]:
        types = [key_type, type]
        return b.module.body(types, draw), b.module.body([*types, type], jvp)

    key = ("random_gamma", number)
    made = b.once((), lambda: jvp_functions(b, "random_gamma", key, make), key)
    return emit_custom_jvp(b, eqn, made)
