"""Functions with their own derivative rules (custom_jvp, custom_vjp), in every transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.array([0.3, -0.7, 1.1])
XS = np.linspace(-1.5, 2.0, 12).reshape(4, 3)
S = np.float64(0.7)


@jax.custom_jvp
def spike(x):
    return (x > 0).astype(x.dtype)


@spike.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return spike(x), dx / (10 * jnp.abs(x) + 1) ** 2


@jax.custom_vjp
def scaled_sine(x, y, n):
    return jnp.sin(x) * y * n, n + 1


def _forward(x, y, n):
    return scaled_sine(x, y, n), (x, y, n)


def _backward(residuals, cotangents):
    x, y, n = residuals
    ct, _ = cotangents
    return jnp.tanh(x) * y * ct * n, jnp.sum(jnp.sin(x) * ct) * n, None


scaled_sine.defvjp(_forward, _backward)


def neuron(v, x):
    v = v * 0.9 + x
    s = spike(v - 0.5)
    return v * (1 - s), s * v


# JAX loses the rule of a function in a scan when it differentiates the reverse mode
# again, so it differentiates unrolled loops here.
def neurons(v, xs):
    return lax.scan(neuron, v, xs)


def unrolled_neurons(v, xs):
    ys = []
    for x in xs:
        v, y = neuron(v, x)
        ys.append(y)
    return v, jnp.stack(ys)


def test_custom_jvp():
    fun = lambda x: spike(x) * jnp.sin(x)  # noqa: E731
    check_derivatives(fun, X, differences=False)
    check_batching(fun, X)


def test_custom_jvp_in_a_loop():
    check_derivatives(neurons, X, XS, differences=False, oracle=unrolled_neurons)
    check_batching(neurons, X, XS)


@jax.custom_jvp
def tripled(x, y):
    return jnp.stack([x, y, 2 * x])


@tripled.defjvp
def _(primals, tangents):
    # A rule that applies the function to its tangents, as linear functions may.
    return tripled(*primals), tripled(*tangents)


def test_custom_jvp_of_tangents():
    check_derivatives(lambda x, y: jnp.sin(tripled(x, y) * x), X, X[::-1].copy())
    check_batching(lambda x, y: tripled(x, y) * x, X, X[::-1].copy())


def test_custom_jvp_of_tangents_in_a_loop():
    fun = lambda x, ys: lax.scan(lambda c, y: (tripled(c, y)[2] * c, c), x, ys)  # noqa: E731
    check_derivatives(fun, X, XS)


def product(x, y):
    sine, count = scaled_sine(x, y, 2)
    return sine * count


def spiking_sine(x, y):
    sine, _ = scaled_sine(x, y, 3)
    return sine, sine * spike(sine)


def in_a_loop(x, ys):
    return lax.scan(spiking_sine, x, ys)


def unrolled(x, ys):
    outs = []
    for y in ys:
        x, out = spiking_sine(x, y)
        outs.append(out)
    return x, jnp.stack(outs)


@pytest.mark.parametrize(
    ("fun", "oracle", "args"),
    [(product, product, (X, S)), (in_a_loop, unrolled, (X, XS[:, 0]))],
)
def test_custom_vjp(fun, oracle, args):
    check_batching(fun, *args)
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(arg) for arg in args)

        def first(lib, fun, *args):
            out, pull = lib.vjp(fun, *args)
            return pull(jax.tree.map(jnp.cos, out))

        def second(lib, fun, *args):
            out, pull = lib.vjp(lambda *args: first(lib, fun, *args), *args)
            return pull(out)

        for order in (first, second):
            got = jax.tree.leaves(order(bm, fun, *args))
            want = jax.tree.leaves(order(jax, oracle, *args))
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-9)


def test_the_batched_rule_is_the_users():
    """Reverse mode of a batch uses `bwd`, not the derivative of the function."""
    fun = bm.vmap(product, in_axes=(0, None))
    grads = bm.grad(lambda x, y: fun(x, y).sum(), argnums=(0, 1))(jnp.asarray(XS), 0.7)
    np.testing.assert_allclose(grads[0], np.tanh(XS) * 0.7 * 2 * 3, rtol=1e-5)
    np.testing.assert_allclose(grads[1], np.sin(XS).sum() * 2 * 3, rtol=1e-5)


def test_forward_mode_of_what_nobody_reads():
    """`hessian` differentiates the value forward with the slope: what came of it is dropped."""

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, ct: (2 * jnp.cos(x) * ct,))
    got = bm.hessian(lambda x: sine(x).sum())(jnp.asarray(XS))
    want = -2 * np.diag(np.sin(np.ravel(XS))).reshape(XS.shape * 2)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@jax.custom_vjp
def scaled_and_doubled(x, c):
    return x * c, 2 * c


scaled_and_doubled.defvjp(
    lambda x, c: (scaled_and_doubled(x, c), (x, c)),
    lambda held, cts: (cts[0] * held[1], jnp.sum(cts[0] * held[0]) + 2 * cts[1]),
)


@jax.custom_vjp
def calls_another(x, c):
    return scaled_and_doubled(x, c)


calls_another.defvjp(
    lambda x, c: (calls_another(x, c), (x, c)),
    lambda held, cts: (cts[0] * held[1], jnp.sum(cts[0] * held[0]) + 2 * cts[1]),
)


def total_of_gradients(lib, f):
    return lambda *args: sum(map(jnp.sum, lib.grad(f, argnums=(0, 1))(*args)))


@pytest.mark.parametrize("derived", [lambda _, f: f, total_of_gradients])
@pytest.mark.parametrize("weight", [0.0, 5.0])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("vmap", [jax.vmap, bm.vmap])
@pytest.mark.parametrize("element", [scaled_and_doubled, calls_another])
def test_results_that_a_batch_shares_count_once(derived, weight, nested, vmap, element):
    """JAX counts their cotangents once for each element, or refuses."""

    def loss(x, c):
        fun = vmap(element, (0, None), (0, None))
        if nested:
            fun = vmap(fun, (0, None), (0, None))
        scaled, doubled = fun(x, c)
        return (scaled.sum() + weight * doubled) ** 2

    def oracle(x, c):
        return (jnp.sum(x * c) + weight * 2 * c) ** 2

    x, c = jnp.asarray(XS), jnp.float32(3.0)
    x = jnp.stack([x, 2 * x]) if nested else x
    got = bm.grad(derived(bm, loss), argnums=(0, 1))(x, c)
    want = jax.grad(derived(jax, oracle), argnums=(0, 1))(x, c)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-4)


@jax.custom_vjp
def weighted_total(x, weight):
    return jax.lax.psum(weight * x, "all")


weighted_total.defvjp(
    lambda x, weight: (weighted_total(x, weight), (x, weight)),
    lambda held, ct: (ct * held[1], ct * held[0]),
)


@pytest.mark.parametrize("vmap", [jax.vmap, bm.vmap])
def test_results_that_a_batch_makes_together_count_for_each(vmap):
    weights = jnp.arange(1.0, 4.0)

    def total(x, weights):
        batch = vmap(lambda weight: weighted_total(x, weight), axis_name="all", out_axes=None)
        return batch(weights)

    if vmap is jax.vmap and jax.__version_info__ >= (0, 12):
        # It does not tell these results from the ones above.
        with pytest.raises(ValueError, match="shared across the batch"):
            bm.grad(total)(2.0, weights)
        return
    got = bm.grad(total, argnums=(0, 1))(2.0, weights)
    np.testing.assert_allclose(got[0], 6.0)
    np.testing.assert_allclose(got[1], [2.0] * 3)


def ruled_jvp(result_tangent):
    fun = jax.custom_jvp(lambda x, unused: 2 * x)
    fun.defjvp(lambda xs, ts: (fun(*xs), result_tangent(*ts)))
    return fun


def ruled_vjp():
    fun = jax.custom_vjp(lambda x, unused: 2 * x)
    fun.defvjp(lambda x, unused: (fun(x, unused), unused), lambda n, ct: (2 * ct + 0 * n, 0 * n))
    return fun


@pytest.mark.parametrize("fun", [ruled_jvp(lambda x, _: 2 * x), ruled_vjp()])
def test_results_that_do_not_depend_on_the_batch_need_no_axis(fun):
    batch = jnp.arange(3.0)

    def shared(x, batch):
        return bm.vmap(lambda unused: fun(x, unused), out_axes=None)(batch)

    assert shared(3.0, batch) == 6.0
    assert bm.jit(shared)(3.0, batch) == 6.0
    assert bm.grad(shared)(3.0, batch) == 2.0
    np.testing.assert_array_equal(bm.vmap(bm.grad(fun), (None, 0))(3.0, batch), [2.0] * 3)
    rows = bm.vmap(shared, (0, None))(batch, batch)
    np.testing.assert_array_equal(rows, 2 * batch)
    totals = bm.grad(lambda x: bm.vmap(shared, (0, None))(x, batch).sum())(batch)
    np.testing.assert_array_equal(totals, [2.0] * 3)


def test_a_tangent_may_need_the_axis_that_its_result_does_not():
    fun = ruled_jvp(lambda x, unused: 2 * x + unused)
    batch = jnp.arange(3.0)
    np.testing.assert_array_equal(
        bm.vmap(bm.grad(fun, argnums=1), (None, 0))(3.0, batch), [1.0] * 3
    )
    total = bm.grad(lambda batch: bm.vmap(lambda n: fun(3.0, n))(batch).sum())
    np.testing.assert_array_equal(total(batch), [1.0] * 3)

    def shared(x):
        return bm.vmap(lambda n: fun(x, n), out_axes=None)(batch)

    assert shared(3.0) == bm.jit(shared)(3.0) == 6.0
    assert bm.vmap(lambda _: shared(3.0), out_axes=None)(batch) == 6.0
    for derivative in (bm.grad(shared), lambda x: bm.jvp(shared, (x,), (1.0,))):
        with pytest.raises(ValueError, match="depends on a batched argument but has no batch axis"):
            derivative(3.0)


def test_no_forward_mode_of_custom_vjp_in_what_is_compiled():
    def tangent(x):
        return jax.jvp(lambda x: product(x, 2.0), (x,), (x,))[1]

    for compiled in (bm.jit(tangent), bm.vmap(tangent)):
        with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
            compiled(jnp.ones(3))
    with pytest.raises(TypeError, match=r"custom_lin.*can't apply forward-mode autodiff"):
        bm.grad(lambda x: tangent(x).sum())(jnp.ones(3))


def test_no_forward_mode_of_custom_vjp():
    # JAX raises TypeError.
    for error in (NotImplementedError, TypeError):
        with pytest.raises(error, match="forward-mode derivative of a function with a custom VJP"):
            bm.jvp(lambda x: product(x, 2.0), (jnp.ones(3),), (jnp.ones(3),))
