"""Reductions over windows: values, derivatives and batching against JAX.

JAX has no reverse mode of reductions by a computation: their oracles are written out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def pool(join, init, window, strides=None, padding="VALID", base=None, dilation=None):
    strides = strides or (1,) * len(window)

    def fun(x):
        start = np.asarray(init, x.dtype)
        return lax.reduce_window(x, start, join, window, strides, padding, base, dilation)

    return fun


most = partial(pool, lax.max, -np.inf)
least = partial(pool, lax.min, np.inf)
total = partial(pool, lax.add, 0.0)

WINDOWS = {
    "line": ((2,), (2,)),
    "overlapping": ((3,), (1,), "SAME"),
    "strides that leave a rest": ((2,), (4,)),
    "images": ((1, 2, 3, 1), (1, 2, 2, 1), "SAME"),
    "padding": ((2, 3), (1, 2), [(1, 0), (2, 3)]),
    "dilated window": ((2, 3), (1, 1), "VALID", None, (3, 2)),
    "dilated base": ((3, 2), (2, 1), [(1, 1), (0, 0)], (2, 3)),
    "both dilated": ((2, 2), (1, 2), [(1, 1), (0, 1)], (3, 2), (2, 1)),
    "long": ((11, 1), (3, 1), [(2, 5), (0, 0)]),
    "long and dilated": ((9,), (2,), [(3, 3)], None, (2,)),
    "all": ((3, 5), (1, 1)),
    "of one": ((1, 1), (2, 2)),
    "that do not fit": ((9,), (1,)),
}
SHAPES = {1: (8,), 2: (6, 5), 4: (2, 5, 7, 2)}
LONG = {"long": (14, 2), "long and dilated": (20,), "all": (3, 5)}


def argument(name):
    return array(*LONG.get(name, SHAPES[len(WINDOWS[name][0])]))


@pytest.mark.parametrize("kind", [most, total], ids=["max", "sum"])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name, kind):
    fun, x = kind(*WINDOWS[name]), argument(name)
    if kind is not total and WINDOWS[name][4:]:
        # JAX has no reverse mode here.
        with jax.enable_x64(True):
            dx = array(*x.shape)[::-1]
            for got, want in zip(bm.jvp(fun, (x,), (dx,)), jax.jvp(fun, (x,), (dx,)), strict=True):
                np.testing.assert_allclose(got, want)
            out, vjp = bm.vjp(fun, x)
            ct = array(*out.shape)
            np.testing.assert_allclose(
                (vjp(ct)[0] * dx).sum(), (ct * bm.jvp(fun, (x,), (dx,))[1]).sum()
            )
        return
    # Where a window has nothing but padding, its infinity has no derivative.
    check_derivatives(lambda x: jnp.sin(jnp.clip(fun(jnp.sin(x) ** 3), -9, 9)), x)
    check_batching(lambda x: jnp.clip(fun(x), -9, 9) ** 2, x)


def test_negative_padding():
    """It cuts elements off. JAX fails to differentiate maxima here."""
    x = array(6, 5)
    for kind in (most, least, total):
        fun = kind((2, 2), (2, 1), [(-1, -1), (-2, 0)])
        check_derivatives(fun, x, oracle=lambda x, kind=kind: kind((2, 2), (2, 1))(x[1:-1, 2:]))


def test_ties():
    """The first of equal elements in a window has the derivative, row by row."""
    x = np.asarray([[1.0, 2, 2, 0], [2, 2, 0, 0], [0, 2, 2, 2], [1, 1, 2, 2]])
    for kind in (most, least):
        fun = kind((2, 3), (1, 1), "SAME")
        check_derivatives(lambda x, fun=fun: fun(x) * x, x, differences=False)


def test_long_windows_with_ties():
    x = np.round(2 * array(40))
    for kind in (most, least):
        check_derivatives(kind((13,), (3,), "SAME"), x, differences=False)


def test_empty():
    for kind in (most, total):
        fun = kind((1, 2), (1, 2))
        check_derivatives(fun, np.zeros((0, 4)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int8, jnp.uint32], ids=str)
def test_types(dtype):
    x = jnp.asarray(np.abs(9 * array(6)), dtype)
    inits = {lax.add: 0}
    for join, extreme in ((lax.max, "min"), (lax.min, "max")):
        info = jnp.iinfo if jnp.issubdtype(dtype, jnp.integer) else jnp.finfo
        infinite = {"min": -np.inf, "max": np.inf}[extreme]
        is_int = jnp.issubdtype(dtype, jnp.integer)
        inits[join] = getattr(info(dtype), extreme) if is_int else infinite
    for join, init in inits.items():
        fun = pool(join, init, (3,), (2,), "SAME")
        got, want = bm.jit(fun)(x), jax.jit(fun)(x)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(want, np.float64))


def test_single_precision():
    """Tangents keep their precision: nothing is packed into one word."""
    fun = most((3,), (2,), "SAME")
    x = jnp.asarray(array(8), jnp.float32)
    dx = jnp.asarray(array(8)[::-1], jnp.float32)
    np.testing.assert_array_equal(bm.jvp(fun, (x,), (dx,))[1], jax.jvp(fun, (x,), (dx,))[1])


def test_complex_sum():
    x = array(2, 5) * (1 - 2j)
    check_derivatives(total((1, 3), (1, 2), "SAME"), x)


def test_derivatives_of_jax():
    """What JAX's differentiation leaves in a program is differentiated like anything else."""
    fun, x = most((2, 2), (2, 1), "SAME"), array(4, 3)

    def slope(x):
        return jax.grad(lambda x: jnp.sum(jnp.sin(fun(x))))(x)

    check_derivatives(slope, x)

    def tangent(x):
        return jax.jvp(fun, (x,), (x * x,))[1]

    check_derivatives(tangent, x)


