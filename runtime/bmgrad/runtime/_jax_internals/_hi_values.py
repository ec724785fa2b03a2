"""Arrays in the place of values of types that users define (hijax).

In: the jaxpr of a function. Out: the same where each such value is the arrays that stand for it
(`_hi_types.py`), among arguments and results too. JAX does that when all derivatives are taken, and
knows how calls, loops and branches change; but it has no carriers, and puts expansions in the place
of operations, which have rules. So it is given types that lower to our arrays, and operations that
lower to ones on arrays (`_hi_operations.py`); what else has rules is sealed meanwhile.
"""

import dataclasses
from typing import Any

import jax
from jax._src import core, hijax
from jax._src.ad_checkpoint import remat_p
from jax._src.interpreters import partial_eval
from jax.extend.core import Primitive

from bmgrad.runtime._errors import UnsupportedError, no_values_of
from bmgrad.runtime._jax_internals._discharge import ClosedJaxpr, Sealed, sealed_p
from bmgrad.runtime._jax_internals._equations import user_location, with_inner_jaxprs
from bmgrad.runtime._jax_internals._hi_custom_rules import OfCustomCall
from bmgrad.runtime._jax_internals._hi_operations import OfPrimitive, OnArrays
from bmgrad.runtime._jax_internals._hi_types import (
    HiArrays,
    Lower,
    Raise,
    Standing,
    are_defined,
    form,
    has_value,
    is_hi_type,
    is_hi_value,
    taken_apart,
    to_object,
)

# The class of primitives of an older interface, which one of the two versions has.
_HiPrimitive: Any = getattr(hijax, "HiPrimitive", ())
_CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call"})
# What JAX can take and return values of such types in, and the importer then knows.
_PASS_VALUES = frozenset({"checkpoint", "cond", "eval_jaxpr", "jit", "remat2", "scan", "while"})
_ONLY_PASSED = (
    "it takes or returns a value of a type that users define (jax.experimental.hijax), as in a "
    "program only operations of hijax, functions, loops and branches can"
)


def without_hi_values(jaxpr: Any) -> Any:
    """The jaxpr on arrays, closed; itself where it has no values of such types."""
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    if not has_hi_values(opened):
        return jaxpr
    closed = jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, ())
    return _with_operations(partial_eval.lower_jaxpr2(_on_our_types(closed)))


def has_hi_values(jaxpr: Any) -> bool:
    """Whether an open jaxpr, or one inside, has values of types that users define."""
    return are_defined() and _has_hi_values(jaxpr)


def _has_hi_values(jaxpr: Any) -> bool:
    return jaxpr.is_high and (
        any(is_hi_type(var.aval) for var in (*jaxpr.constvars, *jaxpr.invars))
        or any(map(_uses_hi_values, jaxpr.eqns))
    )


def _uses_hi_values(eqn: Any) -> bool:
    inner = core.jaxprs_in_params(eqn.params)
    return any(is_hi_type(atom.aval) for atom in (*eqn.invars, *eqn.outvars)) or any(
        _has_hi_values(getattr(jaxpr, "jaxpr", jaxpr)) for jaxpr in inner
    )


# -- Before JAX lowers types ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _ArraysType(Standing):
    """The type in the place of `ty`, whose values are `HiArrays`."""

    ty: Any

    def lo_ty(self) -> list[Any]:
        return list(form(self.ty).avals)

    def lower_val(self, value: HiArrays) -> list[Any]:
        return list(value.arrays)

    def raise_val(self, *arrays: Any) -> HiArrays:
        return HiArrays(arrays, self.ty)


hijax.register_hitype(HiArrays, lambda value: _ArraysType(value.ty))


def _on_our_types(jaxpr: Any) -> Any:
    """A jaxpr, closed or not, whose values are `HiArrays`."""
    opened, known = getattr(jaxpr, "jaxpr", jaxpr), {}

    def ours(atoms: Any) -> list[Any]:
        for atom in atoms:
            if is_hi_type(atom.aval) and atom not in known:
                known[atom] = core.Var(_ArraysType(atom.aval))
        return [known[atom] if is_hi_type(atom.aval) else atom for atom in atoms]

    changed = opened.replace(
        constvars=ours(opened.constvars),
        invars=ours(opened.invars),
        eqns=[
            _prepared(eqn).replace(invars=ours(eqn.invars), outvars=ours(eqn.outvars))
            for eqn in opened.eqns
        ],
        outvars=ours(opened.outvars),
    )
    # A jaxpr that is open has no constants.
    consts = getattr(jaxpr, "consts", None)
    return changed if consts is None else ClosedJaxpr(changed, list(map(_apart, consts)))


