"""Derivative rules that call functions with ever new rules: followed as far as needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint
from jax.scipy.special import exp1

import bmgrad.math as bm
from bmgrad._import import UnsupportedError


def test_gradient_of_an_adjoint_ode_solver():
    """The adjoint of `odeint` calls `odeint` on another system, without end."""

    def decayed(rate):
        return odeint(lambda y, t: -rate * y, 1.0, jnp.array([0.0, 1.0]))[-1]

    np.testing.assert_allclose(bm.grad(decayed)(1.0), -np.exp(-1.0), rtol=1e-4)


def power(level):
    """`x ** level`, whose backward rule calls `power(level - 1)`."""

    @jax.custom_vjp
    def fun(x):
        return x**level

    fun.defvjp(lambda x: (fun(x), x), lambda x, ct: (ct * level * power(level - 1)(x),))
    return fun


def test_low_orders_follow_the_rules():
    derivative = power(6)
    for expected in (6 * 2.0**5, 30 * 2.0**4):
        derivative = bm.grad(derivative)
        np.testing.assert_allclose(derivative(2.0), expected, rtol=1e-6)


def test_derivatives_of_a_series_of_series():
    """Each derivative of `sinc` at 0 is a function with a rule of its own."""
    derivative = jnp.sinc
    for expected in (0, -(np.pi**2) / 3, 0, np.pi**4 / 5):
        derivative = bm.grad(derivative)
        np.testing.assert_allclose(derivative(0.0), expected, rtol=1e-5)


def test_orders_without_end():
    derivative, expected = power(9), 2.0**9
    for level in range(9, 2, -1):
        derivative, expected = bm.grad(derivative), expected * level / 2
    np.testing.assert_allclose(derivative(2.0), expected, rtol=1e-6)


def test_orders_without_end_outside_jit():
    def derived(fun):
        return lambda x: bm.vjp(fun, x)[1](1.0)[0]

    derivative = power(9)
    for _ in range(7):
        derivative = derived(derivative)
    np.testing.assert_allclose(derivative(2.0), 9 * 8 * 7 * 6 * 5 * 4 * 3 * 2.0**2, rtol=1e-6)


def test_rules_are_not_followed_far_outside_jit():
    """Each rule calls three functions with rules: followed to their end that is 3**8 rules."""
    traced = []

    def wide(level):
        @jax.custom_jvp
        def fun(x):
            return x**2

        @fun.defjvp
        def _(primals, tangents):
            traced.append(level)
            (x,), (dx,) = primals, tangents
            further = [wide(level - 1)(x + i) for i in range(3)] if level else [x]
            return fun(x), dx * sum(further)

        return fun

    bm.vjp(wide(8), 2.0)[1](1.0)
    assert len(traced) < 50


def test_what_waits_outside_jit_is_compiled_once():
    """The solver in the adjoint has rules that wait, and others at each call."""
    compiled = []

    def decayed(rate):
        return odeint(lambda y, t: -rate * y, 1.0, jnp.array([0.0, 1.0]))[-1]

    def listen(event, duration, **_):
        if "backend_compile" in event:
            compiled.append(duration)

    def gradient(rate):
        return bm.vjp(decayed, rate)[1](1.0)[0]

    gradient(1.0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        np.testing.assert_allclose(gradient(2.0), -np.exp(-2.0), rtol=1e-4)
        assert not compiled
        np.testing.assert_allclose(bm.vjp(jnp.sin, gradient(3.0))[0], np.sin(-np.exp(-3.0)), 1e-3)
        assert compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


WAYS = {
    "called": lambda f, x: f(x),
    "scan": lambda f, x: jax.lax.scan(lambda c, _: (f(c), None), x, length=3)[0],
    "cond": lambda f, x: jax.lax.cond(x > 0, f, jnp.sin, x),
    "jit": lambda f, x: jax.jit(f)(x),
    "checkpoint": lambda f, x: jax.checkpoint(f)(jnp.sin(x)),
    "vmap": lambda f, x: jnp.sum(jax.vmap(f)(jnp.stack([x, 2 * x]))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [1.5, 3, True], ids=str)
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_rules_that_hold_a_number_of_the_function(kind, number, way):
    """JAX writes a scalar that a function makes into its jaxpr, so it is no variable there."""

    def fun(x):
        k = jnp.asarray(number)
        if kind == "jvp":
            scaled = jax.custom_jvp(lambda x: jnp.sin(x) * k)
            scaled.defjvp(lambda x, dx: (scaled(*x), jnp.cos(*x) * k * dx[0]))
        else:
            scaled = jax.custom_vjp(lambda x: jnp.sin(x) * k)
            scaled.defvjp(lambda x: (scaled(x), x), lambda x, ct: (ct * jnp.cos(x) * k,))
        return WAYS[way](scaled, x)

    def plain(x):
        return WAYS[way](lambda x: jnp.sin(x) * number, x)

    np.testing.assert_allclose(bm.grad(fun)(0.3), jax.grad(plain)(0.3), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(bm.grad(fun))(0.3), jax.grad(plain)(0.3), rtol=1e-6)
    want = jax.grad(jax.grad(plain))(0.3)
    np.testing.assert_allclose(bm.grad(bm.grad(fun))(0.3), want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["cell", "object", "default", "backward"])
def test_rules_in_rules_that_hold_values_of_the_function(kind):
    """Only the inner rule reads `w`."""

    def loss(w, x):
        class Model:
            def __init__(self):
                self.w = w

            def rule(self, primals, tangents):
                return inner(*primals), self.w * tangents[0]

        rules = {
            "cell": lambda primals, tangents: (inner(*primals), w * tangents[0]),
            "object": Model().rule,
            "default": lambda primals, tangents, w=w: (inner(*primals), w * tangents[0]),
        }
        if kind == "backward":
            inner = jax.custom_vjp(lambda y: 2 * y)
            inner.defvjp(lambda y: (inner(y), None), lambda _, ct: (ct * w,))
        else:
            inner = jax.custom_jvp(lambda y: 2 * y)
            inner.defjvp(rules[kind])
        outer = jax.custom_jvp(lambda y: y)
        outer.defjvp(lambda primals, tangents: (outer(*primals), inner(primals[0]) * tangents[0]))
        return outer(x)

    second = bm.grad(bm.grad(loss, argnums=1), argnums=1)
    assert float(second(3.0, 1.0)) == 3


def test_rules_that_read_a_value_of_the_rule_around_them():
    """The rule of `expn` calls `expn` of another order, which a batch leaves no trace of."""
    mapped = jax.vmap(exp1)
    point = jnp.array([0.5, 1.5, 3.0])
    expected = jax.vmap(jax.grad(exp1))(point)
    np.testing.assert_allclose(bm.vector_grad(mapped)(point), expected, rtol=1e-5)
    second = bm.vector_grad(bm.vector_grad(mapped))
    if jax.__version_info__ < (0, 12):  # This one forgets the value, for itself too.
        with pytest.raises(UnsupportedError, match="reads a value of that rule"):
            second(point)
    else:
        x = np.asarray(point)
        np.testing.assert_allclose(second(point), np.exp(-x) * (1 / x + 1 / x**2), rtol=1e-4)