def average(x):
    sums = total((1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return sums(x) / sums(jnp.ones_like(x))


def test_network():
    def loss(w, x):
        x = lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = most((1, 2, 2, 1), (1, 2, 2, 1))(jax.nn.tanh(x))
        return (average(x) ** 2).mean()

    check_derivatives(loss, array(3, 3, 2, 3), array(2, 4, 5, 2))


# -- Computations of one's own -------------------------------------------------------------------


def by_places(join, init, window, stride, low, high):
    """A reduction along a line, written as a loop over the places in a window."""

    def fun(x):
        padded = jnp.pad(x, (low, high), constant_values=init)
        count = (padded.shape[0] - window) // stride + 1
        result = jnp.full((count,), init, x.dtype)
        for k in range(window):
            result = join(result, padded[k : k + (count - 1) * stride + 1 : stride])
        return result

    return fun


def test_product():
    fun = pool(lax.mul, 1.0, (3,), (2,), [(1, 2)])
    check_derivatives(fun, array(7), oracle=by_places(lax.mul, 1.0, 3, 2, 1, 2))
    xs = array(2, 7)
    np.testing.assert_allclose(bm.vmap(fun)(xs), jax.vmap(fun)(xs), rtol=1e-6)


@pytest.mark.parametrize(("window", "low", "high"), [(3, 0, 1), (20, 9, 9)])
def test_own_maximum(window, low, high):
    """Ties go by what the computation says; long windows are joined in pairs."""

    def larger(a, b):
        return jnp.where(a >= b, a, b)

    check_derivatives(
        pool(larger, -np.inf, (window,), (2,), "SAME"),
        np.round(2 * array(30)),
        oracle=by_places(larger, -np.inf, window, 2, low, high),
        differences=False,
    )


def test_own_sum_is_linear():
    own = pool(lambda a, b: a + b, 0.0, (3,), (2,), "SAME")
    check_derivatives(own, array(7), oracle=total((3,), (2,), "SAME"))


def test_pairs():
    """Several arrays at once: the largest of each window and where it is."""

    def earlier(a, b):
        return jax.tree.map(lambda x, y: jnp.where(a[0] >= b[0], x, y), a, b)

    def fun(x):
        inits = (jnp.asarray(-jnp.inf, x.dtype), np.int32(-1))
        operands = (x, lax.iota(np.int32, 7))
        return lax.reduce_window(operands, inits, earlier, (3,), (2,), "VALID")

    with jax.enable_x64(True):
        x = array(7)
        for got, want in zip(bm.jit(fun)(x), fun(x), strict=True):
            np.testing.assert_array_equal(got, want)
    check_derivatives(lambda x: fun(x)[0], x, oracle=most((3,), (2,)))
