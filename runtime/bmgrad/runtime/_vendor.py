"""The kernels behind ops that have our rules and JAX's lowering.

In: an op's attributes and operands. Out: its results, computed by the public function
of JAX that picks the vendor's library of each platform (LAPACK, cuSOLVER, ...).

A key is an op's name without `bm.`; the function takes the op's attributes as keywords
and the leading dimensions of operands are batches. None of these is ever differentiated.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Kernel = Callable[..., Any]

KERNELS: dict[str, Kernel] = {
    "bessel_i0e": jax.lax.bessel_i0e,
    "igamma": jax.lax.igamma,
    "igammac": jax.lax.igammac,
    "igamma_grad_a": jax.lax.igamma_grad_a,
    "random_gamma_grad": jax.lax.random_gamma_grad,
    "regularized_incomplete_beta": jax.lax.betainc,
}


def run(name: str, params: Mapping[str, Any], *operands: Any) -> list[Any]:
    """The results of kernel `name`, always as a list."""
    results = KERNELS[name](*operands, **params)
    return list(results) if isinstance(results, (tuple, list)) else [results]
