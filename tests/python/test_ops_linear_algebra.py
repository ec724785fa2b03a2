"""Linear algebra: values, derivatives and batching against JAX; repeated values; edge cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax.lax import linalg

import bmgrad.math as bm

_rng = np.random.default_rng(0)
A = _rng.normal(size=(3, 3))
C = A + 1j * _rng.normal(size=(3, 3))
S = A @ A.T + 3 * np.eye(3)
H = C @ C.conj().T + 3 * np.eye(3)
TALL = _rng.normal(size=(4, 3))
WIDE = TALL.T.copy()
COMPLEX_TALL = TALL + 1j * _rng.normal(size=(4, 3))
V = A[0]


def phaseless(v):
    """What does not change with the phase of the columns of `v`."""
    return v[..., :, None, :] * v.conj()[..., None, :, :]


def solve(**options):
    return lambda a, b: linalg.triangular_solve(a, b, **options)


def qr(**options):
    return lambda x: linalg.qr(x, **options)[:2]


def complex_svd(x):
    u, s, vh = linalg.svd(x, full_matrices=False)
    return s, phaseless(u), jnp.einsum("ij,jk->jik", u, vh)


def eigh_vectors(x):
    v, w = linalg.eigh(x)
    return w, phaseless(v)


FUNCTIONS = {
    "cholesky": (linalg.cholesky, S),
    "complex cholesky": (linalg.cholesky, H),
    "triangular_solve": (solve(lower=True), S, TALL),
    "unit triangle": (solve(left_side=True, unit_diagonal=True), A, WIDE),
    "adjoint": (solve(left_side=True, transpose_a=True, conjugate_a=True), C, C),
    "conjugate": (solve(conjugate_a=True, lower=True), C, C),
    "tridiagonal_solve": (linalg.tridiagonal_solve, A[0], S[1] + 3, S[2], WIDE),
    "lu": (lambda x: linalg.lu(x)[0], A),
    "lu of a tall matrix": (lambda x: linalg.lu(x)[0], TALL),
    "lu of a wide matrix": (lambda x: linalg.lu(x)[0], WIDE),
    "complex lu": (lambda x: linalg.lu(x)[0], C),
    "qr": (qr(), A),
    "reduced qr": (qr(full_matrices=False), TALL),
    "full qr": (qr(full_matrices=True), TALL),
    "qr of a wide matrix": (qr(full_matrices=False), WIDE),
    "pivoting qr": (qr(full_matrices=False, pivoting=True), TALL),
    "complex qr": (qr(full_matrices=False), COMPLEX_TALL),
    "eigh": (linalg.eigh, S),
    "upper eigh": (lambda x: linalg.eigh(x, lower=False), S),
    "complex eigh": (eigh_vectors, H),
    "svd": (lambda x: linalg.svd(x, full_matrices=False), TALL),
    "svd of a wide matrix": (lambda x: linalg.svd(x, full_matrices=False), WIDE),
    "complex svd": (complex_svd, COMPLEX_TALL),
    "singular values": (lambda x: linalg.svd(x, compute_uv=False), WIDE),
    "eig": (lambda x: linalg.eig(x, enable_eigvec_derivs=True), A),
    "complex eig": (lambda x: linalg.eig(x, enable_eigvec_derivs=True), C),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(fun, *args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batching(name):
    fun, *args = FUNCTIONS[name]
    check_batching(fun, *args)


@pytest.mark.parametrize("name", ["adjoint", "lu of a tall matrix", "full qr", "complex eig"])
def test_batches_in_operands(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(fun, *(np.stack([x, x[::-1] + np.eye(*x.shape)]) for x in args))


def matrix_of(vectors, values):
    return (vectors * values) @ vectors.T


REDUCED_OF = {
    "full svd": (
        lambda x: matrix_of(linalg.svd(x)[0][:, :3], linalg.svd(x)[1]),
        lambda x: matrix_of(*linalg.svd(x, full_matrices=False)[:2]),
        TALL,
    ),
    "range and null space": (
        lambda x: phaseless(linalg.svd(x)[0][:, 3:])[:, :, 0],
        lambda x: jnp.eye(4) - x @ jnp.linalg.inv(x.T @ x) @ x.T,
        TALL,
    ),
    "eigenvalues": (
        lambda x: jnp.abs(jnp.linalg.eigvals(x)) ** 2,
        lambda x: jnp.abs(linalg.eig(x, enable_eigvec_derivs=True)[0]) ** 2,
        A,
    ),
    "symmetric_product": (
        lambda x, c: linalg.symmetric_product(x, c, alpha=2.0, beta=0.5),
        lambda x, c: 2 * x @ x.T + c / 2,
        A,
        S,
    ),
    "cholesky_update": (
        lambda r, w: linalg.cholesky_update(jnp.triu(r), w),
        lambda r, w: jnp.linalg.cholesky(jnp.triu(r).T @ jnp.triu(r) + jnp.outer(w, w)).T,
        np.linalg.cholesky(S).T,
        V,
    ),
}


@pytest.mark.parametrize("name", REDUCED_OF)
def test_what_jax_does_not_differentiate(name):
    fun, oracle, *args = REDUCED_OF[name]
    check_derivatives(fun, *args, oracle=oracle, rtol=1e-8)


def test_batches_of_updates():
    factors = np.stack([np.linalg.cholesky(S).T, np.eye(3)])
    got = bm.vmap(linalg.cholesky_update)(factors, A[:2])
    for factor, w, r in zip(factors, A[:2], got, strict=True):
        np.testing.assert_allclose(r.T @ r, factor.T @ factor + np.outer(w, w), rtol=1e-5)


@pytest.mark.parametrize("fun", [linalg.cholesky, linalg.eigh])
def test_only_one_triangle_counts(fun):
    """As the value does not depend on the other, neither does the derivative."""

    def read(x):
        leaves = jax.tree.leaves(fun(x, symmetrize_input=False))
        return sum((jnp.arange(1.0, 4.0) * leaf**2).sum() for leaf in leaves)

    def of_triangle(x):
        return read(jnp.tril(x) + jnp.tril(x, -1).T)

    with jax.enable_x64(True):
        want = jax.grad(of_triangle)(jnp.asarray(S))
        np.testing.assert_allclose(bm.grad(read)(S), want, rtol=1e-8)


# -- Repeated values -----------------------------------------------------------------------------

REPEATED = np.diag([2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("fun", "want"),
    [
        (lambda x: linalg.eigh(x)[1].sum(), np.eye(3)),
        (lambda x: jnp.prod(linalg.eigh(x)[1]), 4 * np.eye(3)),
        (lambda x: jnp.linalg.norm(x, "nuc"), np.eye(3)),
        (lambda x: jnp.prod(linalg.svd(x)[1]), 4 * np.eye(3)),
        (lambda x: jnp.sum(jnp.linalg.eigvals(x) ** 2).real, 4 * np.eye(3)),
    ],
)
def test_symmetric_functions_of_repeated_values(fun, want):
    np.testing.assert_allclose(bm.grad(fun)(REPEATED), want, rtol=1e-5)


def test_polar_factor_at_repeated_singular_values():
    def polar(x):
        u, _, vh = linalg.svd(x)
        return u @ vh

    with jax.enable_x64(True):
        _, got = bm.jvp(polar, (REPEATED,), (A,))
    np.testing.assert_allclose(got, (A - A.T) / 4, rtol=1e-9, atol=1e-9)


def test_projector_on_repeated_eigenvalues():
    def projector(x):
        v = linalg.eigh(x)[0][:, :2]
        return v @ v.T

    # First order perturbation: what mixes the two groups, over the gap.
    mixed = np.zeros((3, 3))
    mixed[:2, 2] = mixed[2, :2] = -(A + A.T)[:2, 2] / 2
    with jax.enable_x64(True):
        x = np.diag([1.0, 1.0, 2.0])
        np.testing.assert_allclose(bm.jvp(projector, (x,), (A,))[1], mixed, atol=1e-9)
        got = bm.vjp(projector, x)[1](jnp.asarray(C.imag))[0]
        np.testing.assert_allclose((got * A).sum(), (mixed * C.imag).sum(), rtol=1e-9)


def test_rank_deficient_matrix():
    """The vectors to singular values of 0 do not move; nothing is NaN."""
    x = np.outer(TALL[:, 0], V)
    got = bm.grad(lambda x: jnp.linalg.norm(x, "nuc"))(x)
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(got @ V, np.outer(u[:, 0], vh[0]) @ V, rtol=1e-4)
    with jax.enable_x64(True):
        zero = np.zeros((4, 3))
        _, tangents = bm.jvp(lambda x: linalg.svd(x, full_matrices=False), (zero,), (TALL,))
    assert all(np.isfinite(t).all() for t in tangents)


# -- Edge cases ----------------------------------------------------------------------------------

ALL = {
    "cholesky": linalg.cholesky,
    "triangular_solve": lambda x: linalg.triangular_solve(x, x),
    "lu": lambda x: linalg.lu(x)[0],
    "qr": lambda x: linalg.qr(x, full_matrices=False),
    "eigh": linalg.eigh,
    "svd": lambda x: linalg.svd(x, full_matrices=False),
    "eig": lambda x: linalg.eig(x, enable_eigvec_derivs=True),
}


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 2, 2), (2, 0, 0)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_sizes(name, shape):
    x = np.broadcast_to(np.eye(shape[-1]) + 1, shape)
    if name == "eig" and shape[-1] == 0:
        # JAX looks for the largest of no components.
        x = x.astype(np.float32)
        results, tangents = bm.jvp(ALL[name], (x,), (x,))
        assert [t.shape for t in tangents] == [r.shape for r in results]
    else:
        check_derivatives(ALL[name], x, differences=False)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("name", ALL)
def test_narrow_types(name, dtype):
    x = (H if dtype == np.complex64 else S).astype(dtype)
    got, want = (lib.jvp(ALL[name], (x,), (x,)) for lib in (bm, jax))
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-3)


def test_integers():
    def permutation(x):
        _, pivots, _ = linalg.lu(x)
        return linalg.lu_pivots_to_permutation(pivots, 4) * x[:, 0]

    check_derivatives(permutation, TALL)
    got, want = (lib.vmap(lambda x: linalg.lu(x)[1:])(np.stack([A, S])) for lib in (bm, jax))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)


def test_not_positive_definite():
    assert np.isnan(bm.jit(linalg.cholesky)(-S)).any()


# -- What has no derivative ----------------------------------------------------------------------


def test_eigenvectors_have_to_be_asked_for():
    def phase(x):
        return jnp.abs(jnp.linalg.eig(x)[1]).sum()

    with pytest.raises(NotImplementedError, match="'eig' with respect to eigenvectors"):
        bm.grad(phase)(A)
    # Values that come with vectors do not need them.
    got = bm.grad(lambda x: jnp.linalg.eig(x)[0].sum().real)(A)
    np.testing.assert_allclose(got, np.eye(3), atol=1e-5)


def test_kernels_without_a_rule():
    for fun in (linalg.hessenberg, linalg.tridiagonal):
        for g, w in zip(bm.jit(fun)(S), fun(jnp.asarray(S)), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-5)
        name = fun.__name__
        with pytest.raises(NotImplementedError, match=f"no derivative rule.*'{name}'"):
            bm.grad(lambda x, fun=fun: fun(x)[0].sum())(S)
