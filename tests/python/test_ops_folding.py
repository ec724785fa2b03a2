"""Reductions by a computation of one's own: values, derivatives, batching against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def fold(join, init, axes):
    return lambda x: lax.reduce(x, np.asarray(init, x.dtype), join, axes)


def log_add(a, b):
    return jnp.logaddexp(a, b)


def norm(a, b):
    return jnp.sqrt(a * a + b * b)


def larger(a, b):
    return jnp.where(a >= b, a, b)


FOLDS = {
    "log of sum": (fold(log_add, -np.inf, (0,)), array(5, 2)),
    "norm": (fold(norm, 0.0, (1,)), array(2, 4)),
    "norm of all": (fold(norm, 0.0, (0, 1)), array(3, 2)),
    "over outer and inner": (fold(norm, 0.0, (2, 0)), array(3, 2, 2)),
    "sum": (fold(lambda a, b: a + b, 0.0, (1,)), array(2, 3)),
    "product": (fold(lambda a, b: b * a, 1.0, (0, 1)), array(2, 3)),
    "nothing to join": (fold(norm, 0.0, (1,)), array(2, 0)),
    "nothing comes out": (fold(norm, 0.0, (1,)), array(0, 2)),
}


@pytest.mark.parametrize("name", FOLDS)
def test_derivatives(name):
    fun, x = FOLDS[name]
    check_derivatives(lambda x: fun(jnp.sin(x)) ** 2, x)


@pytest.mark.parametrize("name", FOLDS)
def test_batching(name):
    fun, x = FOLDS[name]
    check_batching(lambda x: fun(x) ** 2, x)


def test_ties():
    x = np.asarray([[1.0, 2, 2, 0, 2], [2, 2, 0, 0, 1]])
    for join in (larger, lambda a, b: lax.max(a, b) + 0.0):
        check_derivatives(fold(join, -np.inf, (1,)), x, differences=False)


def test_initial_value():
    """It is joined once, also with derivatives, and has one of its own."""

    def fun(x, init):
        return lax.reduce(x, init, norm, (0,))

    x, init = array(5), np.asarray(0.7)
    want = np.sqrt((x**2).sum() + init**2)
    with jax.enable_x64(True):
        for n in (1, 4, 5):
            value, (dx, dinit) = (
                bm.vjp(fun, x[:n], init)[0],
                bm.grad(fun, argnums=(0, 1))(x[:n], init),
            )
            want = np.sqrt((x[:n] ** 2).sum() + init**2)
            np.testing.assert_allclose(value, want)
            np.testing.assert_allclose(dx, x[:n] / want)
            np.testing.assert_allclose(dinit, init / want)
        inits = np.asarray([0.5, 0.7])
        got = bm.vmap(fun, (None, 0))(x, inits)
        np.testing.assert_allclose(got, np.sqrt((x**2).sum() + inits**2))


def test_sum_from_an_initial_value():
    def fun(x, init):
        return lax.reduce(x, init, lax.add, (0,))

    with jax.enable_x64(True):
        x = array(3, 2)
        assert bm.grad(lambda init: fun(x, init).sum())(np.asarray(2.0)) == 2
        np.testing.assert_allclose(bm.jit(fun)(x, np.asarray(2.0)), x.sum(0) + 2)


def test_several_arrays():
    """Mean and sum of squares in one pass, as in Welford's algorithm."""

    def merge(a, b):
        (n, mean, squares), (m, other, more) = a, b
        total = jnp.maximum(n + m, 1.0)
        delta = other - mean
        return n + m, mean + delta * m / total, squares + more + delta**2 * n * m / total

    def variance(x):
        zero = np.zeros((), x.dtype)
        ones = jnp.ones_like(x)
        n, _, squares = lax.reduce((ones, x, jnp.zeros_like(x)), (zero, zero, zero), merge, (0,))
        return squares / n

    x = array(5, 2)
    with jax.enable_x64(True):
        np.testing.assert_allclose(bm.jit(variance)(x), x.var(0))
    # JAX cannot differentiate some of several arrays.
    check_derivatives(variance, x, oracle=lambda x: x.var(0))
    xs = array(3, 5, 2)
    got, want = (
        lib.vmap(lib.grad(lambda x, f=f: f(x).sum()))(xs)
        for lib, f in ((bm, variance), (jax, lambda x: x.var(0)))
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_integers():
    def both(a, b):
        return a & (b | 1)

    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    fun = fold(both, -1, (1,))
    np.testing.assert_array_equal(bm.jit(fun)(x), fun(x))
    np.testing.assert_array_equal(bm.vmap(fun)(x[None]), fun(x)[None])
    for join in (lax.bitwise_and, lax.bitwise_or, lax.bitwise_xor):
        named = fold(lambda a, b, join=join: join(a, b), 5, (0,))
        np.testing.assert_array_equal(bm.jit(named)(x), named(x))


def test_arguments_of_extremes():
    """What is largest has a derivative, where it is has none."""

    def later(a, b):
        keep = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jax.tree.map(lambda x, y: jnp.where(keep, x, y), a, b)

    def fun(x):
        inits = np.asarray(-np.inf, x.dtype), np.int32(-1)
        return lax.reduce((x, lax.broadcasted_iota(np.int32, x.shape, 1)), inits, later, (1,))

    x = array(3, 5)
    with jax.enable_x64(True):
        for got, want in zip(bm.jit(fun)(x), fun(x), strict=True):
            np.testing.assert_array_equal(got, want)
    check_derivatives(lambda x: fun(x)[0] ** 2, x, oracle=lambda x: x.max(1) ** 2)


@pytest.mark.parametrize("window", [2, 5])
@pytest.mark.parametrize("spacing", [((0, 0), 1), ((1, 1), 1), ((0, 2), 2)])
def test_padding_is_joined_with_nothing(window, spacing):
    """As backends do, whatever the initial value; it is joined once."""
    padding, dilation = spacing

    def fun(x):
        init = np.asarray(3.0, x.dtype)
        return lax.reduce_window(
            x, init, lambda a, b: a + b, (window,) * 2, (1, 1), (padding,) * 2, (dilation,) * 2
        )

    x = array(5, 6)
    with jax.enable_x64(True):
        want = fun(x)
        np.testing.assert_allclose(bm.jit(fun)(x), want)
        np.testing.assert_allclose(bm.jvp(fun, (x,), (x,))[0], want)
        np.testing.assert_allclose(bm.vmap(fun)(x[None])[0], want)
        np.testing.assert_allclose(bm.jvp(fun, (x,), (x,))[1], fun(x) - 3)
        # A sum: the transpose of the tangent has the same products.
        ct = np.asarray(fun(x))
        (gradient,) = bm.vjp(fun, x)[1](ct)
        np.testing.assert_allclose((gradient * x).sum(), (ct * (ct - 3)).sum())
