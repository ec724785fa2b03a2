"""conv_general_dilated: values, derivatives and batching against JAX."""

import jax
import jax.numpy as jnp
import jax.scipy.signal
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def conv(strides=(1,), padding="VALID", **options):
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **options)


IMAGES = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
ODD = {"dimension_numbers": ("HNCW", "WIOH", "CWNH")}

CONVOLUTIONS = {
    "plain": (conv(), array(2, 3, 5), array(4, 3, 2)),
    "strides": (conv((2, 3), "SAME"), array(2, 2, 5, 7), array(3, 2, 3, 2)),
    "strides that leave a rest": (conv((3,)), array(1, 2, 9), array(2, 2, 2)),
    "padding": (conv((1, 2), [(2, 0), (1, 3)]), array(1, 2, 3, 4), array(2, 2, 2, 3)),
    "negative padding": (conv((2,), [(-1, -2)]), array(2, 1, 9), array(1, 1, 3)),
    "dilated base": (conv((2,), [(1, 2)], lhs_dilation=(3,)), array(1, 2, 4), array(2, 2, 3)),
    "dilated window": (conv((1,), [(1, 1)], rhs_dilation=(2,)), array(1, 2, 7), array(2, 2, 3)),
    "all at once": (
        conv((2, 1), [(2, -1), (1, 2)], lhs_dilation=(2, 3), rhs_dilation=(1, 2)),
        array(2, 2, 4, 3),
        array(3, 2, 2, 3),
    ),
    "images": (conv((1, 2), "SAME", **IMAGES), array(2, 4, 5, 3), array(2, 3, 3, 4)),
    "odd layouts": (conv((2, 1), **ODD), array(5, 2, 3, 4), array(2, 3, 4, 3)),
    "feature groups": (conv(feature_group_count=2), array(2, 6, 5), array(4, 3, 2)),
    "one feature each": (
        conv((1, 1), "SAME", feature_group_count=3, **IMAGES),
        array(1, 3, 3, 3),
        array(2, 2, 1, 6),
    ),
    "batch groups": (conv((2,), batch_group_count=3), array(6, 2, 5), array(3, 2, 2)),
    "batch groups, odd layouts": (
        conv((1, 2), "SAME", batch_group_count=2, **ODD),
        array(3, 4, 2, 4),
        array(2, 2, 4, 3),
    ),
    "no space": (conv((), ()), array(2, 3), array(4, 3)),
    "three dimensions": (conv((1, 2, 1), "SAME"), array(1, 2, 3, 2, 3), array(2, 2, 2, 2, 1)),
    "sizes of one": (conv(), array(1, 1, 1), array(1, 1, 1)),
    "window that does not fit": (conv(), array(1, 2, 2), array(2, 2, 3)),
    "empty batch": (conv(), array(0, 2, 4), array(3, 2, 2)),
    "no features made": (conv(), array(2, 2, 4), array(0, 2, 2)),
    "no features read": (conv(), array(2, 0, 4), array(3, 0, 2)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_derivatives(name):
    fun, *args = CONVOLUTIONS[name]
    check_derivatives(lambda x, w: fun(jnp.sin(x), w) ** 2, *args)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_batching(name):
    fun, *args = CONVOLUTIONS[name]
    check_batching(fun, *args)


def test_batching_twice():
    fun, x, w = CONVOLUTIONS["feature groups"]

    def twice(lib, x, w):
        return lib.vmap(lib.vmap(fun, (0, None)), (None, 0))(x, w)

    xs, ws = array(3, *x.shape), array(2, *w.shape)
    np.testing.assert_allclose(twice(bm, xs, ws), twice(jax, xs, ws), rtol=1e-5, atol=1e-6)


def test_empty_vmap():
    fun, x, w = CONVOLUTIONS["plain"]
    out = jax.vmap(bm.jit(fun), (0, None))(np.zeros((0, *x.shape)), w)
    assert out.shape == (0, 2, 4, 4)


def test_complex():
    fun = conv((2,), [(1, 1)], rhs_dilation=(2,))
    x, w = array(1, 2, 6) * (1 - 2j), array(2, 2, 2) + 1j * array(2, 2, 2)[::-1]
    check_derivatives(fun, x, w)
    check_batching(fun, x, w)


@pytest.mark.parametrize(
    "dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.int8, jnp.uint32, jnp.bool_]
)
@pytest.mark.parametrize("wanted", [None, jnp.float32, jnp.int32], ids=str)
def test_types(dtype, wanted):
    kinds = {None: np.generic, jnp.float32: jnp.floating, jnp.int32: jnp.signedinteger}
    if not jnp.issubdtype(dtype, kinds[wanted]):
        pytest.skip("JAX refuses it")
    fun = conv(preferred_element_type=wanted)
    x, w = jnp.asarray(4 * array(1, 2, 4), dtype), jnp.asarray(4 * array(2, 2, 2), dtype)
    got, want = bm.jit(fun)(x, w), jax.jit(fun)(x, w)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(want, np.float64))


def test_wider_sums():
    """Cotangents come in the sum's type and leave in the operands'."""
    fun = conv(preferred_element_type=jnp.float32)
    x, w = jnp.asarray(array(1, 2, 4), jnp.bfloat16), jnp.asarray(array(2, 2, 2), jnp.bfloat16)
    (out, vjp), (_, jax_vjp) = bm.vjp(fun, x, w), jax.vjp(fun, x, w)
    for got, want in zip(vjp(out), jax_vjp(out), strict=True):
        assert got.dtype == want.dtype == jnp.bfloat16
        np.testing.assert_array_equal(np.asarray(got, np.float32), np.asarray(want, np.float32))


@pytest.mark.parametrize("precision", ["highest", ("high", "default"), "F32_F32_F32"], ids=str)
def test_precision(precision):
    fun = conv(precision=precision)
    x, w = jnp.asarray(array(1, 2, 4), jnp.float32), jnp.asarray(array(2, 2, 2), jnp.float32)
    (out, vjp), (want, jax_vjp) = bm.vjp(fun, x, w), jax.vjp(fun, x, w)
    np.testing.assert_allclose(out, want, rtol=1e-5)
    for got, expected in zip(vjp(out), jax_vjp(want), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


MADE_OF_CONVOLUTIONS = {
    "transposed": (
        lambda x, w: lax.conv_transpose(x, w, (2,), "SAME", transpose_kernel=True),
        array(1, 4, 2),
        array(3, 3, 2),
    ),
    "local": (
        lambda x, w: lax.conv_general_dilated_local(x, w, (1,), "VALID", (2,)),
        array(1, 2, 4),
        array(2, 4, 3),
    ),
    "patches": (
        lambda x, w: lax.conv_general_dilated_patches(x * w, (2,), (1,), "VALID"),
        array(1, 2, 4),
        array(4),
    ),
    "convolve": (lambda x, w: jnp.convolve(x, w, "same"), array(5), array(3)),
    "correlate": (lambda x, w: jnp.correlate(x, w, "full"), array(3), array(5)),
    "scipy convolve": (
        lambda x, w: jax.scipy.signal.convolve(x, w, "full"),
        array(3, 4),
        array(2, 2),
    ),
    "scipy convolve2d": (
        lambda x, w: jax.scipy.signal.convolve2d(x, w, "same"),
        array(3, 4),
        array(2, 3),
    ),
    "scipy correlate": (
        lambda x, w: jax.scipy.signal.correlate(x, w, "valid"),
        array(4, 4),
        array(2, 2),
    ),
}


@pytest.mark.parametrize("name", MADE_OF_CONVOLUTIONS)
def test_made_of_convolutions(name):
    fun, *args = MADE_OF_CONVOLUTIONS[name]
    check_derivatives(fun, *args)
    check_batching(fun, *args)


def test_network():
    """Two layers of a network for images, with weights, to second order."""

    def loss(w1, w2, x):
        x = jax.nn.tanh(conv((1, 1), "SAME", **IMAGES)(x, w1))
        x = conv((2, 2), "SAME", feature_group_count=2, **IMAGES)(x, w2)
        return jax.nn.softplus(x).mean()

    check_derivatives(loss, array(3, 3, 2, 4), array(2, 2, 2, 4), array(2, 5, 4, 2))
