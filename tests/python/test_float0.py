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


@pytest.mark.parametrize("size", [0, 3, 50])
def test_rules_that_make_them(size):
    fun = jax.custom_jvp(lambda x: (jnp.sin(x), jnp.arange(size)))

    @fun.defjvp
    def _(primals, tangents):
        zeros = np.zeros(size, jax.dtypes.float0)
        return fun(*primals), (jnp.cos(primals[0]) * tangents[0], zeros)

    np.testing.assert_allclose(bm.grad(lambda x: fun(x)[0])(0.7), np.cos(0.7), rtol=1e-6)
    _, (_, tangent) = bm.jvp(fun, (0.7,), (1.0,))
    assert (tangent.shape, tangent.dtype) == ((size,), jax.dtypes.float0)


def test_cannot_be_staged():
    gradient = bm.grad(lambda x, i: x * i, argnums=(0, 1), allow_int=True)
    with pytest.raises(TypeError, match="float0"):
        gradient.trace(2.0, 3)


@pytest.mark.parametrize("transform", [bm.jacrev, bm.jacfwd, bm.hessian])
def test_jacobians_of_integers(transform):
    def loss(x, n):
        return (x**2).sum() * n.sum()

    x, n = jnp.arange(3.0), jnp.arange(2)
    differentiate = transform(loss, argnums=(0, 1), allow_int=True)
    for _ in range(2):  # The second call finds what the first has traced.
        got = differentiate(x, n)
        if transform is bm.hessian:
            (_, by_n), (of_n, of_n_by_n) = got
            assert [part.shape for part in (by_n, of_n, of_n_by_n)] == [(3, 2), (2, 3), (2, 2)]
            zeros = [by_n, of_n, of_n_by_n]
        else:
            zeros = [got[1]]
        assert all(part.dtype == jax.dtypes.float0 for part in zeros)


def test_integer_results_among_others():
    def results(x):
        return (x > 0).astype(jnp.int32), x**2, (x > 1)

    def with_aux(x):
        return results(x), jnp.sin(x)

    want = np.zeros((3, 3), np.int32), np.diag(2 * X), np.zeros((3, 3), np.bool_)
    for got in (bm.jacfwd(results)(X), bm.jacfwd(with_aux, has_aux=True)(X)[0]):
        for g, w in zip(got, want, strict=True):
            assert g.dtype == w.dtype
            np.testing.assert_array_equal(g, w)
