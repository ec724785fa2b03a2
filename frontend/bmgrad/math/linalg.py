"""Linear algebra: the functions of ``jax.numpy.linalg``, for ``bm.Array``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from bmgrad.math._wrapping import export

__all__ = export(
    """
    cholesky cond cross det diagonal eig eigh eigvals eigvalsh inv lstsq matmul matrix_norm
    matrix_power matrix_rank matrix_transpose multi_dot norm outer pinv qr slogdet solve svd svdvals
    tensordot tensorinv tensorsolve trace vecdot vector_norm
    """,
    jnp.linalg,
    globals(),
    __name__,
)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
