"""dot_general: values, derivatives and batching against JAX."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def dot(contract, batch=((), ()), **keywords):
    return lambda x, y: lax.dot_general(x, y, (contract, batch), **keywords)


PRODUCTS = {
    "matrices": (dot(((1,), (0,))), array(2, 3), array(3, 4)),
    "lhs transposed": (dot(((0,), (0,))), array(3, 2), array(3, 4)),
    "both transposed": (dot(((0,), (1,))), array(3, 2), array(4, 3)),
    "vectors": (dot(((0,), (0,))), array(3), array(3)),
    "matrix and vector": (dot(((1,), (0,))), array(2, 3), array(3)),
    "vector and matrix": (dot(((0,), (1,))), array(3), array(2, 3)),
    "outer": (dot(((), ())), array(2), array(3)),
    "scalars": (dot(((), ())), array(), array()),
    "batch": (dot(((2,), (1,)), ((0,), (0,))), array(5, 2, 3), array(5, 3, 4)),
    "batch at the end": (dot(((0,), (1,)), ((2,), (0,))), array(3, 2, 5), array(5, 3, 4)),
    "two batches exchanged": (
        dot(((3,), (0,)), ((0, 1), (2, 1))),
        array(2, 5, 4, 3),
        array(3, 5, 2),
    ),
    "contracted in another order": (dot(((0, 2), (2, 0))), array(2, 3, 4), array(4, 5, 2)),
    "free around contracted": (dot(((1,), (1,))), array(2, 3, 4), array(5, 3, 2)),
    "all contracted": (dot(((0, 1), (0, 1))), array(2, 3), array(2, 3)),
    "elementwise": (dot(((), ()), ((0,), (0,))), array(4), array(4)),
    "sizes of one": (dot(((1,), (0,))), array(2, 1), array(1, 1)),
    "nothing contracted over": (dot(((1,), (0,))), array(2, 0), array(0, 3)),
    "nothing comes out": (dot(((1,), (0,))), array(0, 3), array(3, 2)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_derivatives(name):
    fun, *args = PRODUCTS[name]
    check_derivatives(lambda x, y: fun(jnp.sin(x), y) ** 2, *args)


@pytest.mark.parametrize("name", PRODUCTS)
def test_batching(name):
    fun, *args = PRODUCTS[name]
    check_batching(fun, *args)


def test_same_operand_twice():
    check_derivatives(lambda x: x @ x @ x, array(3, 3))


def test_complex():
    x, y = array(2, 3) + 1j * array(2, 3)[::-1], array(3, 2) * (1 - 2j)
    check_derivatives(lambda x, y: x @ y, x, y)


def test_real_and_complex():
    """The real operand's cotangent is the real part."""
    x, y = array(2, 3), array(3, 2) * (1 - 2j)
    fun = dot(((1,), (0,)))
    check_derivatives(lambda x, y: jnp.abs(fun(x, y)) ** 2, x, y)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.int8, jnp.uint32])
def test_types(dtype):
    x, y = jnp.asarray(4 * array(2, 3), dtype), jnp.asarray(4 * array(3, 4), dtype)
    for wanted in (None, jnp.float32, jnp.int32):
        if wanted == jnp.float32 and not jnp.issubdtype(dtype, jnp.floating):
            continue
        if wanted == jnp.int32 and not jnp.issubdtype(dtype, jnp.signedinteger):
            continue
        fun = dot(((1,), (0,)), preferred_element_type=wanted)
        got, want = bm.jit(fun)(x, y), jax.jit(fun)(x, y)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(want, np.float64))


def test_wider_sums():
    """Cotangents come in the sum's type and leave in the operands'."""
    x, y = array(2, 3).astype(ml_dtypes.bfloat16), array(3, 4).astype(np.float32)
    for fun in (
        dot(((1,), (0,)), preferred_element_type=np.float32),
        dot(((1,), (0,)), preferred_element_type=np.float64),
    ):
        with jax.enable_x64(True):
            out, vjp = bm.vjp(fun, x, y)
            jax_out, jax_vjp = jax.vjp(fun, x, y)
            for got, want in zip(vjp(out), jax_vjp(jax_out), strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_allclose(
                    np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=1e-2
                )


@pytest.mark.parametrize(
    "precision", ["highest", ("high", "default"), "BF16_BF16_F32", "F32_F32_F32"], ids=str
)
def test_precision(precision):
    fun = dot(((1,), (0,)), precision=precision)
    x, y = jnp.asarray(array(2, 3)), jnp.asarray(array(3, 4))
    (out, vjp), (want, jax_vjp) = bm.vjp(fun, x, y), jax.vjp(fun, x, y)
    np.testing.assert_allclose(out, want, rtol=1e-5)
    for got, expected in zip(vjp(out), jax_vjp(want), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
