"""What `docs/derivatives.md` says of ties, kinks and branches, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy.interpolate import RegularGridInterpolator

import bmgrad.math as bm

ONE = jnp.float32(1.0)
ZERO = jnp.float32(0.0)
TIED = jnp.array([2.0, 1.0, 2.0, 0.0])
HALVES = jnp.array([0.5, 0.0, 0.5, 0.0])

# What, at, and the gradients that the page promises.
CHOICES = {
    "abs": (jnp.abs, (ZERO,), (1.0,)),
    "sign": (jnp.sign, (ZERO,), (0.0,)),
    "floor": (jnp.floor, (ONE,), (0.0,)),
    "round": (jnp.round, (jnp.float32(0.5),), (0.0,)),
    "maximum": (lax.max, (ONE, ONE), (0.5, 0.5)),
    "minimum": (lax.min, (ONE, ONE), (0.5, 0.5)),
    "reduce_max": (jnp.max, (TIED,), (HALVES,)),
    "reduce_min": (jnp.min, (-TIED,), (HALVES,)),
    "reduce_window_max": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (4,), (1,), "VALID")[0],
        (TIED,),
        ([1.0, 0.0, 0.0, 0.0],),
    ),
    "cummax": (lambda x: lax.cummax(x).sum(), (jnp.array([1.0, 1.0, 0.0]),), ([2.0, 1.0, 0.0],)),
    "clamp low": (lax.clamp, (ZERO, ZERO, ONE), (0.0, 0.0, 0.0)),
    "clamp inside": (lax.clamp, (ZERO, ONE / 2, ONE), (0.0, 1.0, 0.0)),
    "relu": (jax.nn.relu, (ZERO,), (0.0,)),
    "power of zero": (lax.pow, (ZERO, 2 * ONE), (0.0, 0.0)),
    "sort": (lambda x: jnp.sort(x)[1:3].sum(), (TIED,), ([1.0, 1.0, 0.0, 0.0],)),
    "top_k": (lambda x: lax.top_k(x, 1)[0].sum(), (TIED,), ([1.0, 0.0, 0.0, 0.0],)),
    "scatter_max": (
        lambda x, y: x.at[jnp.array([0, 0])].max(y).sum(),
        (jnp.array([1.0]), jnp.array([1.0, 1.0])),
        ([1 / 3], [1 / 3, 1 / 3]),
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choice(name):
    fun, at, promised = CHOICES[name]
    argnums = tuple(range(len(at)))
    gradients = bm.grad(fun, argnums=argnums)(*at)
    for got, jax_gives, want in zip(gradients, jax.grad(fun, argnums)(*at), promised, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(jax_gives, want, rtol=1e-6)


def test_exponent_of_zero():
    """Where we differ from JAX: the slope of x^0 is 0 at 0 whatever holds the exponent."""
    assert float(bm.grad(lambda x: x**0)(0.0)) == 0.0
    assert float(bm.grad(lax.pow)(ZERO, ZERO)) == 0.0


@pytest.mark.parametrize("order", [1, 2, 3])
def test_branch_not_taken(order):
    def fun(x):
        return jnp.where(x == 0, 1.0 + x / 2, (jnp.exp(x) - 1) / x)

    for _ in range(order):
        fun = bm.grad(fun)
    assert np.isfinite(float(fun(0.0)))


OUTSIDE, SIGNS = jnp.array([False, True, False]), jnp.array([True, True, False])
POINT = jnp.array([1.0, 2.0, 0.7]), jnp.array([0.3, -0.2, 0.5])


def _filled(a, b):
    return jnp.where(OUTSIDE, jnp.nan, a * jnp.where(SIGNS, b, -b)) ** 2


def _with_safe_reciprocal(a, b):
    product = jnp.where(OUTSIDE, 0.0, a * jnp.where(SIGNS, b, 1 - b))
    return jnp.where(OUTSIDE, 0.0, 1 / product)


def _interpolated(a, b):
    corners = jnp.cos(jnp.arange(16.0)).reshape(4, 4)
    at = jnp.stack([jnp.where(OUTSIDE, -a, a), 2 + b], axis=1)
    return RegularGridInterpolator((jnp.arange(4.0),) * 2, corners)(at) ** 2


@pytest.mark.parametrize("fun", [_filled, _with_safe_reciprocal, _interpolated])
def test_branches_not_taken_in_parts_of_branches(fun):
    """A value under one mask has uses under others; what they sum to is masked in turn."""

    def second(t):
        def loss(a, b):
            return jnp.sum(jnp.where(OUTSIDE, 0.0, fun(a, b)))

        def of_gradients(a, b):
            return sum(jnp.vdot(g, a) for g in t.grad(loss, argnums=(0, 1))(a, b))

        return t.grad(of_gradients, argnums=(0, 1))(*POINT)

    for ours, theirs in zip(second(bm), second(jax), strict=True):
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_indices_have_no_derivative():
    _, tangent = bm.jvp(jnp.argmax, (TIED,), (TIED,))
    assert tangent.dtype == jax.dtypes.float0
    _, (values, indices) = bm.jvp(lambda x: lax.top_k(x, 2), (TIED,), (TIED,))
    assert values.tolist() == [2.0, 2.0]
    assert indices.dtype == jax.dtypes.float0


def test_through_an_integer_there_is_none():
    assert float(bm.grad(lambda x: x.astype(int).astype(float) * x)(2.5)) == 2.0
