"""Operations of hijax (objects that bring rules), on flat arguments and on arrays alone.

In: the object that an equation of `call_hi_primitive` holds. Out: what it computes and its rules,
with flat arguments and results; and, for values of types that users define, the same on the arrays
that stand for them (`OnArrays`). Next: `_hi_values.py`, which puts these in the place of those.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import hijax
from jax.interpreters import ad

from bmgrad.runtime._jax_internals._custom_rules import NullAccum, ValAccum
from bmgrad.runtime._jax_internals._hi_custom_rules import OfCustomCall
from bmgrad.runtime._jax_internals._hi_lowering import says_lowering
from bmgrad.runtime._jax_internals._hi_types import (
    Operation,
    check_has_tangents,
    form,
    from_tangent,
    is_hi_type,
    to_arrays,
    to_object,
    to_tangent,
    to_value,
)


def name_of(prim: Any) -> str:
    """What the user calls it."""
    if isinstance(prim, OnArrays):
        return name_of(prim.prim)
    if isinstance(prim, (OfCustomCall, OfPrimitive)):
        return str(prim.name)
    traced = getattr(prim, "traced", None)
    return str(getattr(traced, "fun_name", "") or type(prim).__name__)


def expand(prim: Any, args: Sequence[Any]) -> list[Any]:
    """The results of `prim`, by the operations that it stands for."""
    return _flat_results(prim, prim.expand(*_unflatten(prim, args)))


def jvp(prim: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Results and their tangents; None stands for a tangent that is zero."""
    filled = [
        ad.Zero(aval.to_tangent_aval()) if t is None else t
        for t, aval in zip(tangents, prim.in_avals_flat, strict=True)
    ]
    args, arg_tangents = _unflatten(prim, primals), _unflatten(prim, filled)
    if defines(prim, "jvp"):
        results, out_tangents = prim.jvp(args, arg_tangents)
    else:
        flags = [t is not None for t in tangents]
        results, residuals, *rest = prim.lin(_unflatten(prim, flags), *args)
        structured = rest[1:2]
        out_tangents = prim.linearized(residuals, *structured, *arg_tangents)
    flat_tangents = _flat_results(prim, out_tangents)
    return _flat_results(prim, results), [_none_for_zero(t) for t in flat_tangents]


def vjp_fwd(prim: Any, active: Sequence[bool], args: Sequence[Any]) -> tuple[list[Any], Any]:
    """The results, and a pytree of residuals for `vjp_bwd`; `active` says what has a tangent."""
    count = num_closed_over(prim)
    flags = [i >= count and flag for i, flag in enumerate(active)]
    results, residuals, *rest = prim.vjp_fwd(_unflatten(prim, flags), *_unflatten(prim, args))
    # What follows which results have tangents are residuals of a second kind.
    return _flat_results(prim, results), (residuals, *rest[1:2])


def vjp_bwd(
    prim: Any, active: Sequence[bool], residuals: Any, cts: Sequence[Any]
) -> tuple[list[Any], dict[Any, Any] | None]:
    """A cotangent for each argument, and what is logged.

    None stands for one that is zero, or not active.
    """
    filled = [
        ad.Zero(aval.to_ct_aval()) if ct is None else ct
        for ct, aval in zip(cts, prim.out_avals_flat, strict=True)
    ]
    sums = [
        (ValAccum if flag else NullAccum)(aval.to_ct_aval())
        for flag, aval in zip(active, prim.in_avals_flat, strict=True)
    ]
    out_cts = jax.tree.unflatten(prim.out_tree, filled)
    if len(residuals) > 1 and not defines(prim, "vjp_bwd"):
        raise TypeError(
            f"vjp_fwd of {name_of(prim)} returns structured residuals, which only vjp_bwd is "
            "given; define that in place of vjp_bwd_retval"
        )
    logs = prim.vjp_bwd(*residuals, out_cts, *_unflatten(prim, sums))
    if logs is not None and type(logs) is not dict:
        raise TypeError(
            f"vjp_bwd of {name_of(prim)} is to return None or a dict of backward-pass log entries, "
            f"but returned {logs!r} of type {type(logs).__name__}"
        )
    found = [
        _none_for_zero(each.freeze()) if flag else None
        for flag, each in zip(active, sums, strict=True)
    ]
    return found, logs


def num_closed_over(prim: Any) -> int:
    """How many of the first arguments are what a user's function closes over.

    One of the two versions passes these to the function, but not to its rule.
    """
    if isinstance(prim, OnArrays):
        return sum(map(len, prim.in_avals[: num_closed_over(prim.prim)]))
    takes_them = type(prim).__name__ == "CustomVJPTraced" and hasattr(prim, "drop_fwd_consts")
    return len(jax.tree.leaves(prim.in_avals[0])) if takes_them else 0


def defines(prim: Any, method: str) -> bool:
    """Whether the class of `prim` has this method of its own."""
    return getattr(type(prim), method) is not getattr(Operation, method)


