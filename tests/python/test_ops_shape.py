"""Ops that move elements: values, derivatives and batching against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.linspace(-1.5, 2.0, 12).reshape(3, 4)
V = X[0]
S = np.float64(0.7)
EMPTY = np.zeros((3, 0))


def pad(low, high, interior):
    return lambda x, p: lax.pad(jnp.sin(x), p * p, [*zip(low, high, interior, strict=True)])


# Each is a movement of a nonlinear function of the arguments, so that second
# derivatives are not zero.
FUNCTIONS = {
    "broadcast new dimensions": (lambda x: lax.broadcast_in_dim(x**3, (2, 4, 3), (1,)), V),
    "broadcast a scalar": (lambda x: lax.broadcast_in_dim(jnp.sin(x), (2, 3), ()), S),
    "stretch": (lambda x: lax.broadcast_in_dim(x**3, (3, 4, 2), (0, 2)), X[:, :1]),
    "stretch to nothing": (lambda x: lax.broadcast_in_dim(x**3, (3, 0), (0, 1)), X[:, :1]),
    "reshape": (lambda x: jnp.exp(x).reshape(2, 6), X),
    "reshape nothing": (lambda x: jnp.exp(x).reshape(0, 7), EMPTY),
    "squeeze": (lambda x: lax.squeeze(jnp.exp(x[None, :, None]), (0, 2)), X),
    "transpose": (lambda x: lax.transpose(jnp.sin(x).reshape(3, 2, 2), (1, 2, 0)), X),
    "reverse": (lambda x: lax.rev(jnp.sin(x), (0, 1)), X),
    "concatenate": (lambda x, y: lax.concatenate([x * x, y[None] ** 3, jnp.sin(x)], 0), X, V),
    "concatenate with nothing": (lambda x, e: lax.concatenate([x * x, e], 1), X, EMPTY),
    "stack": (lambda x, y: jnp.stack([x * y, y**3], 1), V, X[1]),
    "split": (lambda x: [p**3 for p in lax.split(x, (1, 3), axis=1)], X),
    "one piece": (lambda x: lax.split(x**3, (1, 3), axis=1)[1], X),
    "tile": (lambda x: jnp.tile(x**3, (2, 1, 3)), X),
    "pad": (pad((1, 0), (0, 2), (0, 0)), X, S),
    "pad between": (pad((1, 0), (0, 2), (1, 2)), X, S),
    "pad negatively": (pad((-1, 2), (1, -3), (1, 0)), X, S),
    "cut off all": (pad((0, 0), (-3, 0), (0, 0)), X, S),
    "pad nothing": (pad((0, 2), (0, 1), (0, 3)), EMPTY, S),
    "copy": (lambda x: jnp.array(x**3, copy=True), X),
    "iota": (lambda x: jnp.sin(x * lax.iota(x.dtype, 4)), X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(fun, *args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batching(name):
    fun, *args = FUNCTIONS[name]
    check_batching(fun, *args)


def test_complex_derivatives():
    def fun(x, p):
        x = lax.pad(lax.rev(x * x, (0,)), p * p, [(1, -1, 1), (0, 0, 0)])
        return lax.concatenate(lax.split(x.T, (1, 3)), 0).reshape(-1)

    check_derivatives(fun, X + 1j * np.cos(X), S + 2j)


def test_movements_of_integers_have_no_tangent():
    def fun(x, n):
        n = lax.pad(lax.rev(n, (0,)), np.int32(3), [(1, 0, 0)])
        return x * lax.concatenate([n, n[:1]], 0).reshape(2, 3).astype(x.dtype).sum(), n

    x, n = jnp.float32(2.0), jnp.arange(4, dtype=jnp.int32)
    (out, same), (dout, dsame) = bm.jvp(lambda x: fun(x, n), (x,), (jnp.float32(1.0),))
    np.testing.assert_array_equal(same, [3, 3, 2, 1, 0])
    assert (float(out), float(dout)) == (24.0, 12.0)
    assert dsame.dtype == jax.dtypes.float0


def test_cotangent_of_a_padding_value_next_to_an_infinite_one():
    """It is the sum over the padding, not a difference of sums over everything."""
    _, vjp = bm.vjp(lambda x, p: lax.pad(x, p, [(1, 1, 0)]), jnp.zeros(2), jnp.float32(0.0))
    assert float(vjp(jnp.array([1.0, jnp.inf, 0.0, 2.0]))[1]) == 3.0
