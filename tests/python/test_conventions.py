"""What `docs/derivatives.md` says of ties, kinks and branches, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

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


def test_indices_have_no_derivative():
    _, tangent = bm.jvp(jnp.argmax, (TIED,), (TIED,))
    assert tangent.dtype == jax.dtypes.float0
    _, (values, indices) = bm.jvp(lambda x: lax.top_k(x, 2), (TIED,), (TIED,))
    assert values.tolist() == [2.0, 2.0]
    assert indices.dtype == jax.dtypes.float0


def test_through_an_integer_there_is_none():
    assert float(bm.grad(lambda x: x.astype(int).astype(float) * x)(2.5)) == 2.0
