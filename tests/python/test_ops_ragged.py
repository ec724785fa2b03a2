"""Products with ragged dimensions: values, derivatives and batching.

JAX differentiates few of them, and once: the oracles of the others are written out.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def ragged(contract, batch, ragged_dims, group_dims, sizes):
    numbers = lax.RaggedDotDimensionNumbers((contract, batch), ragged_dims, group_dims)
    return lambda x, y: lax.ragged_dot_general(x, y, np.asarray(sizes, np.int32), numbers)


def rows(x, y):
    return lax.ragged_dot(x, y, np.asarray([2, 0, 3], np.int32))


def rows_written_out(x, y):
    return jnp.concatenate([x[:2] @ y[0], x[2:5] @ y[2], 0 * x[5:] @ y[0]])


batch = ragged(((2,), (2,)), ((0,), (1,)), (1,), (0,), [[1, 3], [2, 2]])


def batch_written_out(x, y):
    first = jnp.concatenate([x[0, :1] @ y[0, 0], x[0, 1:] @ y[1, 0]])
    second = jnp.concatenate([x[1, :2] @ y[0, 1], x[1, 2:] @ y[1, 1]])
    return jnp.stack([first, second])


contracted = ragged(((0,), (0,)), ((), ()), (0,), (), [2, 3])


def contracted_written_out(x, y):
    return jnp.stack([x[:2].T @ y[:2], x[2:5].T @ y[2:5]])


PRODUCTS = {
    "groups of rows": (rows, rows_written_out, array(6, 2), array(3, 2, 4)),
    "batch": (batch, batch_written_out, array(2, 4, 3), array(2, 2, 3, 2)),
    "contracted": (contracted, contracted_written_out, array(6, 2), array(6, 3)),
    "batch is ragged": (
        ragged(((2,), (1,)), ((0,), (0,)), (0,), (), [1, 2]),
        jnp.matmul,
        array(3, 2, 4),
        array(3, 4, 2),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives(name):
    fun, oracle, *args = PRODUCTS[name]

    def curved(fun):
        return lambda x, y: fun(jnp.sin(x), y) ** 2

    with jax.enable_x64(True):
        np.testing.assert_allclose(bm.jit(fun)(*args), jax.jit(fun)(*args))
    check_derivatives(curved(fun), *args, oracle=curved(oracle))


@pytest.mark.parametrize("name", ["groups of rows", "contracted"])
def test_batching(name):
    fun, oracle, x, y = PRODUCTS[name]
    xs, ys = array(2, *x.shape), array(2, *y.shape)
    for in_axes in ((0, 0), (None, 0), (0, None)):
        args = (x if in_axes[0] is None else xs, y if in_axes[1] is None else ys)
        got, want = bm.vmap(fun, in_axes)(*args), jax.vmap(oracle, in_axes)(*args)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
