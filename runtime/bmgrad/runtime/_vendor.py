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
import jax.numpy as jnp
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


def _schur(x: Any, *, compute_schur_vectors: bool = False) -> Any:
    return linalg.schur(x, compute_schur_vectors=compute_schur_vectors)


def _commutator_solve(t: Any, p: Any, *, transpose: bool = False) -> Any:
    # Column j of the equation is a triangular system once those before it are known, or, for the
    # transpose, those after it.
    size = t.shape[-1]
    if size == 0:
        return p
    rows, identity = jnp.arange(size), jnp.eye(size, dtype=t.dtype)
    t = jnp.triu(t)
    values = jnp.diagonal(t, axis1=-2, axis2=-1)

    def solve_column(step: Any, r: Any) -> Any:
        j = size - 1 - step if transpose else step
        gaps = values[..., j, None] - values
        is_open = (rows > j) & (gaps != 0)
        matrix = jnp.where(
            is_open[..., :, None] & (rows > j), identity * values[..., j, None, None] - t, identity
        )
        known = t[..., j, :] if transpose else t[..., :, j]
        rest = p[..., :, j] - jnp.matmul(r, known[..., None], precision="highest")[..., 0]
        if not transpose:
            rest = jnp.where(is_open, rest, 0)
        rest = jnp.where(rows > j, rest, 0)
        column = linalg.triangular_solve(
            matrix, rest[..., None], left_side=True, transpose_a=transpose
        )
        return r.at[..., :, j].set(jnp.where(is_open, column[..., 0], 0))

    return jax.lax.fori_loop(0, size, solve_column, jnp.zeros_like(p))


def _range(subset: list[int] | None) -> tuple[int, int] | None:
    return (subset[0], subset[1]) if subset else None


def _qr(x: Any, *, full_matrices: bool = False, **options: Any) -> Any:
    return linalg.qr(x, full_matrices=full_matrices, **options)


KERNELS: dict[str, Kernel] = _collectives.KERNELS | {
    "approx_top_k": _approx_top_k,
    "bessel_i0e": jax.lax.bessel_i0e,
    "cholesky": _cholesky,
    "cholesky_update": _cholesky_update,
    "commutator_solve": _commutator_solve,
    "eig": _eig,
    "eigh": _eigh,
    "igamma": jax.lax.igamma,
    "igammac": jax.lax.igammac,
    "igamma_grad_a": jax.lax.igamma_grad_a,
    "lu": linalg.lu,
    "lu_pivots_to_permutation": linalg.lu_pivots_to_permutation,
    "qr": _qr,
    "regularized_incomplete_beta": jax.lax.betainc,
    "schur": _schur,
    "svd": _svd,
    "triangular_solve": linalg.triangular_solve,
    "tridiagonal_solve": linalg.tridiagonal_solve,
}


def run(name: str, params: Mapping[str, Any], *operands: Any) -> list[Any]:
    """The results of kernel `name`, always as a list."""
    results = KERNELS[name](*operands, **params)
    return list(results) if isinstance(results, (tuple, list)) else [results]
