"""Taylor mode (`jax.experimental.jet`) through compiled functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.jet import jet

import bmgrad.math as bm
from bmgrad.runtime._errors import UnsupportedError

X = jnp.array([0.3, -1.1, 2.0])


def fun(x):
    return jnp.sum(jnp.sin(x) * jnp.exp(x / 2))


FUNCTIONS = {
    "jit": lambda t: t.jit(fun),
    "grad": lambda t: t.grad(fun),
    "jvp": lambda t: lambda x: t.jvp(fun, (x,), (jnp.cos(x),)),
    "vjp": lambda t: lambda x: t.vjp(jnp.sin, x)[1](x),
    "hessian": lambda t: t.hessian(fun),
    "vmap": lambda t: t.vmap(lambda x: (x * jnp.sin(x), jnp.where(x > 0, x, 0.0).astype(int))),
    "linearize": lambda t: lambda x: t.linearize(fun, x)[1](x),
}


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_through_functions_of_jax(name, order):
    with jax.enable_x64(True):
        series = ([jnp.cos((k + 1) * X.astype(float)) for k in range(order)],)
        for is_scaled in (True, False):
            ours, theirs = (
                jet(FUNCTIONS[name](t), (X.astype(float),), series, factorial_scaled=is_scaled)
                for t in (bm, jax)
            )
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), ours, theirs)


def test_of_two_arguments_under_jit():
    def product(x, y):
        return x * jnp.sin(y)

    def series(t):
        return jet(t.jit(product), (X, 2.0), ([X, X], [1.0, -1.0]))

    ours, theirs = jax.jit(lambda: series(bm))(), series(jax)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_references_are_refused():
    held = jax.new_ref(1.0)
    with pytest.raises(UnsupportedError, match="jet goes through no references"):
        jet(bm.jit(lambda x: x * held[...]), (2.0,), ([1.0],))
