"""`jax.experimental.checkify`: of functions with derivative rules, and around programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

import bmgrad.math as bm


def with_forward_rule():
    @jax.custom_jvp
    def checked(x):
        checkify.check(x > 0, "{x} is not positive", x=x)
        return jnp.sin(x)

    checked.defjvp(lambda x, dx: (jnp.sin(x[0]), 10 * jnp.cos(x[0]) * dx[0]))
    return checked


def with_reverse_rule():
    @jax.custom_vjp
    def checked(x):
        checkify.check(x > 0, "{x} is not positive", x=x)
        return jnp.sin(x)

    checked.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (10 * jnp.cos(x) * ct,))
    return checked


# -- Derivatives of functions that checkify has changed --------------------------------------------


@pytest.mark.parametrize("errors", [checkify.user_checks, checkify.all_checks])
@pytest.mark.parametrize("make", [with_forward_rule, with_reverse_rule])
@pytest.mark.parametrize("checks_before", [False, True])
def test_gradients_of_checkified_rules_return_errors_of_the_function(make, errors, checks_before):
    rule = make()

    def fun(x):
        # What was found before goes into the call: its payload has a tangent, which ends there.
        if checks_before:
            checkify.check(x < 5, "{x} is not small", x=x)
        return rule(x)

    def loss(x):
        error, value = checkify.checkify(fun, errors=errors)(x)
        return value, error

    def at(x):
        gradient, error = bm.grad(loss, has_aux=True)(x)
        np.testing.assert_allclose(gradient, 10 * np.cos(x), rtol=1e-6)
        return error.get()

    assert at(1.0) is None
    assert "-1.0 is not positive" in at(-1.0)
    assert at(6.0) == ("6.0 is not small (`check` failed)" if checks_before else None)


def test_checkified_forward_rules_in_forward_mode():
    fun = checkify.checkify(with_forward_rule())
    (error, value), (_, tangent) = bm.jvp(fun, (-1.0,), (2.0,))
    assert "-1.0 is not positive" in error.get()
    np.testing.assert_allclose([value, tangent], [np.sin(-1), 20 * np.cos(-1)], rtol=1e-6)
