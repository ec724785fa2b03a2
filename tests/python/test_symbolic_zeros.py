"""Rules that ask which of their arguments a derivative perturbs (`symbolic_zeros=True`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.extend.core import jaxpr_as_fun

import bmgrad.math as bm

X = jnp.array([0.5, -1.2, 2.0], np.float32)
TABLE = jnp.linspace(1.0, 2.0, 20)
seen = []


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


@jax.custom_vjp
def product(x, y, n):
    return x * y * n


def _fwd(*primals):
    assert all(type(primal) is CustomVJPPrimal for primal in primals)
    seen.append(tuple(primal.perturbed for primal in primals))
    x, y, n = (primal.value for primal in primals)
    return product(x, y, n), (x, y, n)


def _bwd(residuals, ct):
    x, y, n = residuals
    return ct * y * n, ct * x * n, None


product.defvjp(_fwd, _bwd, symbolic_zeros=True)


@jax.custom_jvp
def quotient(x, y):
    return x / y


def _jvp(primals, tangents):
    seen.append(tuple(type(tangent) is not SymbolicZero for tangent in tangents))
    (x, y), (dx, dy) = primals, tangents
    result = quotient(x, y)
    zeros = [type(tangent) is SymbolicZero for tangent in tangents]
    tangent = SymbolicZero(jax.typeof(result).to_tangent_aval()) if all(zeros) else 0.0
    if not zeros[0]:
        tangent += dx / y
    if not zeros[1]:
        tangent -= dy * x / y**2
    return result, tangent


quotient.defjvp(_jvp, symbolic_zeros=True)

PLACES = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "jit of bmgrad": bm.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: jax.vmap(f, (0, 0)),
    "vmap of bmgrad": lambda f: bm.vmap(f, (0, 0)),
    "scan": lambda f: lambda x, y: jax.lax.scan(lambda c, y: (c, f(c, y)), x, y[None])[1][0],
    "carry": lambda f: (
        lambda x, y: jax.lax.scan(lambda c, _: ((c[1], f(c[1], y)), None), (x, x), None, length=2)[
            0
        ][0]
    ),
    "while": lambda f: (
        lambda x, y: jax.lax.fori_loop(0, 1, lambda i, c: (c[0], f(c[0], y)), (x, x))[1]
    ),
    "cond": lambda f: lambda x, y: jax.lax.cond(x.sum() > 0, f, lambda x, y: x, x, y),
    "stop_gradient": lambda f: lambda x, y: f(x, jax.lax.stop_gradient(jnp.sin(y))),
}


@pytest.mark.parametrize("place", PLACES)
def test_rules_are_told_what_is_perturbed(place):
    def fun(x, y):
        return PLACES[place](lambda x, y: product(x, y, 2))(jnp.cos(x), y).sum()

    np.testing.assert_allclose(bm.grad(fun)(X, X), jax.grad(fun)(X, X), rtol=1e-5)
    assert (True, False, False) in seen
    if place != "stop_gradient":
        seen.clear()
        got, want = (lib.grad(fun, argnums=(0, 1))(X, X) for lib in (bm, jax))
        np.testing.assert_allclose(got, want, rtol=1e-5)
        assert seen[-1] == (True, True, False)


@pytest.mark.parametrize("place", PLACES)
def test_forward_rules_get_symbolic_zeros(place):
    def fun(x, y):
        return PLACES[place](quotient)(jnp.cos(x), y)

    for lib in (bm, jax):
        seen.clear()
        got = lib.jvp(lambda x: fun(x, X), (X,), (X,))
        assert (True, False) in seen
        if lib is bm:
            kept = got
    np.testing.assert_allclose(kept, got, rtol=1e-5)


@pytest.mark.parametrize("place", ["plain", "jit", "vmap", "cond", "unused"])
def test_results_that_nobody_reads_have_symbolic_zeros(place):
    cotangents = []

    @jax.custom_vjp
    def both(x, y):
        return x * y, x + y

    def bwd(residuals, cts):
        cotangents.append([type(ct) is SymbolicZero for ct in cts])
        return residuals[1] * cts[0], None

    both.defvjp(lambda x, y: (both(x.value, y.value), (x.value, y.value)), bwd, symbolic_zeros=True)

    def fun(x):
        call = both
        if place == "cond":
            call = lambda x, y: jax.lax.cond(x.sum() > 0, both, lambda x, y: (x, y), x, y)  # noqa: E731
        elif place == "unused":
            # What is read for a result that nobody reads is not read.
            call = lambda x, y: jax.tree.map(jnp.sin, both(x, y))  # noqa: E731
        elif place != "plain":
            call = PLACES[place](both)
        return call(x, jnp.cos(X))[0].sum()

    got = bm.grad(fun)(X)
    assert [False, True] in cotangents
    np.testing.assert_allclose(got, jax.grad(fun)(X), rtol=1e-6)


def test_derivatives_of_derivatives_may_perturb_more():
    def fun(x, y):
        return (product(jnp.sin(x), jnp.cos(y), 2) * quotient(x, y)).sum()

    def mixed(lib):
        return lib.grad(lambda y: (lib.grad(fun)(X, y) * X).sum())(X)

    with jax.enable_x64(True):
        step = 1e-6 * np.eye(3)
        slope = lambda y: (bm.grad(fun)(X.astype(float), y) * X).sum()  # noqa: E731
        want = [(slope(X + d) - slope(X - d)) / 2e-6 for d in step]
        np.testing.assert_allclose(mixed(bm), want, rtol=1e-4)


def test_rules_that_refuse_what_is_perturbed():
    """As Equinox checks the arguments that it does not differentiate."""

    @jax.custom_vjp
    def scaled(x, y):
        return x * y

    def fwd(x, y):
        assert not y.perturbed, "y has no derivative"
        # An array that only the rule reads.
        return x.value * y.value, y.value * TABLE[0]

    scaled.defvjp(fwd, lambda y, ct: (ct * y, None), symbolic_zeros=True)
    np.testing.assert_allclose(bm.grad(lambda x: scaled(x, X).sum())(X), X)
    np.testing.assert_allclose(bm.grad(lambda x, y: scaled(x, y).sum())(X, X), X)
    np.testing.assert_allclose(bm.grad(lambda x, y: (scaled(x, y) * TABLE[0]).sum())(X, X), X)
    with pytest.raises(AssertionError, match="y has no derivative"):
        bm.grad(lambda y: scaled(X, y).sum())(X)


def test_rules_that_raised_leave_the_call_as_it_was():
    """JAX keeps what it traced, though the rule then raised for other arguments."""

    @jax.custom_vjp
    def scaled(x, y):
        return x * y

    def fwd(x, y):
        assert not y.perturbed, "y has no derivative"
        return x.value * y.value, y.value

    scaled.defvjp(fwd, lambda y, ct: (ct * y, None), symbolic_zeros=True)
    call = jaxpr_as_fun(jax.make_jaxpr(scaled)(X, X))

    def slope(lib):
        return lib.grad(lambda x: call(x, X)[0].sum())(X)

    np.testing.assert_allclose(slope(jax), X)
    with pytest.raises(AssertionError, match="y has no derivative"):
        bm.grad(lambda y: call(X, y)[0].sum())(X)
    np.testing.assert_allclose(slope(jax), X)
    np.testing.assert_allclose(slope(bm), X)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap])
def test_zeros_of_one_rule_are_zeros_for_the_next(wrap):
    @jax.custom_jvp
    def second(x, y):
        return y * 1

    def rule(primals, tangents):
        assert isinstance(tangents[1], SymbolicZero)
        return primals[1] * 1, tangents[1]

    second.defjvp(rule, symbolic_zeros=True)
    fun = wrap(lambda x: second(x, second(x, 2.0)) * x)
    got, want = (lib.jvp(fun, (X,), (X,)) for lib in (bm, jax))
    np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(bm.grad(lambda x: fun(x).sum())(X), [2, 2, 2])
