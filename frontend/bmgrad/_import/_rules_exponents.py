"""Mantissas and exponents, where JAX keeps `ldexp` and `frexp` as operations of hijax.

In: such an operation. Out: its derivative. What it expands to moves bits, which have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp


def ldexp_jvp(
    prim: Any, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    (x, exponent), (dx, _) = primals, tangents
    return [prim(x, exponent)], [_scaled(dx, exponent)]


def frexp_jvp(
    prim: Any, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    mantissa, exponent = prim(*primals)
    return [mantissa, exponent], [_scaled(tangents[0], -exponent), None]


def _scaled(tangent: Any, exponent: Any) -> Any:
    return None if tangent is None else tangent * jnp.ldexp(jnp.ones_like(tangent), exponent)
