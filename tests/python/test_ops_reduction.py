"""Reductions and cumulative ops: values, derivatives and batching against JAX."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.sin(np.arange(24) * 1.7).reshape(2, 3, 4)
ZEROS = X * (np.arange(24).reshape(X.shape) % 5 > 0)
TIES = np.round(X)
EMPTY = np.zeros((2, 0, 4))
NAN = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, 0.0], [2.0, 5.0, 5.0]])
I32 = np.arange(-5, 7, dtype=np.int32).reshape(3, 4)
U8 = np.arange(250, 262).astype(np.uint8).reshape(3, 4)
P = np.array([[True, False, True], [True, True, True]])

REDUCTIONS = [lax.reduce_sum, lax.reduce_prod, lax.reduce_max, lax.reduce_min]
CUMULATIVE = [lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp]


def names(functions):
    return [f.__name__ for f in functions]


def check_value(fun, *args, rtol=1e-6):
    got, want = bm.jit(fun)(*args), jax.jit(fun)(*args)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(
        np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=rtol, atol=rtol
    )


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=names(REDUCTIONS))
@pytest.mark.parametrize("axes", [(1,), (0, 2), (2, 0, 1), ()], ids=str)
def test_reduction(reduce, axes):
    check_derivatives(lambda x: reduce(x**3, axes), X)
    check_batching(lambda x: reduce(x**3, axes), X)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_product_of_few(size):
    check_derivatives(lambda x: lax.reduce_prod(x, (0,)), X.reshape(-1)[:size])


@pytest.mark.parametrize("axes", [(1,), (0, 1, 2)], ids=str)
def test_product_with_zeros(axes):
    check_derivatives(lambda x: lax.reduce_prod(x, axes), ZEROS)


@pytest.mark.parametrize("reduce", [lax.reduce_max, lax.reduce_min], ids=["max", "min"])
def test_ties_share(reduce):
    check_derivatives(lambda x: reduce(x, (1, 2)), TIES, differences=False)


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=names(REDUCTIONS))
def test_reduction_of_nothing(reduce):
    check_derivatives(lambda x: reduce(x, (0,)), EMPTY)
    differentiable = reduce in (lax.reduce_sum, lax.reduce_prod)
    if differentiable:
        check_derivatives(lambda x: reduce(x, (1,)), EMPTY)
    else:
        check_value(lambda x: reduce(x, (1,)), np.float32(EMPTY))


@pytest.mark.parametrize("reduce", REDUCTIONS, ids=names(REDUCTIONS))
@pytest.mark.parametrize("x", [I32, U8, I32.astype(np.int64), np.float16(X[0])], ids=str)
def test_reduction_of_other_types(reduce, x):
    check_value(lambda x: reduce(x, (1,)), x, rtol=1e-2)


@pytest.mark.parametrize("reduce", [lax.reduce_sum, lax.reduce_prod], ids=["sum", "prod"])
def test_complex_reduction(reduce):
    check_derivatives(lambda x: reduce(x * x, (1,)), X + 1j * np.cos(X))


def test_complex_maximum():
    x = np.array([[1 + 2j, 1 - 1j], [1 + 3j, -4 + 9j]])
    check_derivatives(
        lambda x: (lax.reduce_max(x, (0,)), lax.reduce_min(x, (1,))), x, differences=False
    )


@pytest.mark.parametrize(
    "reduce", [lax.reduce_and, lax.reduce_or, lax.reduce_xor], ids=["and", "or", "xor"]
)
@pytest.mark.parametrize("x", [P, I32, U8], ids=["bool", "int32", "uint8"])
def test_bits(reduce, x):
    check_value(lambda x: reduce(x, (1,)), x)
    check_batching(lambda x: reduce(x, (1,)), x)


def test_reduction_of_booleans():
    check_value(lambda x: lax.reduce_max(x, (1,)), P)
    check_value(lambda x: lax.reduce_min(x, (1,)), P)


@pytest.mark.parametrize("reduce", [lax.reduce_max, lax.reduce_min], ids=["max", "min"])
def test_nan_is_the_extreme(reduce):
    check_value(lambda x: reduce(x, (1,)), NAN.astype(np.float32))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["max", "min"])
def test_derivatives_of_extremes_that_are_no_numbers(sign):
    """NaN to all elements where the extreme is NaN, though `jax.jit(jax.grad)` has 0 there."""
    x = sign * np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, np.inf], [-np.inf] * 3])
    shares = np.array([[np.nan] * 3, [0.5, 0.0, 0.5], [1 / 3] * 3])
    reduce = lax.reduce_max if sign > 0 else lax.reduce_min
    fun = lambda x: reduce(x, (1,))  # noqa: E731
    weights, tangent = np.array([2.0, 3.0, 6.0]), np.arange(9.0).reshape(3, 3)
    gradient = bm.grad(lambda x: jnp.vdot(fun(x), weights))(x)
    np.testing.assert_allclose(gradient, weights[:, None] * shares)
    np.testing.assert_allclose(bm.jvp(fun, (x,), (tangent,))[1], (tangent * shares).sum(1))
    tangent[1, 1] = np.inf  # Of an element that is not the extreme.
    np.testing.assert_allclose(bm.jvp(fun, (x,), (tangent,))[1][1], 4.0)


@pytest.mark.parametrize("arg", [lax.argmax, lax.argmin], ids=["argmax", "argmin"])
@pytest.mark.parametrize(
    "x", [X[0], TIES[0], NAN, I32, U8, P], ids=["floats", "ties", "nan", "int32", "uint8", "bool"]
)
def test_argument(arg, x):
    for dtype in (jnp.int32, jnp.uint8):
        check_value(partial(arg, axis=1, index_dtype=dtype), x)
    check_batching(lambda x: arg(x, 0, jnp.int32), x)


def test_argument_has_no_tangent():
    out, tangent = bm.jvp(lambda x: lax.argmax(x, 0, jnp.int32), (jnp.arange(3.0),), (jnp.ones(3),))
    assert int(out) == 2
    assert tangent.dtype == jax.dtypes.float0


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("scan", CUMULATIVE, ids=names(CUMULATIVE))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cumulative(scan, axis, reverse):
    check_derivatives(lambda x: scan(x**3, axis, reverse), X)
    check_batching(lambda x: scan(x**3, axis, reverse), X)


@pytest.mark.parametrize("scan", CUMULATIVE, ids=names(CUMULATIVE))
@pytest.mark.parametrize("size", [0, 1, 2, 5, 8, 13])
def test_cumulative_of_lengths(scan, size):
    check_derivatives(lambda x: scan(x), np.resize(X.reshape(-1), size))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_running_product_with_zeros(reverse):
    check_derivatives(lambda x: lax.cumprod(x, 0, reverse), ZEROS.reshape(-1))


@pytest.mark.parametrize("scan", [lax.cummax, lax.cummin], ids=["max", "min"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
def test_running_extremes_share_ties(scan, reverse):
    check_derivatives(
        lambda x: scan(x, 0, reverse), np.round(X.reshape(-1)[:13]), differences=False
    )
    check_derivatives(lambda x: scan(x, 0, reverse), np.zeros(11), differences=False)


def test_running_logarithm_of_equal_numbers():
    """Second derivatives where a formula by cases would lose them."""
    check_derivatives(lax.cumlogsumexp, np.full(6, 0.3))


def test_running_logarithm_of_large_and_infinite_numbers():
    x = np.array([-900.0, 800.0, -1.0, 799.0, 801.0])
    check_derivatives(lax.cumlogsumexp, x)
    infinite = jnp.array([-jnp.inf, 1.0, -jnp.inf, 2.0])
    got, want = (jax.jit(lib.grad(lambda x: lax.cumlogsumexp(x).sum())) for lib in (bm, jax))
    # JAX's sum includes the first result, -inf: the derivative is taken past it.
    np.testing.assert_allclose(got(infinite), want(infinite), rtol=1e-6)


def test_running_logarithm_of_masked_numbers_has_a_finite_derivative():
    """Several leading -inf give no NaN: nothing was added yet."""
    x = jnp.array([-jnp.inf, -jnp.inf, 0.0, 1.0])
    gradient = bm.grad(lambda x: lax.cumlogsumexp(x)[-1])(x)
    np.testing.assert_allclose(gradient, [0, 0, *jax.nn.softmax(x[2:])], rtol=1e-6)


@pytest.mark.parametrize("scan", CUMULATIVE[:4], ids=names(CUMULATIVE[:4]))
@pytest.mark.parametrize("x", [I32, U8], ids=["int32", "uint8"])
def test_cumulative_of_integers(scan, x):
    check_value(partial(scan, axis=1, reverse=True), x)


@pytest.mark.parametrize(
    "scan",
    [lax.cumsum, lax.cumprod, lax.cumlogsumexp],
    ids=["cumsum", "cumprod", "cumlogsumexp"],
)
def test_complex_cumulative(scan):
    check_derivatives(lambda x: scan(x * x), (X + 1j * np.cos(2 * X))[0])


def test_complex_cummax_follows_the_winner():
    """Ordered by real, then imaginary part. JAX 0.12 has no derivative to compare with."""
    x = np.array([1 + 1j, 1 + 2j, 0 + 5j, 3 - 1j])
    tangent = np.array([1.0, 10.0, 100.0, 1000.0]) * (1 + 1j)
    with jax.enable_x64(True):
        value, derivative = bm.jvp(lax.cummax, (x,), (tangent,))
    winners = [0, 1, 1, 3]
    np.testing.assert_array_equal(value, x[winners])
    np.testing.assert_array_equal(derivative, tangent[winners])


@pytest.mark.parametrize("scan", CUMULATIVE, ids=names(CUMULATIVE))
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=str)
def test_cumulative_keeps_the_type(scan, dtype):
    x = jnp.asarray(X[0], dtype)
    check_value(partial(scan, axis=1), x, rtol=3e-2)
    out, tangent = bm.jvp(partial(scan, axis=1), (x,), (x,))
    assert out.dtype == tangent.dtype == dtype


def test_running_maximum_passes_nan_on():
    check_value(partial(lax.cummax, axis=1), NAN.astype(np.float32))
    check_value(partial(lax.cummin, axis=1, reverse=True), NAN.astype(np.float32))
