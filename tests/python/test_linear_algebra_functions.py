"""What `jnp.linalg` and `jax.scipy` make of solves and decompositions, against JAX."""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives

import bmgrad.math as bm

_rng = np.random.default_rng(0)
A = _rng.normal(size=(3, 3))
C = A + 1j * _rng.normal(size=(3, 3))
S = A @ A.T + 3 * np.eye(3)
TALL = _rng.normal(size=(4, 3))
V = A[0]


def symmetric(x):
    return (x + x.T) / 2


FUNCTIONS = {
    "det": (jnp.linalg.det, A),
    "complex det": (jnp.linalg.det, C),
    "slogdet": (jnp.linalg.slogdet, A),
    "complex slogdet": (jnp.linalg.slogdet, C),
    "inv": (jnp.linalg.inv, A),
    "complex inv": (jnp.linalg.inv, C),
    "solve": (jnp.linalg.solve, A, TALL.T),
    "solve for a vector": (jnp.linalg.solve, A, V),
    "lstsq": (lambda a, b: jnp.linalg.lstsq(a, b)[0], TALL, TALL[:, :2]),
    "pinv": (jnp.linalg.pinv, TALL),
    "matrix_power": (lambda x: jnp.linalg.matrix_power(x, -3), A),
    "cond": (jnp.linalg.cond, A),
    "eigvals": (lambda x: jnp.abs(jnp.linalg.eigvals(x) ** 2).sum(), A),
    "eigvalsh": (jnp.linalg.eigvalsh, S),
    "svdvals": (jnp.linalg.svdvals, TALL),
    "qr": (jnp.linalg.qr, TALL),
    "multi_dot": (lambda x, y: jnp.linalg.multi_dot([x, y, x.T]), TALL, A),
    "spectral norm": (lambda x: jnp.linalg.norm(x, 2), TALL),
    "nuclear norm": (lambda x: jnp.linalg.norm(x, "nuc"), TALL),
    "cholesky": (lambda x: jsp.linalg.cholesky(symmetric(x)), S),
    "cho_solve": (lambda x, b: jsp.linalg.cho_solve(jsp.linalg.cho_factor(symmetric(x)), b), S, V),
    "lu": (lambda x: jsp.linalg.lu(x)[1:], A),
    "lu_solve": (lambda x, b: jsp.linalg.lu_solve(jsp.linalg.lu_factor(x), b), A, V),
    "solve_triangular": (lambda x, b: jsp.linalg.solve_triangular(x, b, trans=1), A, V),
    "positive solve": (
        lambda x, b: jsp.linalg.solve(symmetric(x), b, assume_a="pos"),
        S,
        V,
    ),
    "eigh": (jsp.linalg.eigh, S),
    "block_diag": (lambda x: jsp.linalg.block_diag(x, x * x), A),
    "multivariate_normal": (jsp.stats.multivariate_normal.logpdf, V, A[1], S),
}


def eigenvalue_power(x):
    """JAX differentiates `jnp.linalg.eigvals` once only."""
    w, _, _ = jax.lax.linalg.eig(x, enable_eigvec_derivs=True)
    return jnp.abs(w**2).sum()


ORACLES = {"eigvals": eigenvalue_power}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(fun, *args, oracle=ORACLES.get(name), rtol=1e-8)


@pytest.mark.parametrize("name", ["slogdet", "solve", "pinv", "multivariate_normal"])
def test_batching(name):
    fun, *args = FUNCTIONS[name]
    check_batching(fun, *args)


@pytest.mark.parametrize(
    "fun",
    [
        jsp.linalg.polar,
        lambda x: jsp.linalg.eigh_tridiagonal(jnp.diag(x), jnp.diag(x, 1), eigvals_only=True),
    ],
)
def test_loops_of_unknown_length_go_forward(fun):
    with jax.enable_x64(True):
        got, want = (jax.jit(lambda x, lib=lib: lib.jvp(fun, (x,), (A,)))(S) for lib in (bm, jax))
        for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-8)


def test_matrix_exponential():
    """A loop and branches around solves; the first order only, as compiling takes long."""
    with jax.enable_x64(True):
        got, want = (
            jax.jit(lambda x, lib=lib: lib.vjp(jsp.linalg.expm, x)[1](jnp.asarray(S)))(A)[0]
            for lib in (bm, jax)
        )
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_integer_results():
    assert bm.jit(jnp.linalg.matrix_rank)(np.outer(V, V)) == 1


def test_gradient_of_a_gaussian_likelihood():
    """A Gaussian process with its covariance in a loop over length scales."""

    def likelihood(scale, x, y):
        distances = (x[:, None] - x[None, :]) ** 2
        factor = jsp.linalg.cho_factor(jnp.exp(-distances / scale) + 0.1 * jnp.eye(len(x)))
        half_logdet = jnp.log(jnp.diag(factor[0])).sum()
        return -0.5 * y @ jsp.linalg.cho_solve(factor, y) - half_logdet

    def total(scales, x, y):
        return jax.lax.scan(lambda c, s: (c + likelihood(s, x, y), None), 0.0, scales)[0]

    check_derivatives(
        total, np.linspace(0.5, 2.0, 4), np.linspace(0, 3, 6), TALL[:, :2].reshape(-1)[:6]
    )
