"""Kernels of Pallas: interpreted they are computations like any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import bmgrad.math as bm
from bmgrad.runtime._errors import UnsupportedError

X = jnp.linspace(-1.0, 2.0, 8).reshape(4, 2)


def scaled_sine(x, scale, out):
    out[...] = jnp.sin(x[...]) * scale[...] + pl.program_id(0)


def by_rows(x, scale):
    """A program for each row, which reads and writes that row only."""
    row = pl.BlockSpec((1, 2), lambda i: (i, 0))
    whole = pl.BlockSpec((1, 2), lambda i: (0, 0))
    return pl.pallas_call(
        scaled_sine,
        grid=(4,),
        in_specs=[row, whole],
        out_specs=row,
        out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype),
        interpret=True,
    )(x, scale)


def plain(x, scale):
    return jnp.sin(x) * scale + jnp.arange(4.0)[:, None]


SCALE = jnp.array([[0.5, 2.0]])
TANGENTS = jnp.cos(X), jnp.array([[1.0, -0.3]])


def test_forward_mode():
    ours, theirs = (t.jvp(f, (X, SCALE), TANGENTS) for t, f in ((bm, by_rows), (jax, plain)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_forward_mode_twice_and_in_batches():
    def second(t, f):
        def first(x, scale):
            return t.jvp(f, (x, scale), TANGENTS)[1]

        return t.jvp(first, (X, SCALE), TANGENTS)[1]

    np.testing.assert_allclose(second(bm, by_rows), second(jax, plain), rtol=1e-5)
    np.testing.assert_allclose(
        bm.jacfwd(by_rows, argnums=1)(X, SCALE), jax.jacfwd(plain, argnums=1)(X, SCALE), rtol=1e-6
    )
    batch = jnp.stack([X, 2 * X])
    np.testing.assert_allclose(
        bm.vmap(by_rows, in_axes=(0, None))(batch, SCALE),
        jax.vmap(plain, in_axes=(0, None))(batch, SCALE),
        rtol=1e-6,
    )


def test_a_kernel_with_a_rule():
    @jax.custom_vjp
    def fun(x, scale):
        return by_rows(x, scale)

    fun.defvjp(
        lambda x, scale: (by_rows(x, scale), (x, scale)),
        lambda kept, ct: (
            ct * by_rows(kept[0] + jnp.pi / 2, kept[1]),
            (ct * jnp.sin(kept[0])).sum(0, keepdims=True),
        ),
    )

    def loss(f):
        return lambda x, scale: jnp.sum(f(x, scale) ** 2)

    ours, theirs = (t.grad(loss(fun), argnums=(0, 1))(X, SCALE) for t in (bm, jax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_a_kernel_for_a_device_has_no_derivative():
    def double(x, out):
        out[...] = 2 * x[...]

    def fun(x):
        return pl.pallas_call(double, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(x)

    with pytest.raises(UnsupportedError, match="no derivative rule for primitive 'pallas_call'"):
        bm.jvp(fun, (X,), (X,))
