"""Floats of 4 and 8 bits and integers of 2 and 4: values and derivatives as JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

FLOATS = [
    "float4_e2m1fn",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
]
X = jnp.array([0.5, -1.0, 2.0, 3.0])
TABLE = jnp.array([0, 0, 2])
# Each of an array and of the same in the narrow type.
FUNCTIONS = {
    "quantized": lambda x, w: x.astype(w.dtype).astype("float32") ** 2,
    "product": lambda x, w: w * w,
    "sine": lambda x, w: jnp.sin(w),
    "mixed product": lambda x, w: x * w.astype(x.dtype),
    "contraction": lambda x, w: x @ w.astype(x.dtype),
    "ties and kinks": lambda x, w: jnp.maximum(w, 0) + jnp.where(w > 1, w, 0) + jnp.abs(w),
    "maximum": lambda x, w: jnp.max(w),
    "sort": lambda x, w: jnp.sort(w) * w,
    "gather": lambda x, w: w[TABLE],
    "scatter": lambda x, w: w.at[TABLE].add(w[1:]),
    "loop": lambda x, w: jax.lax.scan(lambda c, y: (c * y, c + y), w[0], w)[0],
    "cumulative": lambda x, w: jnp.cumsum(w),
}


def same(got, expected):
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours.astype("float32"), theirs.astype("float32"))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_narrow_floats(dtype, name):
    def loss(x, w):
        return FUNCTIONS[name](x, w).astype("float32").sum()

    args = X, X.astype(dtype)
    same(bm.jit(FUNCTIONS[name])(*args), jax.jit(FUNCTIONS[name])(*args))
    argnums = (0, 1)
    same(bm.grad(loss, argnums=argnums)(*args), jax.jit(jax.grad(loss, argnums))(*args))
    tangents = jnp.ones(4), jnp.ones(4, dtype)
    same(bm.jvp(loss, args, tangents), jax.jit(lambda *a: jax.jvp(loss, a, tangents))(*args))
    batch = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), args)
    same(jax.vmap(bm.grad(loss))(*batch), jax.vmap(jax.grad(loss))(*batch))


@pytest.mark.parametrize("dtype", FLOATS)
def test_second_derivatives_of_narrow_floats(dtype):
    def loss(w):
        return (w * w * w).astype("float32").sum()

    same(bm.hessian(loss)(X.astype(dtype)), jax.hessian(loss)(X.astype(dtype)))


@pytest.mark.parametrize("dtype", ["int2", "int4", "uint2", "uint4"])
def test_narrow_integers(dtype):
    codes = jnp.array([0, 1, 1, 1], dtype)

    def loss(scale, x):
        levels = jnp.clip(jnp.round(x / scale), 0, 1).astype(dtype)
        total = (levels + codes).sum(dtype="int32")
        return (codes.astype(x.dtype) * x * scale).sum() + total * scale

    args = jnp.float32(0.5), X
    same(
        bm.grad(loss, argnums=(0, 1), return_value=True)(*args),
        jax.value_and_grad(loss, argnums=(0, 1))(*args)[::-1],
    )
    same(bm.vjp(lambda c: c.astype("float32") * X, codes)[0], codes.astype("float32") * X)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [np.nan, -np.inf, 1e6, -0.0])
def test_constants_that_narrow_floats_do_not_have(dtype, number):
    def fun(w):
        constant = jnp.full(4, number, "float32").astype(dtype)
        return constant, constant * w, jnp.where(w > 1, w, -constant)

    same(bm.jit(fun)(X.astype(dtype)), jax.jit(fun)(X.astype(dtype)))


# Of 2 bits XLA aborts at some, in JAX too, with the flags of the tests.
@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8"])
def test_constants_of_narrow_integers(dtype):
    codes = jnp.array([0, 1, 1, -1]).astype(dtype)

    def fun(x):
        one, row = jnp.ones((), dtype), jnp.asarray(np.array([1, 0, -1, 1]).astype(dtype))
        return x + one, jnp.where(x > 0, x, 0), jnp.maximum(x, row), jnp.pad(x, 1), x[TABLE + 2]

    same(bm.jit(fun)(codes), jax.jit(fun)(codes))
    scaled = lambda x: jnp.sum(x * jnp.maximum(codes, 1).astype("float32"))  # noqa: E731
    same(bm.grad(scaled)(X), jax.grad(scaled)(X))


def test_floats_that_are_powers_of_two():
    """They have no zero: JAX's is NaN."""
    w = jnp.array([0.5, 2.0, 4.0]).astype("float8_e8m0fnu")

    def loss(w):
        return (w * w).astype("float32").sum()

    same(bm.jit(lambda w: (w * w, jnp.zeros(2, w.dtype), w[::-1]))(w), (w * w, w[:2] * 0, w[::-1]))
    same(bm.grad(loss)(w), jax.grad(loss)(w))