def is_of_jax(prim: Any, name: str = "") -> bool:
    """Whether JAX defines the class of `prim`, and calls it `name` if given."""
    cls = type(prim)
    return cls.__module__.startswith("jax.") and name in ("", cls.__name__)


def _unflatten(prim: Any, flat: Sequence[Any]) -> tuple[Any, ...]:
    args: tuple[Any, ...] = jax.tree.unflatten(prim.in_tree, flat)
    return args


def _flat_results(prim: Any, results: Any) -> list[Any]:
    flat: list[Any] = prim.out_tree.flatten_up_to(results)
    return flat


def _none_for_zero(tangent: Any) -> Any:
    return None if isinstance(tangent, ad.Zero) else tangent


class OfPrimitive(Operation):  # type: ignore[misc]
    """The operation that a primitive of the older interface (`HiPrimitive`) is."""

    def __init__(self, eqn: Any) -> None:
        self.in_avals = tuple(x.aval for x in eqn.invars)
        self.out_aval = [x.aval for x in eqn.outvars]
        has_rule = type(eqn.primitive).jvp is not vars(hijax)["HiPrimitive"].jvp
        self.name, self.mode = eqn.primitive.name, "jvp" if has_rule else None
        self.params = {"primitive": eqn.primitive, "further": tuple(eqn.params.items())}
        super().__init__()

    def _results(self, given: Any) -> list[Any]:
        return list(given) if self.primitive.multiple_results else [given]

    def expand(self, *args: Any) -> Any:
        return self._results(self.primitive.to_lojax(*args, **dict(self.further)))

    def jvp(self, primals: Any, tangents: Any) -> Any:
        results, dots = self.primitive.jvp(primals, tangents, **dict(self.further))
        return self._results(results), self._results(dots)


class OnArrays(Operation):  # type: ignore[misc]
    """An operation on the arrays that stand for its arguments, and gives those of its results.

    Arguments and results are tuples, one for each of the operation's own.
    """

    def __init__(self, prim: Any) -> None:
        ins, outs = self._ins, self._outs = prim.in_avals_flat, prim.out_avals_flat
        # Operations say that they are equal if their parameters are, whatever their types.
        self.prim, self.params = prim, {"prim": prim, "types": (*ins, *outs)}
        self.effects = prim.effects
        self.in_avals = tuple(form(aval).avals for aval in ins)
        if not all(says_lowering(aval) for aval in outs if is_hi_type(aval)):
            jax.eval_shape(self.expand, *self.in_avals)
        self.out_aval = tuple(form(aval).avals for aval in outs)
        super().__init__()

    @property
    def needs_rule(self) -> bool:
        """Whether the derivative of the expansion, which knows of no carriers, says nothing."""
        known = map(form, self.params["types"])
        return any(each.has_carriers or each.tangent is None for each in known)

    def expand(self, *groups: Any) -> Any:
        # JAX's own call the function that they hold; users' look into objects.
        is_call = isinstance(self.prim, OfCustomCall) or is_of_jax(self.prim)
        change = to_value if is_call else to_object
        return _each(to_arrays, self._outs, expand(self.prim, _each(change, self._ins, groups)))

    def jvp(self, primals: Any, tangents: Any) -> Any:
        check_has_tangents(self.params["types"])
        moved = _each(_tangent, self._ins, tangents)
        results, dots = jvp(self.prim, _each(to_value, self._ins, primals), moved)
        return _each(to_arrays, self._outs, results), _each(from_tangent, self._outs, dots)

    def vjp_fwd(self, flags: Any, *groups: Any) -> Any:
        check_has_tangents(self.params["types"])
        active = _each(_moves, self._ins, flags)
        results, residuals = vjp_fwd(self.prim, active, _each(to_value, self._ins, groups))
        return _each(to_arrays, self._outs, results), residuals

    def vjp_bwd(self, residuals: Any, outgrad: Any, *sums: Any) -> Any:
        flags = [[isinstance(each, ValAccum) for each in group] for group in sums]
        active, cts = _each(_moves, self._ins, flags), _each(_tangent, self._outs, outgrad)
        found, logs = vjp_bwd(self.prim, active, residuals, cts)
        for group, of_arrays in zip(sums, _each(from_tangent, self._ins, found), strict=True):
            for each, ct in zip(group, of_arrays, strict=True):
                if isinstance(each, ValAccum) and not isinstance(ct, ad.Zero):
                    each.accum(ct)
        return logs


def _each(change: Callable[[Any, Any], Any], avals: Sequence[Any], values: Sequence[Any]) -> Any:
    return tuple(change(*pair) for pair in zip(avals, values, strict=True))


def _moves(aval: Any, flags: Sequence[bool]) -> bool:
    """Whether an argument is active, from which of its arrays are."""
    return any(flags[i] for i in form(aval).moving)


def _tangent(aval: Any, tangents: Sequence[Any]) -> Any:
    """The tangent of a value from those of its arrays; None where all are zero."""
    moving = form(aval).moving
    if all(isinstance(tangents[i], ad.Zero) for i in moving):
        return None
    return to_tangent(aval, {i: ad.instantiate_zeros(tangents[i]) for i in moving})
