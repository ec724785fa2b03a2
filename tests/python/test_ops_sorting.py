"""Sorting and selection of the largest: values, derivatives and batching are those of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.random.default_rng(0).normal(size=(5, 4))
V = X[:, 1]
TIES = np.asarray([2.0, 1.0, 2.0, 1.0, 0.0])


def curved(x):
    return x * x * x


def sort(dimension, **options):
    return lambda *xs: [curved(x) for x in lax.sort(xs, dimension, **options)]


FUNCTIONS = {
    "columns": (sort(0), X),
    "rows": (sort(1), X),
    "one row": (sort(0), X[:1]),
    "no rows": (sort(1), X[:0]),
    "empty rows": (sort(1), X[:, :0]),
    "payload": (sort(0), V, X[:, 2], X[:, 3]),
    "unstable": (sort(0, is_stable=False), V, X[:, 2]),
    "two keys": (lambda x: curved(lax.sort((jnp.round(x), x), num_keys=2)[1]), V),
    "largest": (lambda x: curved(lax.top_k(curved(x), 2)[0]), X),
    "largest of columns": (lambda x: curved(lax.top_k(curved(x), 3, axis=0)[0]), X),
    "all": (lambda x: lax.top_k(curved(x), 4)[0], X),
    "none": (lambda x: lax.top_k(curved(x), 0)[0], X),
    "nearly the largest": (lambda x: curved(lax.approx_max_k(curved(x), 2)[0]), X),
    "nearly the smallest": (
        lambda x: curved(lax.approx_min_k(x, 2, 0, recall_target=0.8)[0]),
        X,
    ),
    "median": (lambda x: jnp.median(curved(x), axis=0), X),
    "argsort": (lambda x: curved(x)[jnp.argsort(x)], V),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(fun, *args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batching(name):
    fun, *args = FUNCTIONS[name]
    check_batching(fun, *args)


def test_ties():
    """Equal keys keep their order, in derivatives too."""
    check_derivatives(sort(0), TIES, V, differences=False)
    check_derivatives(lambda x: curved(lax.top_k(x, 3)[0]), TIES, differences=False)


def same(fun, *args):
    for got, want in zip(bm.jit(fun)(*args), fun(*args), strict=True):
        assert got.dtype == want.dtype
        # NumPy does not know that a bfloat16 may be NaN.
        wide = np.float64 if got.dtype == jnp.bfloat16 else got.dtype
        np.testing.assert_array_equal(np.asarray(got, wide), np.asarray(want, wide))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, jnp.bfloat16])
def test_special_values(dtype):
    """NaN comes last and the zeros are equal."""
    values = jnp.asarray([np.nan, 1, -0.0, 0.0, -np.inf, np.inf, -np.nan, -1], dtype)
    if dtype == np.complex64:
        values = values + 1j * jnp.asarray([0, 1, 1, -1, 0, 0, 2, 1], np.float32)
    same(lambda x: lax.sort((x, jnp.arange(8))), values)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_, np.int16])
def test_integers(dtype):
    values = jnp.asarray(np.asarray([3, 0, 200, 7, 0]).astype(dtype))
    same(lambda x: (jnp.sort(x), jnp.argsort(x)), values)
    same(lambda x: lax.top_k(x, 2), values)


def test_integer_payload_has_no_tangent():
    def fun(x):
        keys, places = lax.sort((curved(x), jnp.arange(5)), num_keys=1)
        return keys * places

    check_derivatives(fun, V)
    assert jax.eval_shape(fun, V).shape == (5,)
