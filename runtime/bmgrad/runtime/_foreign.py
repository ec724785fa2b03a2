"""Primitives of third parties: the rules that they registered, with JAX or with bmgrad.

In: a primitive. Out: its forward derivative, its transpose, each in one form. JAX's own
primitives have none here, unless somebody registered one with bmgrad.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from bmgrad.runtime._jax_internals import (
    ShapedArray,
    ValAccum,
    accumulating_transposes,
    is_batched_elementwise,
    linearization_of,
    tangent_aval,
)

# With None for a zero tangent: `(primals, tangents, params) -> (results, tangents)`.
Jvp: TypeAlias = Callable[
    [Sequence[Any], Sequence[Any], Mapping[str, Any]], tuple[list[Any], list[Any]]
]
# Linear operands are given as their avals; a cotangent or None for each operand:
# `(cotangents, operands, params) -> cotangents`.
Transpose: TypeAlias = Callable[[Sequence[Any], Sequence[Any], Mapping[str, Any]], list[Any]]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What somebody registered with bmgrad; see `bmgrad.extend.register_primitive`."""

    jvp: Callable[..., Any] | None
    transpose: Callable[..., Any] | None


_registered: dict[Any, Rules] = {}


def register(primitive: Any, rules: Rules, batch: Callable[..., Any] | None) -> None:
    """Takes `rules` for `primitive`, and `batch` as JAX's batching rule too."""
    _registered[primitive] = rules
    if batch is not None:
        batching.primitive_batchers[primitive] = batch


def jvp_of(primitive: Any) -> Jvp | None:
    """The forward derivative of `primitive`; None where it has none of its own."""
    if (ours := _registered.get(primitive)) and (registered := ours.jvp):
        return lambda primals, tangents, params: _as_lists(
            primitive, *registered(primals, tangents, **params)
        )
    rule = ad.primitive_jvps.get(primitive) or _jvp_by_linearization(primitive)
    if rule is None or is_of_jax(primitive):
        return None

    def jvp(
        primals: Sequence[Any], tangents: Sequence[Any], params: Mapping[str, Any]
    ) -> tuple[list[Any], list[Any]]:
        filled = [
            ad.Zero(tangent_aval(jax.typeof(x))) if t is None else t
            for x, t in zip(primals, tangents, strict=True)
        ]
        results, out_tangents = _as_lists(primitive, *rule(tuple(primals), tuple(filled), **params))
        return results, [None if isinstance(t, ad.Zero) else t for t in out_tangents]

    return jvp


def _jvp_by_linearization(primitive: Any) -> Callable[..., Any] | None:
    if (linearize := linearization_of(primitive)) is None:
        return None

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        perturbed = [not isinstance(t, ad.Zero) for t in tangents]
        # Of the versions of JAX one has residuals with a structure beside those without.
        results, _, *residuals, linear = linearize(True, perturbed, *primals, **params)
        return results, linear(*residuals, *tangents)

    return jvp


def has_own_jvp(primitive: Any) -> bool:
    """Whether a third party has given `primitive` a forward derivative."""
    return jvp_of(primitive) is not None


def transpose_of(primitive: Any) -> Transpose | None:
    """The transpose of `primitive`; None where it has none of its own."""
    rule: Callable[..., Any]
    linear: Callable[[ShapedArray], Any]
    if (ours := _registered.get(primitive)) and ours.transpose:
        rule, linear = ours.transpose, _shape
    elif (found := accumulating_transposes.get(primitive)) and not is_of_jax(primitive):
        rule, linear = functools.partial(_accumulated, found), _sum
    elif (found := ad.primitive_transposes.get(primitive)) and not is_of_jax(primitive):
        rule, linear = functools.partial(_spread, found), ad.UndefinedPrimal
    else:
        return None

    def transpose(
        cts: Sequence[Any], operands: Sequence[Any], params: Mapping[str, Any]
    ) -> list[Any]:
        given = [linear(x) if isinstance(x, ShapedArray) else x for x in operands]
        results = rule(list(cts) if primitive.multiple_results else cts[0], given, **params)
        return [None if isinstance(ct, ad.Zero) else ct for ct in results]

    return transpose


def _spread(rule: Callable[..., Any], cts: Any, operands: Sequence[Any], **params: Any) -> Any:
    return rule(cts, *operands, **params)


def _accumulated(
    rule: Callable[..., Any], cts: Any, operands: Sequence[Any], **params: Any
) -> list[Any]:
    rule(cts, *operands, **params)
    return [x.freeze() if isinstance(x, ValAccum) else None for x in operands]


def _sum(aval: ShapedArray) -> Any:
    return ValAccum(aval.to_ct_aval())


def _as_lists(primitive: Any, results: Any, tangents: Any) -> tuple[list[Any], list[Any]]:
    if primitive.multiple_results:
        return list(results), list(tangents)
    return [results], [tangents]


def _shape(aval: ShapedArray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


# Primitives of JAX whose derivative is what a user wrote.
_CARRIERS = ("linear_call",)


@functools.cache
def has_batching_rule(primitive: Any) -> bool:
    """Whether a batching rule of users or third parties says what batches of `primitive` are."""
    return primitive.name == "custom_vmap_call" or not is_of_jax(primitive)


def batches_by_rule(primitive: Any) -> bool:
    """Whether a batch of `primitive` may be more than the primitive on each element."""
    return has_batching_rule(primitive) and not is_batched_elementwise(primitive)


def is_of_jax(primitive: Any) -> bool:
    """Whether `primitive` and its derivative are JAX's; its modules hold all that are."""
    # It may be of a module that was imported since.
    return primitive in _held_by_jax(len(sys.modules))


@functools.lru_cache(maxsize=1)
def _held_by_jax(_: int) -> frozenset[Any]:
    """The primitives in JAX's modules, when there are so many modules in all."""
    return frozenset(
        value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("jax", "jaxlib")
        for value in vars(module).values()
        if isinstance(value, Primitive) and value.name not in _CARRIERS
    )