def _apart(const: Any) -> Any:
    return taken_apart(const) if is_hi_value(const) else const


def _prepared(eqn: Any) -> Any:
    """An equation that JAX lowers without loss of rules; its variables are as they were."""
    avals = [atom.aval for atom in (*eqn.invars, *eqn.outvars)]
    on_values = any(map(is_hi_type, avals))
    if mutable := [aval for aval in avals if getattr(aval, "has_qdd", False)]:
        raise _refused(eqn, no_values_of(mutable[0]))
    is_older = isinstance(eqn.primitive, _HiPrimitive)
    prim, name = eqn.params.get("_prim"), eqn.primitive.name
    if on_values and type(prim).__name__ == "RematTraced":
        params = {"jaxpr": _on_our_types(prim.jaxpr), "policy": prim.policy}
        params |= {"prevent_cse": True, "differentiated": False}
        return eqn.replace(primitive=remat_p, params=params)
    if is_older or (on_values and (prim is not None or name in _CUSTOM)):
        operation = _operation(eqn)
        types = tuple(var.aval for var in eqn.outvars)
        return eqn.replace(primitive=_on_values_p, params={"operation": operation, "types": types})
    if prim is not None or name in _CUSTOM:
        return eqn.replace(primitive=sealed_p, params={"sealed": Sealed(eqn)})
    if on_values and name not in _PASS_VALUES:
        raise _refused(eqn, _ONLY_PASSED)
    changed = with_inner_jaxprs(eqn.params, _on_our_types) if _uses_hi_values(eqn) else None
    return eqn.replace(params=changed) if changed else eqn


def _refused(eqn: Any, reason: str) -> UnsupportedError:
    where = user_location(eqn)
    place = f"\n  at {where[0]}:{where[1]}" if where else ""
    return UnsupportedError(f"`{eqn.primitive.name}`: {reason}{place}")


def _operation(eqn: Any) -> Any:
    """The operation that an equation on values is."""
    if eqn.primitive.name in _CUSTOM:
        return OnArrays(OfCustomCall(eqn))
    prim = eqn.params.get("_prim") or OfPrimitive(eqn)
    return prim if isinstance(prim, (Lower, Raise)) else OnArrays(prim)


# -- While it does -------------------------------------------------------------------------------


_on_values_p = Primitive("bmgrad_on_values")
_on_values_p.multiple_results = True
_on_values_p.is_high = lambda *_, **__: True  # type: ignore[method-assign]
_on_arrays_p = Primitive("bmgrad_on_arrays")
_on_arrays_p.multiple_results = True
_on_arrays_p.def_effectful_abstract_eval(
    lambda *_, operation: (list(operation.out_avals_flat), operation.effects)
)


def _lower_operation(*args: Any, operation: Any, types: Any) -> list[Any]:
    arrays = [x for x in jax.tree.leaves(args) if has_value(jax.typeof(x))]
    if isinstance(operation, OnArrays):
        arrays = _on_arrays_p.bind(*arrays, operation=operation)
    given = iter(arrays)
    groups = [tuple(next(given) for _ in form(ty).avals) for ty in types]
    pairs = zip(types, groups, strict=True)
    return [HiArrays(x, ty) if is_hi_type(ty) else to_object(ty, x) for ty, x in pairs]


_on_values_p.to_lojax = _lower_operation  # type: ignore[method-assign]


# -- And afterwards ------------------------------------------------------------------------------


def _with_operations(jaxpr: Any) -> Any:
    """What JAX has lowered, with the operations on arrays, and what was sealed."""
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    changed = opened.replace(eqns=list(map(_opened, opened.eqns)))
    return changed if jaxpr is opened else jaxpr.replace(jaxpr=changed)


def _opened(eqn: Any) -> Any:
    if eqn.primitive is _on_arrays_p:
        operation = eqn.params["operation"]
        return eqn.replace(primitive=hijax.call_hi_primitive_p, params={"_prim": operation})
    if eqn.primitive is sealed_p:
        call = eqn.params["sealed"].eqn
        params = with_inner_jaxprs(call.params, without_hi_values) or call.params
        return eqn.replace(primitive=call.primitive, params=params)
    params = with_inner_jaxprs(eqn.params, _with_operations)
    return eqn.replace(params=params) if params else eqn
