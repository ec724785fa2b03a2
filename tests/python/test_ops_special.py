"""Special functions: values, derivatives and batching against JAX, and what has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax
from jax.scipy import special

import bmgrad.math as bm

X = np.linspace(-1.7, 2.1, 6)
POSITIVE = np.linspace(0.3, 2.9, 6)
UNIT = np.linspace(-0.8, 0.9, 6)
SHAPES = np.array([0.4, 1.0, 1.7, 2.2, 3.1, 7.5])
PART = np.linspace(0.1, 0.9, 6)

UNARY = {
    "erf_inv": (lax.erf_inv, UNIT),
    "lgamma": (lax.lgamma, POSITIVE),
    "digamma": (lax.digamma, POSITIVE),
    "bessel_i0e": (lax.bessel_i0e, X),
    "bessel_i1e": (lax.bessel_i1e, X),
    "polygamma": (lambda x: lax.polygamma(jnp.full_like(x, 2.0), x), POSITIVE),
    "igamma": (lambda x: lax.igamma(SHAPES, x), POSITIVE),
    "igammac": (lambda x: lax.igammac(SHAPES, x), POSITIVE),
    "regularized_incomplete_beta": (lambda x: lax.betainc(SHAPES, SHAPES[::-1], x), PART),
    "i0": (special.i0, X),
    "ndtri": (special.ndtri, PART),
}


@pytest.mark.parametrize("name", UNARY)
def test_derivatives(name):
    fun, x = UNARY[name]
    check_derivatives(fun, x)


def test_zeta():
    """Which JAX does not differentiate; at an integer it is a polygamma function."""
    check_derivatives(
        lambda q: lax.zeta(jnp.full_like(q, 3.0), q),
        POSITIVE,
        oracle=lambda q: -lax.polygamma(jnp.full_like(q, 2.0), q) / 2,
    )


@pytest.mark.parametrize("name", ["bessel_i0e", "igamma", "polygamma"])
def test_batching(name):
    fun, x = UNARY[name]
    check_batching(lambda x: fun(jnp.resize(x, X.shape)), x)


@pytest.mark.parametrize("fun", [lax.igamma, lax.igammac])
def test_derivative_in_the_shape_of_the_gamma_distribution(fun):
    # Copies: where a program traced with x64 holds a NumPy array, JAX takes that very array for
    # float64 with x64 off as well (its cache of canonical arrays goes by identity alone).
    shapes, x = SHAPES.copy(), POSITIVE.copy()
    ours, theirs = (
        jax.jit(lambda a, x, lib=lib: lib.vjp(fun, a, x)[1](jnp.ones_like(a)))(shapes, x)
        for lib in (bm, jax)
    )
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-6)


def test_bessel_at_zero():
    zero = np.zeros(1)
    assert bm.vector_grad(lax.bessel_i1e)(zero).tolist() == [0.5]
    assert bm.vector_grad(lax.bessel_i0e)(zero).tolist() == [0.0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_narrow_types(dtype):
    x = jnp.asarray(POSITIVE, dtype)
    for fun in (special.gammaln, lax.bessel_i1e, lambda x: lax.igamma(x, x)):
        value, gradient = bm.vector_grad(fun, return_value=True)(x)[::-1]
        assert value.dtype == gradient.dtype == dtype
        want = jax.grad(lambda x, fun=fun: fun(x.astype(np.float32)).sum())(x)
        tolerance = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(
            gradient.astype(np.float32), want, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    ("fun", "argument"),
    [(lax.polygamma, 0), (lax.zeta, 0), (lambda a, x: lax.betainc(a, a, x / 4), 0)],
)
def test_what_has_no_derivative_says_so(fun, argument):
    with pytest.raises(NotImplementedError, match=f"no derivative rule.*argument {argument}"):
        bm.vector_grad(fun, argnums=argument)(POSITIVE, POSITIVE)
