"""Spikes: a step forward, a chosen slope backward, by `custom_jvp` and `custom_vjp`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm


def slope(v, g=25.0):
    return g / (100.0 * jnp.abs(v) + 1.0) ** 2


def heaviside(v):
    return (v >= 0).astype(jnp.result_type(v))


@jax.custom_jvp
def spike_jvp(v):
    return heaviside(v)


@spike_jvp.defjvp
def _(primals, tangents):
    return spike_jvp(primals[0]), slope(primals[0]) * tangents[0]


@jax.custom_vjp
def spike_vjp(v):
    return heaviside(v)


spike_vjp.defvjp(lambda v: (heaviside(v), v), lambda v, ct: (slope(v) * ct,))


@jax.custom_vjp
def spike_to_self(v):
    return heaviside(v)


# The forward rule calls the function itself, as libraries do it.
spike_to_self.defvjp(lambda v: (spike_to_self(v), v), lambda v, ct: (slope(v) * ct,))

SPIKES = [spike_jvp, spike_vjp, spike_to_self]
V = jnp.array([-0.5, -0.01, 0.0, 0.02, 1.5])


@pytest.mark.parametrize("spike", SPIKES)
class TestOne:
    def test_forward_is_a_step_backward_the_slope(self, spike):
        gradient, value = bm.vector_grad(spike, return_value=True)(V)
        np.testing.assert_array_equal(value, [0, 0, 1, 1, 1])
        np.testing.assert_allclose(gradient, slope(V), rtol=1e-6)

    def test_second_derivative_flows_through_the_slope(self, spike):
        second = bm.vector_grad(bm.vector_grad(spike))(V)
        expected = jax.vmap(jax.grad(slope))(V)
        np.testing.assert_allclose(second, expected, rtol=1e-5)
        third = bm.vector_grad(bm.vector_grad(bm.vector_grad(spike)))(V)
        np.testing.assert_allclose(third, jax.vmap(jax.grad(jax.grad(slope)))(V), rtol=1e-4)

    def test_batched_jitted_and_inside_jax(self, spike):
        batch = jnp.stack([V, -V])
        np.testing.assert_allclose(
            jax.jit(jax.vmap(bm.vector_grad(spike)))(batch), slope(batch), rtol=1e-6
        )
        np.testing.assert_allclose(
            bm.grad(lambda b: jax.vmap(jax.jit(spike))(b).sum())(batch), slope(batch), rtol=1e-6
        )

    def test_lif_network_over_time(self, spike):
        inputs = jnp.array(np.random.RandomState(0).rand(12, 4), jnp.float32)
        weights = bm.TrainVar(np.random.RandomState(1).rand(4, 3).astype("f"))

        def rate(w, derivative=None):
            def step(v, current):
                v = 0.9 * v + current @ w
                s = spike(v - 1.0)
                return v * (1 - s), s

            return jax.lax.scan(step, jnp.zeros(3), inputs)[1].mean()

        got = bm.grad(lambda: rate(weights.value), grad_vars=weights)()
        np.testing.assert_allclose(got, jax.grad(rate)(weights.value), rtol=1e-4, atol=1e-6)
        assert np.abs(np.asarray(got)).max() > 0

    def test_in_an_integrator_with_a_gradient_at_each_step(self, spike):
        def loss(transform, spike=spike):
            def total(w):
                def equation(v):
                    return -v + w + 0.1 * spike(v - 0.5)

                def step(v, _):
                    rate, value = transform(equation)(v)
                    return v + 0.1 * jnp.exp(0.1 * rate) * value, None

                return jax.lax.scan(step, jnp.zeros(2), None, length=6)[0].sum()

            return total

        def theirs(equation):
            def each(v):
                value, back = jax.vjp(equation, v)
                return back(jnp.ones_like(v))[0], value

            return each

        with jax.enable_x64(True):
            ours = loss(lambda equation: bm.vector_grad(equation, return_value=True))
            np.testing.assert_allclose(bm.grad(ours)(1.3), jax.grad(loss(theirs))(1.3), rtol=1e-9)
            if spike is not spike_vjp:  # its rule forgets the slope when it gives the value
                expected = jax.grad(jax.grad(loss(theirs, spike_to_self)))(1.3)
                np.testing.assert_allclose(bm.grad(bm.grad(ours))(1.3), expected, rtol=1e-9)


def test_forward_mode():
    out, tangent = bm.jvp(spike_jvp, (V,), (jnp.ones_like(V),))
    np.testing.assert_array_equal(out, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(tangent, slope(V), rtol=1e-6)


def test_second_order_in_a_loop():
    """As without the loop, and in each order of modes; JAX's reverse mode forgets the rule."""

    def step(v, weight):
        spikes = spike_jvp(v - 1.0)
        return 0.9 * v * (1 - spikes) + weight, spikes

    def in_loop(w):
        _, spikes = jax.lax.scan(lambda v, _: step(v, w), w, None, length=4)
        return jnp.sum(spikes * jnp.arange(1.0, 5.0))

    def unrolled(w):
        v, total = w, 0.0
        for i in range(4):
            v, spikes = step(v, w)
            total += spikes * (i + 1.0)
        return total

    forward = lambda m, f: lambda w: m.jvp(f, (w,), (1.0,))[1]  # noqa: E731
    grad = lambda m, f: m.grad(f)  # noqa: E731
    want = jax.grad(jax.grad(unrolled))(0.6)
    for outer in (forward, grad):
        for inner in (forward, grad):
            got = outer(bm, inner(bm, in_loop))(0.6)
            np.testing.assert_allclose(got, want, rtol=1e-5)
    assert abs(want) > 0.1


def test_nondiff_arguments_and_several_results():
    @jax.custom_vjp
    def pair(x, y):
        return x * y, x + y

    pair.defvjp(lambda x, y: (pair(x, y), (x, y)), lambda r, cts: (10 * r[1] * cts[0], cts[1]))

    def use(x, y):
        a, b = pair(x, y)
        return a + b

    got = bm.grad(use, argnums=(0, 1))(2.0, 3.0)
    assert [float(g) for g in got] == [30, 1]

    @jax.custom_jvp
    def scaled(kind, x):
        return x * 2 if kind == "double" else x

    scaled = jax.custom_jvp(scaled.fun, nondiff_argnums=(0,))
    scaled.defjvp(lambda kind, p, t: (scaled(kind, *p), 7.0 * t[0]))
    assert float(bm.grad(lambda x: scaled("double", x))(1.0)) == 7


def test_variables_in_rules_are_inputs():
    """Whether the function reads them too or not."""
    width = bm.Variable(2.0)

    def make(fun):
        spike = jax.custom_jvp(fun)
        spike.defjvp(lambda p, t: (spike(p[0]), width.value * t[0]))
        return bm.vector_grad(spike)

    gradients = [make(lambda v: heaviside(v) + 0 * width.value), make(heaviside)]
    for width.value in (2.0, 5.0):
        for gradient in gradients:
            np.testing.assert_allclose(gradient(V), np.full(5, width.value))
