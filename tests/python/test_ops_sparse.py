"""JAX's sparse formats: derivatives and batches of what they store, against dense arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax.experimental import sparse
from jax.experimental.sparse.linalg import spsolve

import bmgrad.math as bm

MATRIX = np.array([[0.0, 1.5, 0.0, -0.4], [2.0, 0.0, 0.0, 0.0], [0.0, -1.1, 0.7, 0.0]])
PLACES = np.nonzero(MATRIX)
STORED = MATRIX[PLACES]
VECTOR, COLUMNS = np.linspace(-1, 2, 4), np.linspace(-1, 1, 8).reshape(4, 2)
FORMATS = {"BCOO": sparse.BCOO, "BCSR": sparse.BCSR, "COO": sparse.COO, "CSR": sparse.CSR}


def holding(name, stored):
    """The matrix with the pattern of `MATRIX` and these values."""
    pattern = FORMATS[name].fromdense(MATRIX, nse=len(STORED), index_dtype=np.int32)
    (_, *indices), shape = pattern.tree_flatten()
    return FORMATS[name].tree_unflatten(shape, (stored, *indices))


def dense(stored):
    return jnp.zeros(MATRIX.shape, stored.dtype).at[PLACES].set(stored)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("other", [VECTOR, COLUMNS], ids=["vector", "columns"])
def test_product(name, other):
    check_derivatives(
        lambda stored, other: holding(name, stored) @ other,
        STORED,
        other,
        oracle=lambda stored, other: dense(stored) @ other,
    )


@pytest.mark.parametrize("name", FORMATS)
def test_to_dense(name):
    check_derivatives(lambda stored: holding(name, stored).todense(), STORED, oracle=dense)


@pytest.mark.parametrize("name", FORMATS)
def test_from_dense(name):
    check_derivatives(
        lambda x: FORMATS[name].fromdense(x, nse=len(STORED)).data ** 2,
        MATRIX,
        oracle=lambda x: x[PLACES] ** 2,
        differences=False,
    )


def test_batching():
    check_batching(lambda stored, x: holding("BCOO", stored) @ x, STORED, VECTOR)
    # Of which JAX has no batches.
    batch = np.stack([STORED, 2 * STORED]).astype(np.float32)
    got = bm.vmap(lambda stored: holding("CSR", stored) @ VECTOR)(batch)
    np.testing.assert_allclose(got, np.stack([MATRIX @ VECTOR, 2 * MATRIX @ VECTOR]), rtol=1e-6)


def test_products_of_sparse_matrices():
    def product(stored):
        m = holding("BCOO", stored)
        twice = sparse.BCOO((jnp.tile(m.data, 2), jnp.tile(m.indices, (2, 1))), shape=m.shape)
        summed = twice.sum_duplicates(nse=len(STORED)).sort_indices()
        return (summed.T @ m).todense()

    # JAX cannot transpose the product of two sparse matrices.
    check_derivatives(product, STORED, oracle=lambda stored: 2 * dense(stored).T @ dense(stored))


def test_sampled_product():
    at = np.stack(PLACES, axis=1)
    contract_last = (([1], [1]), ([], []))
    check_derivatives(
        lambda x, y: sparse.bcoo_dot_general_sampled(x, y, at, dimension_numbers=contract_last),
        MATRIX,
        COLUMNS @ COLUMNS.T,
        oracle=lambda x, y: (x @ y.T)[PLACES],
    )


def test_gradient_has_the_format():
    matrix = sparse.BCOO.fromdense(MATRIX)
    loss = lambda m: jnp.sum((m @ VECTOR) ** 2)  # noqa: E731
    gradient = bm.grad(loss, allow_int=True)(matrix)
    assert jax.tree.structure(gradient) == jax.tree.structure(matrix)
    want = np.outer(2 * MATRIX @ VECTOR, VECTOR)
    np.testing.assert_allclose(gradient.data, want[PLACES], rtol=1e-6)


def test_solve():
    square = MATRIX @ MATRIX.T + np.diag([1.0, 0.0, 2.0]) + np.eye(3, k=2)
    pattern = sparse.CSR.fromdense(square)
    at, rhs = np.nonzero(square), np.linspace(-1, 2, 3)
    assert len(at[0]) < square.size

    def of_dense(stored, rhs):
        return jnp.linalg.solve(jnp.zeros((3, 3), stored.dtype).at[at].set(stored), rhs)

    check_derivatives(
        lambda stored, rhs: spsolve(stored, pattern.indices, pattern.indptr, rhs),
        square[at],
        rhs,
        oracle=of_dense,
    )
