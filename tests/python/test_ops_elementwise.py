"""Elementwise ops: values, derivatives and batching against JAX, kinks, ties, dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.linspace(-1.7, 2.1, 7)
POSITIVE = np.linspace(0.3, 2.9, 7)
UNIT = np.linspace(-0.8, 0.9, 7)
ABOVE_ONE = np.linspace(1.2, 3.0, 7)
COMPLEX = X + 1j * POSITIVE

UNARY = {
    "neg": (lax.neg, X),
    "exp": (lax.exp, X),
    "exp2": (lax.exp2, X),
    "expm1": (lax.expm1, X),
    "log": (lax.log, POSITIVE),
    "log1p": (lax.log1p, POSITIVE),
    "sin": (lax.sin, X),
    "cos": (lax.cos, X),
    "tan": (lax.tan, UNIT),
    "asin": (lax.asin, UNIT),
    "acos": (lax.acos, UNIT),
    "atan": (lax.atan, X),
    "sinh": (lax.sinh, X),
    "cosh": (lax.cosh, X),
    "tanh": (lax.tanh, X),
    "asinh": (lax.asinh, X),
    "acosh": (lax.acosh, ABOVE_ONE),
    "atanh": (lax.atanh, UNIT),
    "logistic": (lax.logistic, X),
    "sqrt": (lax.sqrt, POSITIVE),
    "rsqrt": (lax.rsqrt, POSITIVE),
    "cbrt": (lax.cbrt, POSITIVE),
    "square": (lax.square, X),
    "erf": (lax.erf, X),
    "erfc": (lax.erfc, X),
    "abs": (lax.abs, X),
    "sign": (lax.sign, X),
    "floor": (lax.floor, X),
    "ceil": (lax.ceil, X),
    "round": (lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), X),
    "round_even": (lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), X),
    "integer_pow 0": (lambda x: lax.integer_pow(x, 0), X),
    "integer_pow 1": (lambda x: lax.integer_pow(x, 1), X),
    "integer_pow 5": (lambda x: lax.integer_pow(x, 5), X),
    "integer_pow -3": (lambda x: lax.integer_pow(x, -3), POSITIVE),
    "exp of an accuracy": (lambda x: lax.exp(x, accuracy=lax.AccuracyMode.HIGHEST), X),
    "tanh of an accuracy": (lambda x: lax.tanh(x, accuracy=lax.AccuracyMode.DEFAULT), X),
    "stop_gradient": (lambda x: lax.stop_gradient(x) * x, X),
    "convert": (lambda x: lax.convert_element_type(x**2, np.float32), X),
    "reduce_precision": (lambda x: lax.reduce_precision(x * x, 11, 52), X),
    "complex": (lambda x: lax.complex(x * x, lax.sin(x)), X),
    "real": (lambda z: lax.real(z * z), COMPLEX),
    "imag": (lambda z: lax.imag(z * z), COMPLEX),
    "conj": (lambda z: lax.conj(z) * z, COMPLEX),
    "abs complex": (lax.abs, COMPLEX),
    "exp complex": (lax.exp, COMPLEX),
    "log complex": (lax.log, COMPLEX),
    "tanh complex": (lax.tanh, COMPLEX),
    "sqrt complex": (lax.sqrt, COMPLEX),
    "to complex": (lambda x: lax.convert_element_type(x**3, np.complex128), X),
}

BINARY = {
    "add": (lambda x, y: lax.add(x * y, y), X, POSITIVE),
    "sub": (lambda x, y: lax.sub(x * y, y), X, POSITIVE),
    "mul": (lax.mul, X, POSITIVE),
    "div": (lax.div, X, POSITIVE),
    "rem": (lax.rem, X, POSITIVE),
    "pow": (lax.pow, POSITIVE, X),
    "max": (lax.max, X, X[::-1]),
    "min": (lax.min, X, X[::-1]),
    "atan2": (lax.atan2, X, POSITIVE),
    "mul complex": (lax.mul, COMPLEX, COMPLEX[::-1]),
    "div complex": (lax.div, COMPLEX, COMPLEX[::-1]),
    "select": (lambda x, y: lax.select(x > 0.1, x * y, y**3), X, POSITIVE),
    "where scalar": (lambda x, y: jnp.where(x[0] < 0, x * y, y**2), X, POSITIVE),
    "clamp": (lambda x, y: lax.clamp(-0.5, x * y, 1.0), X, POSITIVE),
    "clamp bounds": (lambda x, y: lax.clamp(-y, x * x * x, y), X, POSITIVE),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    fun, x = UNARY[name]
    # Rounding to float32 swallows small differences; stop_gradient exists to disagree with them.
    check_derivatives(fun, x, differences=name not in {"convert", "stop_gradient"})


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    fun, x, y = BINARY[name]
    check_derivatives(fun, x, y)


@pytest.mark.parametrize(
    "name", ["exp", "exp of an accuracy", "abs complex", "integer_pow 5", "convert"]
)
def test_unary_batched(name):
    fun, x = UNARY[name]
    check_batching(fun, x)


@pytest.mark.parametrize("name", ["mul", "pow", "select", "where scalar", "clamp bounds"])
def test_binary_batched(name):
    fun, x, y = BINARY[name]
    check_batching(fun, x, y)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (1, 1)])
def test_empty_and_size_one(shape):
    x, y = np.full(shape, 0.3), np.full(shape, 2.0)
    check_derivatives(lambda x, y: jnp.sin(x) * jnp.exp(y), x, y)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_each_float_type(dtype):
    with jax.enable_x64(True):
        x = jnp.asarray([0.5, 1.0, 2.0], dtype)
        got = bm.grad(lambda x: (jnp.tanh(x) * x).sum())(x)
        want = jax.grad(lambda x: (jnp.tanh(x) * x).sum())(x)
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(got, np.float64),
        np.asarray(want, np.float64),
        rtol=4 * float(jnp.finfo(dtype).eps),
    )


@pytest.mark.parametrize(
    ("fun", "x", "y"),
    [(lax.max, 1.0, 1.0), (lax.min, 1.0, 1.0), (lax.max, 0.0, -0.0), (lax.min, jnp.inf, jnp.inf)],
)
def test_ties_share_the_derivative(fun, x, y):
    assert [float(g) for g in bm.grad(fun, argnums=(0, 1))(x, y)] == [0.5, 0.5]


def test_kinks_are_as_in_jax():
    for fun in (jnp.abs, jax.nn.relu, lambda x: jnp.maximum(x, 0.0), jnp.sign, jax.nn.leaky_relu):
        assert float(bm.grad(fun)(0.0)) == float(jax.grad(fun)(0.0))


@pytest.mark.parametrize("at", [0.0, 1e-3, -2.0])
@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_exponential_euler_factor_has_no_nan_at_zero(at, dt):
    """The untaken branch's infinite slopes do not reach the gradient, to second order."""

    def factor(rate):
        return jnp.where(rate == 0, 1.0, (jnp.exp(dt * rate) - 1) / (dt * rate))

    def guarded(rate):
        safe = jnp.where(rate == 0, 1.0, rate)
        return jnp.where(rate == 0, 1.0, (jnp.exp(dt * safe) - 1) / (dt * safe))

    with jax.enable_x64(True):
        first, second = bm.grad(factor)(at), bm.grad(bm.grad(factor))(at)
        assert np.isfinite(first)
        assert np.isfinite(second)
        # Near zero the formula itself loses digits to cancellation.
        np.testing.assert_allclose(first, jax.grad(guarded)(at), rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(second, jax.grad(jax.grad(guarded))(at), rtol=1e-4, atol=1e-12)


FACTOR = lambda x: jnp.expm1(x) / x  # noqa: E731
WAYS_TO_CALL = {
    "nested choices": lambda x: jnp.where(x > 1, jnp.sin(x), FACTOR(x)),
    "nested choices, turned round": lambda x: jnp.where(x <= 1, FACTOR(x), jnp.sin(x)),
    "jit": jax.jit(FACTOR),
    "checkpoint": jax.checkpoint(FACTOR),
    "cond": lambda x: jax.lax.cond(x[1] < 5, FACTOR, jnp.sin, x),
}


@pytest.mark.parametrize("call", WAYS_TO_CALL.values(), ids=WAYS_TO_CALL)
def test_branches_not_taken_stay_out(call):
    """What `where` has masked stays masked in another `where`, a function, a branch."""

    def guarded(x):
        return jnp.sum(jnp.where(x == 0, 1.0, call(x)))

    x = jnp.array([0.0, 0.5, 2.0])
    got = bm.grad(guarded)(x)
    assert got[0] == 0
    np.testing.assert_allclose(got[1:], jax.grad(lambda x: call(x).sum())(x)[1:], rtol=1e-6)
    assert np.isfinite(bm.hessian(guarded)(x)).all()


RESHAPES = {
    "expand": lambda x: jnp.expand_dims(FACTOR(x), (0, 2))[0, :, 0],
    "reshape": lambda x: FACTOR(x.reshape(3, 1)).reshape(3),
    "column": lambda x: jnp.where(x[:, None] == 0, 0.0, FACTOR(x)[:, None]).sum(1),
    "one predicate": lambda x: lax.select(x[0] == 1, FACTOR(x)[:, None], x[:, None]).sum(1),
}


@pytest.mark.parametrize("call", RESHAPES.values(), ids=RESHAPES)
def test_branches_not_taken_stay_out_through_reshapes(call):
    def guarded(x):
        return jnp.sum(jnp.where(x == 0, 1.0, call(x)))

    gradient = bm.grad(guarded)
    x = jnp.array([0.0, 0.5, 2.0])
    want = jax.grad(lambda x: call(x).sum())
    np.testing.assert_allclose(gradient(x), want(x).at[0].set(0.0), rtol=1e-6)
    second = bm.grad(lambda x: gradient(x).sum())(x)
    of_want = jax.grad(lambda x: want(x).sum())(x)
    np.testing.assert_allclose(second, of_want.at[0].set(0.0), rtol=1e-5)


def test_power_at_its_edges():
    base, exponent = np.array([0.0, 0.0, 2.0, 1.0]), np.array([2.0, 0.0, 0.0, 3.0])
    with jax.enable_x64(True):
        of_base, of_exponent = bm.vector_grad(lax.pow, argnums=(0, 1))(base, exponent)
    # x^0 is constant in x, at zero too, where JAX gives NaN.
    np.testing.assert_allclose(of_base, [0.0, 0.0, 0.0, 3.0])
    np.testing.assert_allclose(of_exponent, [0.0, 0.0, np.log(2.0), 0.0])


def test_second_derivatives_of_a_power_where_the_exponent_is_zero():
    x = np.array([4.0, 1e-3, -2.0])
    with jax.enable_x64(True):
        mixed = bm.vector_grad(bm.vector_grad(lax.pow), argnums=1)(x, np.zeros(3))
        np.testing.assert_allclose(mixed[:2], 1 / x[:2])
        # Where 1/x overflows, x^0 is constant in x all the same.
        np.testing.assert_array_equal(
            bm.vector_grad(lax.pow)(np.array([5e-324, -1e-310]), np.zeros(2)), [0.0, 0.0]
        )


@pytest.mark.parametrize(
    "dtypes", [("bfloat16", "bfloat16", "float32"), ("float32", "bfloat16", "float16")]
)
def test_product_of_another_dtype(dtypes):
    x, y = (jnp.asarray([1.01, 3.7], dtype) for dtype in dtypes[:2])
    fun = lambda x, y: lax.mul(x, y, out_dtype=jnp.dtype(dtypes[2]))  # noqa: E731
    (got, got_vjp), (want, want_vjp) = (vjp(fun, x, y) for vjp in (bm.vjp, jax.vjp))
    np.testing.assert_array_equal(got, want)
    for ours, theirs in zip((got, *got_vjp(got)), (want, *want_vjp(want)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours.astype("float32"), theirs.astype("float32"), rtol=1e-2)


def test_integer_and_boolean_ops_compute_and_stop_derivatives():
    def fun(x, i):
        bits = ((i & 3) | 4) ^ (i << 1)
        odd = (bits % 2 == 1) & ~(x > 1.0)
        return jnp.where(odd, x * bits, x).sum() + lax.population_count(i).sum()

    x, i = jnp.asarray([0.5, 1.5, -1.0]), jnp.asarray([1, 2, 7])
    np.testing.assert_allclose(bm.grad(fun)(x, i), jax.grad(fun)(x, i))
    np.testing.assert_allclose(bm.jit(fun)(x, i), fun(x, i))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint32", "uint4"])
def test_signs_of_integers(dtype):
    values = jnp.asarray([0, 1, 5, -1]).astype(dtype)
    got, want = bm.jit(jnp.sign)(values), jnp.sign(values)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype("int32"), want.astype("int32"))
