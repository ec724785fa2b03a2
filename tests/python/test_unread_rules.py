"""Backward rules are asked where JAX asks them: not of results that no derivative goes through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = np.float32([0.5, 1.0, 2.0])


def make():
    """A function whose forward rule gives other values, and the calls of its rules."""
    calls = {"fwd": 0, "bwd": 0}

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def fwd(x):
        calls["fwd"] += 1
        return f(x) + 0.25, x

    def bwd(x, ct):
        calls["bwd"] += 1
        return (ct * jnp.cos(x) * 3.0,)

    f.defvjp(fwd, bwd)
    return f, calls


UNREAD = {
    "stop_gradient": lambda f, x: jnp.sum(jax.lax.stop_gradient(f(x)) * x),
    "round": lambda f, x: jnp.sum(jnp.round(4 * f(x)) * x),
    "index": lambda f, x: jnp.sum(x[(2 * f(x)).astype(int)] ** 2),
    "comparison": lambda f, x: jnp.sum(jnp.where(f(x) > 0.9, x**2, x**3)),
    "jit": lambda f, x: jnp.sum(jax.lax.stop_gradient(jax.jit(f)(x)) * x),
    "cond": lambda f, x: jnp.sum(jax.lax.stop_gradient(jax.lax.cond(x[0] > 0, f, jnp.cos, x)) * x),
    "second_rule": lambda f, x: jnp.sum(jax.lax.stop_gradient(f(f(x))) * x),
}
READ = {
    "twice": lambda f, x: (lambda y: jnp.sum(jax.lax.stop_gradient(y) * x + y))(f(x)),
    "another_call": lambda f, x: jnp.sum(jax.lax.stop_gradient(f(x)) * f(2 * x)),
    "abs": lambda f, x: jnp.sum(jnp.abs(f(x))),
    "scan": lambda f, x: jax.lax.scan(
        lambda c, y: (c + jax.lax.stop_gradient(f(y)) + f(c), y), x[0], x
    )[0],
    "jit": lambda f, x: jnp.sum(jax.jit(lambda x: (jax.lax.stop_gradient(f(x)), f(x)))(x)[1]),
}


@pytest.mark.parametrize("name", UNREAD)
def test_rules_that_nobody_asks_are_not_followed(name):
    f, calls = make()
    got = bm.value_and_grad(lambda x: UNREAD[name](f, x))(X)
    assert calls["bwd"] == 0
    f, calls = make()
    want = jax.value_and_grad(lambda x: UNREAD[name](f, x))(X)
    assert calls["bwd"] == 0
    # The forward rule is: what it computes is what the function is where it is differentiated.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), got, want)


@pytest.mark.parametrize("name", READ)
def test_others_are(name):
    f, calls = make()
    got = bm.value_and_grad(lambda x: READ[name](f, x))(X)
    assert calls["bwd"] > 0
    want = jax.value_and_grad(lambda x: READ[name](f, x))(X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), got, want)


@pytest.mark.parametrize("name", UNREAD)
def test_neither_are_they_in_derivatives_of_derivatives(name):
    f, calls = make()

    def loss(x):
        return jnp.sum(bm.grad(lambda x: UNREAD[name](f, x))(x) ** 2)

    got = bm.grad(loss)(X)
    assert calls["bwd"] == 0
    want = jax.grad(lambda x: jnp.sum(jax.grad(lambda x: UNREAD[name](f, x))(x) ** 2))(X)
    np.testing.assert_allclose(got, want, 1e-6)


def test_the_sign_of_a_complex_number_is_a_derivative_to_ask_for():
    f, _ = make()

    def loss(x):
        return jnp.sum(jnp.real(jnp.sign(f(x) + 1j)))

    got = bm.grad(loss)(X)
    value = np.sin(X) + 0.25
    # Of the real part of z / |z| with z = value + 1j, times that of the rule.
    np.testing.assert_allclose(got, 3 * np.cos(X) / (value**2 + 1) ** 1.5, 1e-5)


def test_what_has_no_results_is_passed_by():
    f, calls = make()

    def loss(x):
        jax.debug.callback(lambda y: None, x)
        return jnp.sum(jax.lax.stop_gradient(f(x)) * x)

    np.testing.assert_allclose(bm.grad(loss)(X), np.sin(X) + 0.25, 1e-6)
    assert calls["bwd"] == 0
