"""Values in the place of references, which JAX calls discharging them.

JAX does it when all derivatives are taken: a reference becomes the value that it holds, and what
changes it returns the new one. Functions with derivative rules become plain ones then, so for
functions that are yet to be differentiated such calls are sealed, and opened afterwards. Next:
`_own_references.py` for those that are given such a reference.
"""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax._src import core, effects
from jax._src.state import discharge
from jax.extend import core as extend_core
from jax.extend.core import Primitive

from bmgrad.runtime._errors import UnsupportedError
from bmgrad.runtime._jax_internals._avals import is_reference_aval
from bmgrad.runtime._jax_internals._references import effects_on, with_constants_written

# One version defines it elsewhere, which its own type annotations do not say.
ClosedJaxpr: Any = vars(extend_core)["ClosedJaxpr"]

_HAVE_RULES = frozenset({"call_hi_primitive", "custom_jvp_call", "custom_vjp_call"})
_CALLS = frozenset({"checkpoint", "jit", "remat2"})

sealed_p = Primitive("bmgrad_sealed")
sealed_p.multiple_results = True
# In the place of calls of which JAX discharges all references or none.
_call_p = Primitive("bmgrad_call")
_call_p.multiple_results = True
# The call of a function whose rule knows nothing of the values of its references.
call_without_rule_p = Primitive("bmgrad_call_without_rule")
call_without_rule_p.multiple_results = True


def discharge_inner(closed: Any) -> Any:
    """The closed jaxpr with the references that it makes as values; those it is given stay."""
    if core.internal_mutable_array_effect not in closed.effects:
        return closed
    sealed = _mapped(with_constants_written(closed), _seal)
    try:
        discharged = discharge.discharge_state(sealed, should_discharge=False, lower=False)
    except KeyError:
        what = "jax.freeze or jax.free_ref of a reference from outside; read it, as ref[...]"
    except ValueError as error:
        if "Did not ask for inval" not in str(error):
            raise
        what = (
            "a reference (jax.new_ref) that it makes, used in an inner function together with one "
            "from outside; make both outside"
        )
    else:
        return _mapped(discharged, _unseal)
    raise UnsupportedError(f"the function to compile has {what}")


def discharge_rule(jaxpr: Any, consts: Sequence[Any]) -> tuple[Any, list[Any]]:
    """`discharge_inner` of what JAX has traced a derivative rule to."""
    if core.internal_mutable_array_effect not in jaxpr.effects:
        return jaxpr, list(consts)
    closed = discharge_inner(ClosedJaxpr(jaxpr, consts))
    return closed.jaxpr, list(closed.consts)


def gives_references_to_rules(jaxpr: Any) -> bool:
    """Whether `jaxpr` gives references to functions that have derivative rules."""
    found = False

    def look(eqn: Any) -> Any:
        nonlocal found
        has_rule = eqn.primitive.name in _HAVE_RULES
        found |= has_rule and any(is_reference_aval(x.aval) for x in eqn.invars)
        return eqn

    _mapped(jaxpr, look)
    return found


def _mapped(closed: Any, change: Callable[[Any], Any]) -> Any:
    """A jaxpr, closed or not, with its equations changed, or else those of jaxprs in them."""
    jaxpr = getattr(closed, "jaxpr", closed)
    eqns = [_mapped_eqn(eqn, change) for eqn in jaxpr.eqns]
    if all(map(operator.is_, eqns, jaxpr.eqns)):
        return closed
    mapped = jaxpr.replace(eqns=eqns)
    return mapped if jaxpr is closed else closed.replace(jaxpr=mapped)


def _mapped_eqn(eqn: Any, change: Callable[[Any], Any]) -> Any:
    if (changed := change(eqn)) is not eqn:
        return changed
    params = {name: _mapped_param(value, change) for name, value in eqn.params.items()}
    is_same = all(params[name] is value for name, value in eqn.params.items())
    return eqn if is_same else eqn.replace(params=params)


def _mapped_param(value: Any, change: Callable[[Any], Any]) -> Any:
    if hasattr(value, "eqns"):
        return _mapped(value, change)
    if type(value) is tuple and value and all(hasattr(each, "eqns") for each in value):
        mapped = tuple(_mapped(each, change) for each in value)
        return value if all(map(operator.is_, mapped, value)) else mapped
    return value


@dataclasses.dataclass(frozen=True, eq=False)
class Sealed:
    """A call, by identity, for parameters of equations are hashed."""

    eqn: Any


