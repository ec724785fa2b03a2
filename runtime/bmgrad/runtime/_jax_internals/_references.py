"""References to arrays that change (`jax.new_ref`): their avals, and effects on them."""

import operator
from collections.abc import Collection, Iterable
from typing import Any

from jax._src import ad_util, core
from jax._src.state import types as state

from bmgrad.runtime._jax_internals._avals import (
    ShapedArray,
    has_tangent,
    plain_aval,
)
from bmgrad.runtime._jax_internals._equations import with_equations, with_inner_jaxprs
from bmgrad.runtime._jax_internals._lowering import ordered_effects

# Where the equations that put a value into a reference have it among their operands.
_WRITTEN = {"new_ref": 0, "swap": 1, "addupdate": 1}


def referenced_aval(aval: Any) -> ShapedArray:
    """The aval of the values that references of `aval` hold."""
    return plain_aval(aval.inner_aval)


def keeps_gradients_out(aval: Any) -> bool:
    """Whether what is written to references of `aval` counts as constant."""
    return bool(aval.kind == "no_grad_no_remat")


def with_constants_written(jaxpr: Any) -> Any:
    """`jaxpr`, closed or not, where references that keep gradients out are given constants only.

    JAX turns references into values without a look at their kind.
    """
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    eqns = [each for eqn in opened.eqns for each in _constant_written(eqn)]
    is_same = len(eqns) == len(opened.eqns) and all(map(operator.is_, eqns, opened.eqns))
    return jaxpr if is_same else with_equations(jaxpr, eqns, opened.effects)


def _constant_written(eqn: Any) -> list[Any]:
    """The equations in the place of `eqn`."""
    position = _WRITTEN.get(eqn.primitive.name)
    if position is None:
        params = with_inner_jaxprs(eqn.params, with_constants_written)
        is_same = params is None or all(params[name] is x for name, x in eqn.params.items())
        return [eqn if is_same else eqn.replace(params=params)]
    reference = (eqn.outvars if eqn.primitive.name == "new_ref" else eqn.invars)[0]
    value = eqn.invars[position]
    if not keeps_gradients_out(reference.aval) or not has_tangent(value.aval):
        return [eqn]
    constant = core.Var(value.aval)
    invars = [*eqn.invars[:position], constant, *eqn.invars[position + 1 :]]
    cut = eqn.replace(
        invars=[value],
        outvars=[constant],
        primitive=ad_util.stop_gradient_p,
        params={},
        effects=core.no_effects,
    )
    return [cut, eqn.replace(invars=invars)]


def keeps_order(effects: Collection[Any]) -> bool:
    """Whether the order of some of the effects counts, as that of reads and writes does."""
    return any(isinstance(e, state.RefEffect) for e in effects) or bool(ordered_effects(effects))


def are_of_references(effects: Iterable[Any]) -> bool:
    """Whether all of the effects are reads and changes of references, or that some are made."""
    made = core.internal_mutable_array_effect
    return all(isinstance(e, state.RefEffect) or e is made for e in effects)


def changed_by(effects: Iterable[Any]) -> set[Any]:
    """The variables of a jaxpr, references, that something with these effects changes."""
    changes = (state.WriteEffect, state.AccumEffect)
    return {e.input for e in effects if isinstance(e, changes)}


def effects_on(operands: Iterable[int]) -> frozenset[Any]:
    """The effects of an operation that reads and changes the references among its operands."""
    return frozenset(e(i) for i in operands for e in (state.ReadEffect, state.WriteEffect))
