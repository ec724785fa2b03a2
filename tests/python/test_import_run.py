"""Imported, lowered and compiled functions give what JAX gives."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from import_helpers import imported, run
from jax import lax

from bmgrad.runtime._primitive import bind

X = np.linspace(-1.5, 2.0, 12, dtype=np.float32).reshape(3, 4)
Y = np.cos(3 * X) + 0.1
V = X[0]
I32 = np.arange(-3, 9, dtype=np.int32).reshape(3, 4)
U8 = np.arange(12, dtype=np.uint8).reshape(3, 4)
C = (X + 1j * Y).astype(np.complex64)
P = np.array([[True, False, True, True]] * 3)
KEY = jax.random.key(3)


def check(fun, *args, rtol=1e-5):
    want = jax.tree.leaves(jax.jit(fun)(*args))
    got = run(fun, *args)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        assert g.shape == w.shape
        if jnp.issubdtype(g.dtype, jax.dtypes.prng_key):
            g, w = jax.random.key_data(g), jax.random.key_data(w)
        wide = np.complex128 if np.iscomplexobj(w) else np.float64
        np.testing.assert_allclose(np.asarray(g, wide), np.asarray(w, wide), rtol=rtol, atol=1e-6)


def close(got, want):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)


def loop(x, y):
    def body(c, xs):
        h, i = c
        h = jnp.tanh(h * xs[0] + y)
        return (h, i + 1), (h.sum(), xs[1] * i)

    return lax.scan(body, (x, 0), (jnp.arange(5.0), jnp.ones((5, 2))), reverse=True)


def newton(x):
    return lax.while_loop(
        lambda c: jnp.abs(c[0] * c[0] - 2) > 1e-5,
        lambda c: (0.5 * (c[0] + 2 / c[0]), c[1] + 1),
        (x, 0),
    )


def branches(i, x):
    table = jnp.arange(40.0)
    return lax.switch(i, [jnp.sin, lambda x: x * table[3], lambda x: x - 1], x)


FUNCTIONS = {
    "arithmetic": (lambda x, y: (x + y, x - y, x * y, x / y, x**2, x ** y.astype(int), -x), X, Y),
    "unary": (
        lambda x: [
            f(x)
            for f in (
                *(jnp.exp, jnp.exp2, jnp.expm1, jnp.sin, jnp.cos, jnp.tan, jnp.tanh, jnp.sinh),
                *(jnp.cosh, jnp.arctan, jnp.arcsinh, jnp.cbrt, jnp.floor, jnp.ceil, jnp.round),
                *(jnp.sign, jnp.abs, jnp.square, jnp.isfinite, lax.erf, lax.erfc, lax.logistic),
            )
        ],
        X,
    ),
    "positive": (
        lambda x: [
            f(x) for f in (jnp.log, jnp.log1p, jnp.sqrt, lax.rsqrt, lax.lgamma, lax.digamma)
        ],
        np.abs(X) + 0.3,
    ),
    "inside one": (
        lambda x: [f(x) for f in (jnp.arcsin, jnp.arccos, jnp.arctanh, lax.erf_inv)],
        X / 3,
    ),
    "log2": (jnp.log2, np.abs(X) + 0.3),
    "two operands": (
        lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, 1.0), jnp.arctan2(x, y), lax.rem(x, y)),
        X,
        Y,
    ),
    "integers": (
        lambda i, u: (i // 2, i % 3, i & 5, i | 1, i ^ 2, ~i, i << 2, i >> 1, u >> 1, lax.clz(i)),
        I32,
        U8,
    ),
    "bits": (lambda x, i: (x.view(jnp.int32), lax.population_count(i), i.astype(jnp.int8)), X, I32),
    "comparisons": (lambda x, y: (x < y, x <= 0, x == y, x != y, x > 1, x >= y, P & (x < 1)), X, Y),
    "conversions": (
        lambda x, i: (x.astype(int), x.astype(bool), i.astype(jnp.float16), i.astype(jnp.uint8)),
        X,
        I32,
    ),
    "choice": (lambda p, x: (jnp.where(p, x, 0), lax.clamp(-1.0, x, 1.0), jnp.clip(x, 0)), P, X),
    "cases": (lambda x: lax.select_n(jnp.asarray(X > 0, jnp.int32) * 2, x, 2 * x, 3 * x), X),
    "complex": (
        lambda c: (c * c, jnp.conj(c), c.real, c.imag, jnp.abs(c), jnp.exp(c), jnp.angle(c)),
        C,
    ),
    "complex from parts": (lambda x, y: lax.complex(x, y), X, Y),
    "half": (lambda x: jnp.sin(x) * 2, X.astype(np.float16)),
    "bfloat16": (lambda x: jnp.tanh(x) + x, X.astype(ml_dtypes.bfloat16)),
    "shapes": (
        lambda x: (
            *(
                x.T,
                x.reshape(2, 6),
                x[None],
                x.ravel(),
                jnp.flip(x, 1),
                jnp.broadcast_to(x, (2, 3, 4)),
            ),
            *(
                jnp.concatenate([x, x], 1),
                jnp.stack([x, -x], 1),
                jnp.tile(x, (2, 1)),
                jnp.roll(x, 1),
            ),
            *(jnp.split(x, [1, 3], 1), jnp.pad(x, ((1, 2), (0, 1))), jnp.swapaxes(x, 0, 1)),
            lax.pad(x, jnp.float32(7), ((1, -1, 2), (-1, 0, 0))),
        ),
        X,
    ),
    "iota": (lambda x: x + jnp.arange(4) + lax.broadcasted_iota(jnp.float32, (3, 4), 0), X),
    "empty": (lambda x: (x[:0] * 2, jnp.sum(x[:0]), jnp.concatenate([x[:0], x])), X),
    "slices": (lambda x: (x[1], x[:, 1:3], x[::2, ::-1], x[-1, -1], x[..., 0]), X),
    "dynamic slices": (
        lambda x, i: (x[i], lax.dynamic_slice(x, (i, 1), (2, 2)), x.at[i].set(0.0)),
        X,
        np.int32(1),
    ),
    "gather": (
        lambda x, i: (x[i], x[:, i], jnp.take(x, i, axis=1, mode="clip"), x[i, i], x[i][:, i]),
        X,
        np.array([2, 0, 5, -1]),
    ),
    "fill": (lambda x, i: x.at[i].get(mode="fill", fill_value=9), X, np.array([2, 7])),
    "scatter": (
        lambda x, i: (x.at[i].set(1.0), x.at[i].add(x[:2]), x.at[i].mul(2.0), x.at[i].max(0.5)),
        X,
        np.array([2, 0]),
    ),
    "scatter drop": (lambda x, i: x.at[i].add(1.0, mode="drop"), X, np.array([2, 7])),
    "scatter apply": (lambda x: x.at[jnp.array([0, 2])].apply(jnp.sin), X),
    "segments": (lambda x: jax.ops.segment_sum(x, jnp.array([0, 1, 0]), 2), X),
    "reductions": (
        lambda x: (
            *(x.sum(), x.sum(0), x.prod(1), x.max(0), x.min(), x.mean(1), x.var(), jnp.any(x > 1)),
            *(jnp.all(x > 1, axis=1), jnp.argmax(x, 1), jnp.argmin(x), jnp.linalg.norm(x)),
        ),
        X,
    ),
    "running": (
        lambda x: (
            *(jnp.cumsum(x, 1), jnp.cumprod(x, 0), lax.cummax(x, 1), lax.cummin(x, 0)),
            lax.cumlogsumexp(x, 1, reverse=True),
        ),
        X,
    ),
    "products": (
        lambda x, y: (x @ y.T, jnp.einsum("ij,kj->ik", x, y), jnp.dot(x[0], y[0]), jnp.outer(x, y)),
        X,
        Y,
    ),
    "precision": (lambda x, y: jnp.matmul(x, y.T, precision="highest"), X, Y),
    "batched product": (lambda x: jnp.einsum("bij,bjk->bik", x, x), np.ones((2, 3, 3), np.float32)),
    "integer product": (lambda i: jnp.matmul(i, i.T, preferred_element_type=jnp.int32), U8),
    "sort": (
        lambda x: (
            jnp.sort(x, 0),
            jnp.argsort(x, 1),
            lax.top_k(x, 2),
            lax.sort((x, -x), num_keys=1),
        ),
        X,
    ),
    "softmax": (lambda x: (jax.nn.softmax(x), jax.nn.logsumexp(x, 1), jax.nn.log_softmax(x, 0)), X),
    "activations": (
        lambda x: (
            jax.nn.relu(x),
            jax.nn.gelu(x),
            jax.nn.silu(x),
            jax.nn.elu(x),
            jax.nn.softplus(x),
        ),
        X,
    ),
    "scan": (loop, X, Y),
    "empty scan": (lambda x: lax.scan(lambda c, x: (c + x, c), x[0], x[:0]), X),
    "fori": (lambda x: lax.fori_loop(0, 4, lambda i, c: c * x + i, x), X),
    "while": (newton, np.float32(3.0)),
    "while in vmap": (jax.vmap(newton), np.array([1.0, 2.0, 50.0], np.float32)),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), X),
    "switch": (branches, np.int32(1), X),
    "switch out of range": (branches, np.int32(9), X),
    "switch in vmap": (jax.vmap(branches), np.array([0, 1, 2], np.int32), X),
    "map": (lambda x: lax.map(lambda r: jnp.sin(r).sum(), x), X),
    "associative scan": (partial(lax.associative_scan, jnp.multiply), X),
    "remat": (jax.checkpoint(lambda x: jnp.sin(jnp.cos(x))), X),
    "gradient by JAX inside": (lambda x: jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 3))(x), X),
    "vmap": (jax.vmap(lambda x, y: jnp.dot(x, y) + jnp.sum(x)), X, Y),
    "random": (
        lambda k: (
            *(jax.random.normal(k, (3,)), jax.random.bernoulli(k, 0.3, (4,)), jax.random.split(k)),
            *(
                jax.random.randint(k, (3,), 0, 9),
                jax.random.permutation(k, 5),
                jax.random.fold_in(k, 3),
            ),
        ),
        KEY,
    ),
    "old keys": (lambda k: jax.random.uniform(k, (3,)), jax.random.PRNGKey(1)),
    "seed": (lambda s: jax.random.key_data(jax.random.key(s)), np.uint32(4)),
    "keys in loops": (
        lambda k: lax.scan(lambda c, k: (c, jax.random.normal(k)), 0, jax.random.split(k, 4))[1],
        KEY,
    ),
    "random in vmap": (
        lambda k: jax.vmap(lambda k: jax.random.normal(k, (2,)))(jax.random.split(k, 3)),
        KEY,
    ),
    "keys indexed": (lambda k: jax.random.key_data(jax.random.split(k, 4)[::2][1]), KEY),
    "linear algebra": (
        lambda x: (jnp.linalg.inv(x @ x.T + 2 * jnp.eye(3)), jnp.linalg.det(x @ x.T + jnp.eye(3))),
        X,
    ),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + 2 * jnp.eye(3)), X),
    "fft": (jnp.fft.fft, X),
    "convolution": (lambda x, y: jnp.convolve(x[0], y[0], mode="same"), X, Y),
    "special": (lambda x: (jax.scipy.special.i0e(x), jax.scipy.special.gammainc(x * x, 1.0)), X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_jax(name):
    fun, *args = FUNCTIONS[name]
    check(fun, *args)


@pytest.mark.parametrize("name", ["arithmetic", "unary", "reductions", "scan", "softmax"])
def test_equals_jax_in_double_precision(name):
    fun, *args = FUNCTIONS[name]
    with jax.enable_x64(True):
        check(fun, *(np.asarray(x, np.float64) for x in args), rtol=1e-12)


def test_programs_in_programs():
    @jax.jit
    def shared(x):
        return jnp.sin(jnp.cos(jnp.tan(jnp.sin(x))))

    inner, *_ = imported(lambda x: shared(x) * 2, X, name="step")

    def outer(x):
        (once,) = bind(inner, x)
        return bind(inner, shared(once))

    program, *_ = imported(outer, X)
    ir = program.as_text("bm")
    assert ir.count("call @step(") == 2
    assert "@shared_1" in ir
    want = 2 * shared(shared(2 * shared(X)))
    np.testing.assert_allclose(bind(program, X)[0], want, rtol=1e-6)


# -- Kernels under transforms --------------------------------------------------------------------


def test_batched_kernels():
    def fun(key, x):
        noise = jax.random.normal(key, (3,))
        return jnp.linalg.cholesky(jnp.outer(x, x) + jnp.eye(3)) + noise, lax.igamma(x * x, x * x)

    keys, xs = jax.random.split(KEY, 4), np.linspace(0.5, 2, 15, dtype=np.float32).reshape(5, 3)
    program, consts, *_ = imported(fun, KEY, xs[0])

    def call(key, x):
        return bind(program, key, x, *consts)

    for axes in ((None, 0), (0, None), (0, 0)):
        args = [
            array[:4] if axis == 0 else array[0]
            for array, axis in zip((keys, xs), axes, strict=True)
        ]
        close(jax.vmap(call, axes)(*args), jax.vmap(fun, axes)(*args))
    twice = [jax.vmap(jax.vmap(f, (0, None)), (None, 0)) for f in (call, fun)]
    close(twice[0](keys, xs), twice[1](keys, xs))


def test_derivatives_beside_kernels_of_integers():
    def loss(x, key):
        mask = jax.random.bernoulli(key, 0.5, x.shape)
        return jnp.sum(jnp.where(mask, x, 0.0) ** 3)

    program, *_ = imported(loss, X, KEY)
    close(jax.grad(lambda x: bind(program, x, KEY)[0])(X), jax.grad(loss)(X, KEY))


def test_derivative_of_a_kernel_names_it_and_the_line():
    fun = lambda x: jnp.sum(lax.linalg.hessenberg(jnp.outer(x, x))[0])  # noqa: E731
    program, *_ = imported(fun, V)
    with pytest.raises(Exception, match="no derivative rule for primitive 'hessenberg'") as error:
        jax.grad(lambda x: bind(program, x)[0])(V)
    assert f"{__file__}:{fun.__code__.co_firstlineno}" in str(error.value)


@pytest.mark.skipif(not hasattr(lax, "polynomial"), reason="newer than this JAX")
def test_polynomials():
    coefficients = [1.0, -2.0, 0.5, 3.0]
    for fun in (lambda x: lax.polynomial(x, coefficients), lambda x: lax.one_minus_square(x)):
        check(fun, X)
        program, *_ = imported(lambda x, fun=fun: jnp.sum(fun(x)), X)
        gradient = jax.grad(lambda x, program=program: bind(program, x)[0])
        close(gradient(X), jax.grad(lambda x, fun=fun: jnp.sum(fun(x)))(X))
