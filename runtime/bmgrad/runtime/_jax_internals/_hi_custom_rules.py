"""Functions with rules of their own (`jax.custom_jvp`, `custom_vjp`) and types that users define.

In: the call of such a function, on values of such types; or its rule, which has some inside, among
the residuals too. Out: the call as an operation of hijax, which `_hi_values.py` puts on arrays; or
the rule on arrays. One of the two versions of JAX makes operations of these calls itself.
"""

from typing import Any

from jax._src import core
from jax.interpreters import ad

from bmgrad.runtime._jax_internals._custom_rules import (
    ValAccum,
    custom_jvp_rule,
    custom_rule_key,
    custom_vjp_rule,
)
from bmgrad.runtime._jax_internals._equations import evaluate_jaxpr
from bmgrad.runtime._jax_internals._hi_types import Operation, form, to_tangent, zeros


class OfCustomCall(Operation):  # type: ignore[misc]
    """The operation that the call of a function with a rule is."""

    def __init__(self, eqn: Any) -> None:
        self.in_avals = tuple(x.aval for x in eqn.invars)
        self.out_aval = [x.aval for x in eqn.outvars]
        self.mode = "jvp" if "jvp_jaxpr_fun" in eqn.params else "vjp"
        self.name = eqn.params["call_jaxpr"].jaxpr.debug_info.func_name
        # What the user's function closes over comes first, and is not given to its rule.
        self.call, self._count = eqn.params, eqn.params["num_consts"]
        self.effects = frozenset(eqn.effects)
        self.params = {"key": custom_rule_key(eqn.params) or id(eqn.params["call_jaxpr"])}
        super().__init__()

    def expand(self, *args: Any) -> Any:
        return list(core.jaxpr_as_fun(self.call["call_jaxpr"])(*args))

    def jvp(self, primals: Any, tangents: Any) -> Any:
        own = tangents[self._count :]
        custom = custom_jvp_rule(self.call, [not isinstance(t, ad.Zero) for t in own])
        given = [t for t in own if not isinstance(t, ad.Zero)]
        made = evaluate_jaxpr(custom.jaxpr, custom.consts, [*primals[self._count :], *given])
        results, nonzero = made[: len(self.out_aval)], iter(made[len(self.out_aval) :])
        pairs = zip(self.out_aval, custom.out_zeros, strict=True)
        return results, [ad.Zero(a.to_tangent_aval()) if z else next(nonzero) for a, z in pairs]

    def vjp_fwd(self, flags: Any, *args: Any) -> Any:
        # The backward rule, which is asked next, belongs to what this trace of the other made.
        custom = self._custom = custom_vjp_rule(self.call, flags[self._count :])
        made = evaluate_jaxpr(custom.fwd, custom.fwd_consts, args[self._count :])
        return made[custom.num_made :], [(args if a else made)[i] for a, i in custom.residuals]

    def vjp_bwd(self, residuals: Any, outgrad: Any, *sums: Any) -> Any:
        cts = [
            to_tangent(aval, zeros(form(aval).avals)) if isinstance(ct, ad.Zero) else ct
            for aval, ct in zip(self.out_aval, outgrad, strict=True)
        ]
        found, logs = self._custom.bwd(residuals, cts)
        for each, ct in zip(sums[self._count :], found, strict=True):
            if isinstance(each, ValAccum):
                each.accum(ct)
        return logs
