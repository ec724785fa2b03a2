"""Derivatives where a formula may lose digits, a branch or a NaN: by what is known of them.

JAX's two versions differ here, so nothing is compared with its derivatives.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad.math as bm

# In float32: the function, where, and its derivative there.
PRECISE = {
    "expm1": (jnp.expm1, [-18.0, -1e-3, 3.0], lambda x: np.exp(x)),
    "elu": (jax.nn.elu, [-18.0, -15.0], lambda x: np.exp(x)),
    "tanh": (jnp.tanh, [1.1, -1.1, 1e-4], lambda x: 1 / np.cosh(x) ** 2),
    "tanh, second": (bm.grad(jnp.tanh), [1e-9, -0.5], lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2),
    "asin": (jnp.arcsin, [0.99999, -0.5], lambda x: 1 / np.sqrt((1 - x) * (1 + x))),
    "acos": (jnp.arccos, [0.99999, -0.5], lambda x: -1 / np.sqrt((1 - x) * (1 + x))),
    "atanh": (jnp.arctanh, [0.99999, -0.5], lambda x: 1 / ((1 - x) * (1 + x))),
    "asinh": (jnp.arcsinh, [3e19, -1e30, 0.5], lambda x: 1 / np.hypot(x, 1)),
    "acosh": (jnp.arccosh, [3e19, 1.0001], lambda x: 1 / np.sqrt(x - 1) / np.sqrt(x + 1)),
    "acosh of no number": (jnp.arccosh, [-3.0], lambda x: np.nan),
    "cbrt": (jnp.cbrt, [0.0, -8.0], lambda x: np.inf if x == 0 else 1 / 12),
    "nextafter": (lambda x: jnp.nextafter(x, 9.0), [3.0], lambda x: 1.0),
    "spacing": (jnp.spacing, [3.0], lambda x: 0.0),
    "ldexp": (lambda x: jnp.ldexp(x, 3), [3.0, -0.1], lambda x: 8.0),
    "frexp": (lambda x: jnp.frexp(x)[0], [3.0, -0.1], lambda x: {3.0: 0.25}.get(float(x), 8.0)),
    "log2": (jnp.log2, [0.3], lambda x: 1 / (x * np.log(2))),
}


@pytest.mark.parametrize("name", PRECISE)
def test_digits(name):
    fun, points, derivative = PRECISE[name]
    for x in map(np.float32, points):
        wanted = derivative(np.float64(x))
        got = [bm.grad(fun)(x), bm.jvp(fun, (x,), (np.float32(1),))[1]]
        got.append(jax.vmap(bm.grad(fun))(jnp.array([x]))[0])
        np.testing.assert_allclose(got, np.full(3, wanted), rtol=2e-6)


POINTS = np.array([a + 1j * b for a in (-2.3, -0.4, 0.7, 1.9) for b in (-1.3, 0.5, 2.2)])


@pytest.mark.parametrize("name", ["arccosh", "arcsinh", "arctanh", "arcsin", "arccos", "sign"])
def test_complex_branches(name):
    """Central differences along both axes, in every quadrant."""
    fun, h = getattr(jnp, name), 1e-6
    with jax.enable_x64(True):
        for direction in (1.0, 1.0j):
            moved = (fun(POINTS + h * direction) - fun(POINTS - h * direction)) / (2 * h)
            tangents = np.full_like(POINTS, direction)
            np.testing.assert_allclose(
                bm.jvp(fun, (POINTS,), (tangents,))[1], moved, rtol=1e-7, atol=1e-9
            )
            _, pullback = bm.vjp(fun, POINTS)
            (ct,) = pullback(np.ones_like(POINTS))
            np.testing.assert_allclose((ct * direction).real, moved.real, rtol=1e-7, atol=1e-9)


def test_the_side_of_a_cut():
    """A zero has a sign, which says on which side of the cut of asinh a number lies."""
    with jax.enable_x64(True):
        cut = np.array([complex(0.0, -2.1), complex(-0.0, -2.1), complex(0.0, 2.1)])
        got = bm.grad(jnp.arcsinh, holomorphic=True)
        slopes = np.array([complex(got(z)) for z in cut])
    beside = cut + np.copysign(1e-9, cut.real)
    np.testing.assert_allclose(
        slopes, 1 / (np.sqrt(1 + 1j * beside) * np.sqrt(1 - 1j * beside)), 1e-6
    )


@pytest.mark.parametrize("name", ["max", "min", "ptp", "norm"])
def test_no_extremum_among_numbers_that_are_none(name):
    """A NaN is the result, and no gradient of it is a number."""
    fun = {"norm": lambda x: jnp.linalg.norm(x, np.inf)}.get(name) or getattr(jnp, name)
    x = jnp.array([1.0, np.nan, 2.0])
    assert np.isnan(fun(x))
    assert np.isnan(bm.grad(fun)(x)).all()
    assert np.isnan(bm.jvp(fun, (x,), (jnp.ones(3),))[1])
    assert np.isnan(bm.grad(lambda x: fun(x) * 0 + x.sum())(x)).all()


def test_one_minus_square():
    """bm.one_minus_square, which the derivatives of several ops are made of."""
    x = jnp.array([0.999999, 1e-9, -3.0])
    got = bm.vector_grad(bm.vector_grad(lambda x: lax.tanh(x)))(x)
    assert (got != 0).all()
    text = bm.vector_grad(lax.tanh).lower(x).as_text("adjoint")
    assert "bm.one_minus_square" in text


def test_rows_that_are_not_divided():
    """Their zero cotangents stay zero, though their divisors are; JAX makes them NaN."""
    x, divisors = jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.0, 2.0])

    def fun(x, divisors):
        column = divisors[:, None]
        return jnp.sum(jnp.where(column > 0, x / column, 0.0))

    of_x, of_divisors = bm.grad(fun, argnums=(0, 1))(x, divisors)
    np.testing.assert_array_equal(of_x, [[0, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(of_divisors, [0, -1.75])
    hessian = bm.grad(lambda x, d: jnp.vdot(bm.grad(fun, argnums=1)(x, d), d), argnums=1)
    np.testing.assert_array_equal(hessian(x, divisors), [0, 1.75])
