"""Solutions whose derivative is that of the equation, in every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

A = np.array([[3.0, 0.4, -0.2], [0.1, 2.0, 0.3], [-0.5, 0.2, 4.0]])
B = np.array([0.3, -0.7, 1.1])


def iterate(matvec, b):
    """Richardson's iteration: data-dependent, so differentiable by the equation only."""

    def body(state):
        x, _ = state
        step = 0.2 * (b - matvec(x))
        return x + step, jnp.max(jnp.abs(step))

    return lax.while_loop(lambda state: state[1] > 1e-13, body, (b, jnp.ones((), b.dtype)))[0]


def general(a, b):
    matvec = lambda x: jnp.sin(a) @ x * 2 + 2 * x  # noqa: E731
    return jnp.cos(lax.custom_linear_solve(matvec, b, iterate, iterate))


def symmetric(a, b):
    matrix = a @ a.T
    return lax.custom_linear_solve(lambda x: matrix @ x, b, explicit(matrix), symmetric=True)


def explicit(matrix):
    """Elimination of 3 by 3 equations: Cramer's rule."""
    matrix = lax.stop_gradient(matrix)

    def solve(_, b):
        columns = [matrix.at[:, i].set(b) for i in range(3)]
        return jnp.stack([determinant(m) for m in columns]) / determinant(matrix)

    return solve


def determinant(m):
    return jnp.dot(m[0], jnp.cross(m[1], m[2]))


def with_auxiliary_results(a, b):
    solve, solve_transposed = explicit(a), explicit(a.T)
    x, count = lax.custom_linear_solve(
        lambda x: a @ x,
        b,
        lambda matvec, b: (solve(matvec, b), jnp.sum(b > 0)),
        lambda vecmat, b: (solve_transposed(vecmat, b), jnp.sum(b > 0)),
        has_aux=True,
    )
    return x * count


def of_a_tree(a, b):
    """A block-diagonal operator on a dictionary."""
    matvec = lambda x: {"one": a @ x["one"], "two": a.T @ x["two"]}  # noqa: E731
    solves = {"one": explicit(a), "two": explicit(a.T)}

    def solve(_, b):
        return {key: solves[key](None, b[key]) for key in b}

    def solve_transposed(_, b):
        return {"one": solves["two"](None, b["one"]), "two": solves["one"](None, b["two"])}

    rhs = {"one": b, "two": jnp.tanh(b)}
    return lax.custom_linear_solve(matvec, rhs, solve, solve_transposed)


def in_a_scan(a, b):
    solve, solve_transposed = explicit(a), explicit(a.T)

    def body(c, _):
        x = lax.custom_linear_solve(lambda x: a @ x, c, solve, solve_transposed)
        return jnp.sin(x), jnp.sum(c)

    return lax.scan(body, b, None, length=2)


@pytest.mark.parametrize(
    "fun",
    [general, symmetric, with_auxiliary_results, of_a_tree, in_a_scan],
    ids=lambda f: f.__name__,
)
def test_linear_solve(fun):
    check_derivatives(fun, A, B, rtol=1e-7)
    check_batching(fun, A, B)


def test_complex_linear_solve():
    """Transposition does not conjugate."""
    a, b = A + 0.3j * A.T, B - 0.2j

    def fun(a, b):
        return lax.custom_linear_solve(lambda x: a @ x, b, explicit(a), explicit(a.T))

    check_derivatives(fun, a, b)


def test_reverse_mode_needs_the_transposed_solution():
    fun = lambda a, b: jnp.sum(lax.custom_linear_solve(lambda x: a @ x, b, explicit(a)))  # noqa: E731
    a, b = jnp.asarray(A), jnp.asarray(B)
    np.testing.assert_allclose(bm.jvp(fun, (a, b), (a, b))[1], 0, atol=1e-5)
    with pytest.raises(TypeError, match=r"without transpose_solve.*transpose_solve required"):
        bm.grad(fun)(a, b)


def test_iterative_solvers():
    def fun(a, b):
        matrix = a @ a.T
        matvec = lambda x: matrix @ x  # noqa: E731
        return jax.scipy.sparse.linalg.cg(matvec, b, tol=1e-13)[0]

    check_derivatives(fun, A, B, rtol=1e-7)
    check_batching(fun, A, B)


# -- Roots ---------------------------------------------------------------------------------------


def newton(f, x):
    def body(state):
        x, count = state
        return x - f(x) / (3 * x**2 + 1), count + 1.0

    return lax.while_loop(lambda state: state[1] < 20, body, (x, 0.0))


def cubic(a):
    """The root of x^3 + x = a, and how many steps it took."""
    root, count = lax.custom_root(
        lambda x: x**3 + x - jnp.sin(a),
        a,
        newton,
        lambda g, y: y / g(jnp.ones_like(y)),
        has_aux=True,
    )
    return root * count


def test_root():
    check_derivatives(cubic, np.float64(0.8), rtol=1e-8)
    check_batching(cubic, np.float64(0.8))


def test_root_in_a_loop():
    # JAX loses the rule of a function in a scan when it differentiates twice.
    unrolled = lambda a: (cubic(cubic(a) / 10) / 10, jnp.stack([a, cubic(a) / 10]))  # noqa: E731
    fun = lambda a: lax.scan(lambda c, _: (cubic(c) / 10, c), a, None, length=2)  # noqa: E731
    check_derivatives(fun, np.float64(0.8), rtol=1e-8, oracle=unrolled)