def _seal(eqn: Any) -> Any:
    if eqn.primitive.name in _CALLS and any(is_reference_aval(x.aval) for x in eqn.invars):
        jaxpr = _mapped(eqn.params["jaxpr"], _seal)
        closed = ClosedJaxpr(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()))
        return eqn.replace(primitive=_call_p, params={"jaxpr": closed, "sealed": Sealed(eqn)})
    if eqn.primitive.name not in _HAVE_RULES:
        return eqn
    # JAX is not to look for references inside.
    others = {e for e in eqn.effects if e is not core.internal_mutable_array_effect}
    return eqn.replace(primitive=sealed_p, params={"sealed": Sealed(eqn)}, effects=others)


def _unseal(eqn: Any) -> Any:
    if eqn.primitive not in (sealed_p, _call_p):
        return eqn
    call = eqn.params["sealed"].eqn
    params = dict(call.params)
    if eqn.primitive is _call_p:
        params["jaxpr"] = _mapped(eqn.params["jaxpr"], _unseal)
    elif "call_jaxpr" in params:
        params["call_jaxpr"] = discharge_inner(params["call_jaxpr"])
    return eqn.replace(primitive=call.primitive, params=params)


def _sealed_type(*avals: Any, sealed: Sealed) -> Any:
    on_inputs = effects_on(i for i, aval in enumerate(avals) if is_reference_aval(aval))
    others = [
        effect
        for effect in sealed.eqn.effects
        if effect is not core.internal_mutable_array_effect
        and not isinstance(effect, effects.JaxprInputEffect)
    ]
    return [var.aval for var in sealed.eqn.outvars], on_inputs.union(others)


def _call_type(*_: Any, jaxpr: Any, **__: Any) -> Any:
    return jaxpr.out_avals, core.positional_effects(jaxpr)


def on_values(jaxpr: Any, operands: Sequence[Any]) -> Any:
    """The closed jaxpr for these operands, of which some are values in the place of references."""
    changed = _changed(jaxpr, operands)
    return discharge.discharge_state(jaxpr, should_discharge=changed, lower=False)


def with_rules_on_values(closed: Any, operands: Sequence[Any]) -> Any:
    """`on_values`, where functions in it keep their derivative rules."""
    return with_rules_where(closed, _changed(closed, operands))


def with_rules_where(closed: Any, changed: Sequence[bool]) -> Any:
    """`with_rules_on_values`, of these inputs."""
    sealed = _mapped(closed, _seal)
    discharged = discharge.discharge_state(sealed, should_discharge=changed, lower=False)
    return _mapped(discharged, _unseal)


def _changed(jaxpr: Any, operands: Sequence[Any]) -> list[bool]:
    """For which inputs of the jaxpr, references, these operands are values."""
    return [
        is_reference_aval(aval) and not is_reference_aval(jax.typeof(operand))
        for aval, operand in zip(jaxpr.in_avals, operands, strict=True)
    ]


def _call_on_values(*operands: Any, jaxpr: Any, sealed: Sealed) -> Any:
    return _call_p.bind(*operands, jaxpr=on_values(jaxpr, operands), sealed=sealed)


def register_discharge(
    primitive: Any, run: Callable[..., Sequence[Any]], num_results: Callable[..., int]
) -> None:
    """Lets JAX put values in the place of references among the operands of `primitive`.

    `run(*operands, **params)` takes values for those, and returns their new values after its
    `num_results(**params)` results.
    """

    def finish(
        in_avals: Sequence[Any], chosen: Sequence[bool], operands: Sequence[Any], params: Any
    ) -> tuple[list[Any], list[Any]]:
        results = list(run(*operands, **params))
        count = num_results(**params)
        new = iter(results[count:])
        changed = [is_reference_aval(a) and c for a, c in zip(in_avals, chosen, strict=True)]
        return [next(new) if flag else None for flag in changed], results[:count]

    # One of the two versions passes avals and choice in one object.
    if hasattr(discharge, "DischargeContext"):

        def rule(ctx: Any, *operands: Any, **params: Any) -> Any:
            return finish(ctx.in_avals, ctx.should_discharge, operands, params)

        discharge.register_discharge_rule(primitive)(rule)
    else:

        def partial_rule(chosen: Any, in_avals: Any, _: Any, *operands: Any, **params: Any) -> Any:
            return finish(in_avals, chosen, operands, params)

        discharge.register_partial_discharge_rule(primitive)(partial_rule)


register_discharge(_call_p, _call_on_values, lambda jaxpr, sealed: len(jaxpr.out_avals))
sealed_p.def_effectful_abstract_eval(_sealed_type)
_call_p.def_effectful_abstract_eval(_call_type)
call_without_rule_p.def_effectful_abstract_eval(_call_type)
