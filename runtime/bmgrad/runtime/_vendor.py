"""The kernels behind ops that have our rules and JAX's lowering.

In: an op's attributes and operands. Out: its results, computed by the public function
of JAX that picks the vendor's library of each platform (LAPACK, cuSOLVER, ...).

A key is an op's name without `bm.`; the function takes the op's attributes as keywords
and the leading dimensions of operands are batches. None of these is ever differentiated.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.lax import linalg

from bmgrad.runtime import _collectives

Kernel = Callable[..., Any]


def _approx_top_k(x: Any, *, k: int, axis: int, is_max_k: bool, **options: Any) -> Any:
    find = jax.lax.approx_max_k if is_max_k else jax.lax.approx_min_k
    return find(x, k, axis, **options)


def _cholesky(x: Any) -> Any:
    return linalg.cholesky(x, symmetrize_input=False)


def _cholesky_update(factor: Any, w: Any) -> Any:
    # JAX has no batches of these.
    *batch, size, _ = factor.shape
    if not batch:
        return linalg.cholesky_update(factor, w)
    if math.prod(batch) == 0:
        return factor
    flat = factor.reshape(-1, size, size), w.reshape(-1, size)
    return jax.lax.map(lambda pair: linalg.cholesky_update(*pair), flat).reshape(factor.shape)


def _eig(
    x: Any,
    *,
    compute_left_eigenvectors: bool = False,
    compute_right_eigenvectors: bool = False,
    enable_eigvec_derivs: bool = False,
    implementation: str | None = None,
) -> Any:
    return linalg.eig(
        x,
        compute_left_eigenvectors=compute_left_eigenvectors,
        compute_right_eigenvectors=compute_right_eigenvectors,
        implementation=linalg.EigImplementation[implementation] if implementation else None,
    )


def _eigh(
    x: Any,
    *,
    lower: bool = False,
    sort_eigenvalues: bool = False,
    subset_by_index: list[int] | None = None,
    algorithm: str | None = None,
) -> Any:
    return linalg.eigh(
        x,
        lower=lower,
        symmetrize_input=False,
        sort_eigenvalues=sort_eigenvalues,
        subset_by_index=_range(subset_by_index),
        implementation=linalg.EighImplementation[algorithm] if algorithm else None,
    )


def _svd(
    x: Any,
    *,
    full_matrices: bool = False,
    compute_uv: bool = False,
    subset_by_index: list[int] | None = None,
    algorithm: str | None = None,
) -> Any:
    results = linalg.svd(
        x,
        full_matrices=full_matrices,
        compute_uv=compute_uv,
        subset_by_index=_range(subset_by_index),
        algorithm=linalg.SvdAlgorithm[algorithm] if algorithm else None,
    )
    if not compute_uv:
        return results
    u, s, vh = results
    return s, u, vh


def _range(subset: list[int] | None) -> tuple[int, int] | None:
    return (subset[0], subset[1]) if subset else None


def _qr(x: Any, *, full_matrices: bool = False, **options: Any) -> Any:
    return linalg.qr(x, full_matrices=full_matrices, **options)


KERNELS: dict[str, Kernel] = _collectives.KERNELS | {
    "approx_top_k": _approx_top_k,
    "bessel_i0e": jax.lax.bessel_i0e,
    "cholesky": _cholesky,
    "cholesky_update": _cholesky_update,
    "eig": _eig,
    "eigh": _eigh,
    "igamma": jax.lax.igamma,
    "igammac": jax.lax.igammac,
    "igamma_grad_a": jax.lax.igamma_grad_a,
    "lu": linalg.lu,
    "lu_pivots_to_permutation": linalg.lu_pivots_to_permutation,
    "qr": _qr,
    "regularized_incomplete_beta": jax.lax.betainc,
    "svd": _svd,
    "triangular_solve": linalg.triangular_solve,
    "tridiagonal_solve": linalg.tridiagonal_solve,
}


def run(name: str, params: Mapping[str, Any], *operands: Any) -> list[Any]:
    """The results of kernel `name`, always as a list."""
    results = KERNELS[name](*operands, **params)
    return list(results) if isinstance(results, (tuple, list)) else [results]
