"""Operations of hijax (objects that bring rules), on flat arguments.

In: the object that an equation of `call_hi_primitive` holds. Out: what it computes and what its
rules do, with flat arguments and results.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import hijax
from jax.interpreters import ad

from bmgrad.runtime._jax_internals._custom_rules import NullAccum, ValAccum

# The class has another name in each of the two versions.
Operation: Any = getattr(hijax, "HiPrim", None) or vars(hijax)["VJPHiPrimitive"]


def name_of(prim: Any) -> str:
    """What the user calls it."""
    traced = getattr(prim, "traced", None)
    return str(getattr(traced, "fun_name", "") or type(prim).__name__)


def is_of_jax(prim: Any, name: str = "") -> bool:
    """Whether JAX defines the class of `prim`, and calls it `name` if given."""
    cls = type(prim)
    return cls.__module__.startswith("jax.") and name in ("", cls.__name__)


def defines(prim: Any, method: str) -> bool:
    """Whether the class of `prim` has this method of its own."""
    return getattr(type(prim), method) is not getattr(Operation, method)


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
    takes_them = type(prim).__name__ == "CustomVJPTraced" and hasattr(prim, "drop_fwd_consts")
    return len(jax.tree.leaves(prim.in_avals[0])) if takes_them else 0


def _unflatten(prim: Any, flat: Sequence[Any]) -> tuple[Any, ...]:
    args: tuple[Any, ...] = jax.tree.unflatten(prim.in_tree, flat)
    return args


def _flat_results(prim: Any, results: Any) -> list[Any]:
    flat: list[Any] = prim.out_tree.flatten_up_to(results)
    return flat


def _none_for_zero(tangent: Any) -> Any:
    return None if isinstance(tangent, ad.Zero) else tangent
