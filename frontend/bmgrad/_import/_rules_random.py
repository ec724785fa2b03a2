"""Random draws that depend on their parameters in a differentiable way.

Bits and keys are kernels, and what `jax.random` makes of them is arithmetic. Left is the gamma
distribution, which JAX draws by rejection. A draw moves with the shape as the quantile that it is
(Figurnov et al., Implicit Reparameterization Gradients, 2018), at a speed that JAX computes by
loops over a series and a continued fraction. They are imported as any function, so derivatives of
higher order are forward mode's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bmgrad._import._module import Body
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import emit_custom_jvp, jvp_functions
from bmgrad._import._rules_foreign import trace_flat
from bmgrad._import._rules_kernel import kernel
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer
    from bmgrad._import._registry import WithRule

# NumPy's does not know narrow floats.
_finfo: Any = jax.numpy.finfo


@rule("random_gamma", keys=True)
def _random_gamma(b: Importer, eqn: Equation) -> list[Value]:
    number, draw = kernel(b, eqn)
    type = b.type(eqn.outvars[0].aval)
    types = [b.type(atom.aval) for atom in eqn.invars]
    rule_key = ("random_gamma", number)

    def jvp(values: list[Value]) -> list[Value]:
        key, shape, moved = values
        # The rule draws by the function with the rule, or the sample would stand still in it.
        (drawn,) = emit_custom_jvp(b, eqn, functions(), [key, shape])
        sample = drawn
        if eqn.params["log_space"]:
            # The sample may be less than the smallest number.
            tiny = b.constant(np.asarray(_finfo(type.dtype).tiny), type.shape)
            sample = b.op("bm.max", [b.op("bm.exp", [drawn], type), tiny], type)
        speed = _speed(b, eqn, shape, sample)
        if eqn.params["log_space"]:
            speed = b.op("bm.div", [speed, sample], type)
        return [drawn, b.op("bm.mul", [moved, speed], type)]

    def make() -> tuple[Body, Body]:
        return b.module.body(types, draw), b.module.body([*types, type], jvp)

    def functions() -> WithRule:
        return jvp_functions(b, "random_gamma", rule_key, make)

    return emit_custom_jvp(b, eqn, b.once((), functions, rule_key))


def _speed(b: Importer, eqn: Equation, shape: Value, sample: Value) -> Value:
    def run(shape: Any, sample: Any) -> list[Any]:
        return [jax.lax.random_gamma_grad(shape, sample)]

    avals = [eqn.invars[1].aval, eqn.outvars[0].aval]
    (speed,) = b.evaluate_closed(trace_flat(run, avals, "random_gamma.speed"), [shape, sample])
    return speed
