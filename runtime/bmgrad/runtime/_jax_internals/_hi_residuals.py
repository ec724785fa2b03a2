"""The derivative rules of functions of arrays, on arrays.

Rules may have values of types that users define (hijax) inside, and backward rules get some from
forward ones: a quantized argument takes less memory. In: a rule as `_custom_rules.py` finds it.
Out: the same where arrays stand for those.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bmgrad.runtime._jax_internals import _custom_rules
from bmgrad.runtime._jax_internals._custom_rules import CustomJvp, CustomVjp
from bmgrad.runtime._jax_internals._discharge import ClosedJaxpr
from bmgrad.runtime._jax_internals._hi_types import form, to_value
from bmgrad.runtime._jax_internals._hi_values import has_hi_values, without_hi_values


def custom_jvp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomJvp:
    """`active` says for each argument but the constants whether it has a tangent."""
    custom = _custom_rules.custom_jvp_rule(params, active)
    if not has_hi_values(custom.jaxpr):
        return custom
    closed = without_hi_values(ClosedJaxpr(custom.jaxpr, custom.consts))
    return custom._replace(jaxpr=closed.jaxpr, consts=list(closed.consts))


def custom_vjp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomVjp:
    """The like for a reverse rule."""
    custom = _custom_rules.custom_vjp_rule(params, active)
    if not has_hi_values(custom.fwd):
        return custom
    made = [var.aval for var in custom.fwd.outvars[: custom.num_made]]
    closed = without_hi_values(ClosedJaxpr(custom.fwd, custom.fwd_consts))
    ends = list(itertools.accumulate((len(form(aval).avals) for aval in made), initial=0))
    groups = [
        [(is_argument, i) for i in ([number] if is_argument else range(*ends[number : number + 2]))]
        for is_argument, number in custom.residuals
    ]

    def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> tuple[list[Any], Any]:
        given = iter(residuals)
        kept = []
        for (is_argument, number), group in zip(custom.residuals, groups, strict=True):
            arrays = list(itertools.islice(given, len(group)))
            kept.append(arrays[0] if is_argument else to_value(made[number], arrays))
        return custom.bwd(kept, cts)

    residuals = [each for group in groups for each in group]
    return custom._replace(
        fwd=closed.jaxpr,
        fwd_consts=list(closed.consts),
        num_made=ends[-1],
        residuals=residuals,
        bwd=bwd,
        values=lambda: ([None] * len(residuals), False),
    )
