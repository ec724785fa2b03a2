"""The Schur form: JAX has no derivative of it, so differences and other formulas are the oracle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_derivatives
from jax.lax import linalg
from jax.scipy.linalg import solve_sylvester, sqrtm

import bmgrad.math as bm

_rng = np.random.default_rng(0)


def matrices(size):
    return _rng.normal(size=(2, size, size))


# All eigenvalues real; one pair and two of complex ones, on their own and between others.
REAL = matrices(3)[0] + np.diag([0.0, 5.0, 10.0])
PAIR = np.array([[1.0, -2.0], [1.5, 2.0]])
PAIRS = np.array(
    [
        [0.3, 2.0, 0.4, 0.1, 0.7],
        [-1.5, 0.2, 0.3, 0.9, 0.5],
        [0.1, 0.2, 4.0, 0.3, 0.1],
        [0.2, 0.5, 0.1, -3.0, 1.0],
        [0.3, 0.1, 0.6, -2.0, -3.5],
    ]
)
COMPLEX = matrices(4)[0] + 1j * matrices(4)[0]


def phaseless(x):
    """What does not change with the phases of the vectors."""
    t, z = linalg.schur(x)
    projectors = jnp.einsum("...ij,...kj->...jik", z, z.conj())
    return jnp.diagonal(t, axis1=-2, axis2=-1), jnp.abs(t), projectors


def derivative(fun, x, dx):
    return bm.jvp(fun, (x,), (dx,))[1]


def difference(fun, x, dx, step=1e-6):
    ahead, behind = (jax.jit(fun)(x + h * dx) for h in (step, -step))
    return jax.tree.map(lambda p, q: (p - q) / (2 * step), ahead, behind)


@pytest.mark.parametrize(
    ("fun", "x"),
    [
        (linalg.schur, REAL),
        (linalg.schur, PAIR),
        (linalg.schur, PAIRS),
        (lambda x: linalg.schur(x, compute_schur_vectors=False), PAIRS),
        (phaseless, COMPLEX),
    ],
    ids=["real", "pair", "pairs", "form alone", "complex"],
)
def test_derivatives_are_those_of_differences(fun, x):
    directions = _rng.normal(size=(2, *x.shape)) * (1 + 0.5j if np.iscomplexobj(x) else 1)
    with jax.enable_x64(True):
        first, second = map(jnp.asarray, directions)

        def along_first(x):
            return derivative(fun, x, first)

        for got, want in (
            (along_first(x), difference(fun, x, first)),
            (derivative(along_first, x, second), difference(bm.jit(along_first), x, second)),
        ):
            for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-6, atol=1e-6 * np.abs(w).max())

        # Reverse mode is the transpose of forward mode.
        tangents, pullback = along_first(x), bm.vjp(fun, jnp.asarray(x))[1]
        cotangents = jax.tree.map(lambda t: jnp.cos(jnp.arange(t.size)).reshape(t.shape), tangents)
        cotangents = jax.tree.map(lambda c, t: c.astype(t.dtype), cotangents, tangents)
        (pulled,) = pullback(cotangents)
        inner = sum(
            (c * t).sum()
            for c, t in zip(jax.tree.leaves(cotangents), jax.tree.leaves(tangents), strict=True)
        )
        np.testing.assert_allclose(np.real((pulled * first).sum()), np.real(inner), rtol=1e-9)


def sylvester_by_products(a, b, c):
    matrix = jnp.kron(a, jnp.eye(len(b))) + jnp.kron(jnp.eye(len(a)), b.T)
    return jnp.linalg.solve(matrix, c.reshape(-1)).reshape(c.shape)


@pytest.mark.parametrize("b", [PAIRS, COMPLEX], ids=["pairs", "complex"])
def test_solutions_of_sylvester_equations(b):
    c = _rng.normal(size=(3, len(b)))
    check_derivatives(
        lambda *args: solve_sylvester(*args).astype(jnp.result_type(*args)),
        REAL,
        b,
        c,
        oracle=sylvester_by_products,
        rtol=1e-7,
    )


def test_square_roots():
    with jax.enable_x64(True):
        _, got = bm.jvp(lambda x: sqrtm(x @ x), (REAL + 2 * np.eye(3),), (REAL,))
    np.testing.assert_allclose(got, REAL, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("x", [PAIRS, COMPLEX], ids=["pairs", "complex"])
def test_batches(x):
    def loss(x):
        return sum(jnp.sum(jnp.cos(part).real) for part in phaseless(x))

    with jax.enable_x64(True):
        stack = jnp.stack([x, x.T, x - 2 * np.eye(len(x))])
        want = jnp.stack([bm.grad(loss)(one) for one in stack])
        for got in (
            bm.vmap(bm.grad(loss))(stack),
            bm.grad(lambda x: loss(x).sum())(stack),
            bm.vmap(bm.vmap(bm.grad(loss)))(stack[None])[0],
        ):
            np.testing.assert_allclose(got, want, rtol=1e-8)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 2, 2), (2, 0, 0)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_sizes(shape, dtype):
    x = jnp.full(shape, 2, dtype)
    (t, z), (dt, dz) = bm.jvp(linalg.schur, (x,), (x,))
    assert (t.shape, z.shape, dt.shape, dz.shape) == (shape,) * 4
    assert dt.dtype == dz.dtype == dtype
    assert not x.size or np.array_equal(dt, t)


def test_equal_eigenvalues():
    """Their sum has its derivative; what depends on how they split is 0 there."""
    for x in (2 * np.eye(3), np.zeros((3, 3))):
        got = bm.grad(lambda x: jnp.trace(linalg.schur(x)[0]))(x)
        np.testing.assert_allclose(got, np.eye(3), atol=1e-6)
    # A rotation and a scaling: the angle of its vectors is not determined.
    turn = np.array([[1.0, -2.0], [2.0, 1.0]])
    _, (dt, dz) = bm.jvp(linalg.schur, (turn,), (PAIR,))
    np.testing.assert_allclose(np.trace(dt), np.trace(PAIR), rtol=1e-6)
    assert np.isfinite(dz).all()


def test_large_matrices_keep_their_digits():
    """The columns are solved one after another: eigenvectors would lose all digits here."""
    size = 40
    with jax.enable_x64(True):
        x = jnp.triu(jnp.ones((size, size))) * 2 - jnp.diag(jnp.linspace(1.0, 2.0, size))
        dx = jnp.asarray(_rng.normal(size=(size, size)))
        dt, dz = derivative(linalg.schur, x, dx)
        t, z = linalg.schur(x)
        back = dz @ t @ z.T + z @ dt @ z.T + z @ t @ dz.T
        np.testing.assert_allclose(back, dx, atol=1e-6 * np.abs(dz).max())


def test_sorted_eigenvalues_are_refused():
    with pytest.raises(NotImplementedError, match="sorts eigenvalues"):
        bm.jit(partial(linalg.schur, sort_eig_vals=True))(PAIR)
