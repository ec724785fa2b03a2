"""Mantissas and exponents, where JAX keeps `ldexp` and `frexp` as operations of hijax.

In: such an operation. Out: its derivative. What it expands to moves bits, which have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

ForwardRule = Callable[[Any, Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]]


def _ldexp(
    prim: Any, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    (x, exponent), (dx, _) = primals, tangents
    return [prim(x, exponent)], [_scaled(dx, exponent)]


def _frexp(
    prim: Any, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    mantissa, exponent = prim(*primals)
    return [mantissa, exponent], [_scaled(tangents[0], -exponent), None]


def _scaled(tangent: Any, exponent: Any) -> Any:
    return None if tangent is None else tangent * jnp.ldexp(jnp.ones_like(tangent), exponent)


# By the name of JAX's class.
FORWARD_RULES: dict[str, ForwardRule] = {"Frexp": _frexp, "Ldexp": _ldexp}
