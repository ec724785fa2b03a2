"""Tangents of integers: dtype float0, no values, through nested transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = jnp.arange(3.0)


def mixed(x):
    return jnp.sin(x).sum(), (x > 0).astype(jnp.int32), x**2


def test_forward_over_forward_with_integer_results():
    def tangents(module):
        def first(x):
            return module.jvp(mixed, (x,), (x,))

        return module.jvp(first, (X,), (X,))

    got, want = tangents(bm), tangents(jax)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if g.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(g, w, rtol=1e-6)


def test_integer_gradients_inside_another_transform():
    inner = bm.grad(lambda x, i: x * x * i, argnums=(0, 1), allow_int=True)
    of_x, of_i = bm.jit(lambda x: inner(x, 3))(2.0)
    assert float(of_x) == 12.0
    assert of_i.dtype == jax.dtypes.float0
    assert float(bm.grad(lambda x: inner(x, 3)[0])(2.0)) == 6.0


def test_arguments_without_values():
    """As the derivative of a vjp function has them."""

    def cotangents(module):
        out, vjp = module.vjp(lambda x, i: (jnp.sin(x), 2 * i), X, np.arange(3))
        given = out[0], np.zeros(3, jax.dtypes.float0)
        returned, second = module.vjp(vjp, given)
        return returned, second(returned)

    got, want = cotangents(bm), cotangents(jax)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if g.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(g, w, rtol=1e-6)
    assert float(bm.grad(lambda x, z: x**2)(2.0, given := np.zeros(3, jax.dtypes.float0))) == 4.0
    assert bm.jit(lambda z: z)(given).dtype == given.dtype


def test_cannot_be_staged():
    gradient = bm.grad(lambda x, i: x * i, argnums=(0, 1), allow_int=True)
    with pytest.raises(TypeError, match="float0"):
        gradient.trace(2.0, 3)
