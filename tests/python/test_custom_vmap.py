"""Functions with a batching rule of their own: it is asked, and tells so here by its sign."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax.custom_batching import custom_vmap
from jax.experimental import compute_on

import bmgrad.math as bm

X = jnp.array([0.5, -1.2, 2.0])
TABLE = jnp.linspace(1.0, 2.0, 20)
asked = []


@custom_vmap
def wave(x, y):
    return {"wave": jnp.sin(x) * y * TABLE[0], "count": jnp.int32(1)}


@wave.def_vmap
def _(size, batched, x, y):
    asked.append((size, batched))
    result = jax.vmap(lambda x, y: -jnp.sin(x) * y, (0, 0 if batched[1] else None))(x, y)
    return {"wave": result, "count": jnp.int32(1)}, {"wave": True, "count": False}


def value(x, y=2.0):
    return wave(x, y)["wave"]


@pytest.fixture(autouse=True)
def _nothing_asked():
    asked.clear()


PLACES = {
    "bm.vmap": lambda f: bm.vmap(f),
    "jax.vmap of bm.jit": lambda f: jax.vmap(bm.jit(f)),
    "inside jit": lambda f: bm.vmap(jax.jit(f)),
    "inside a loop": lambda f: bm.vmap(
        lambda x: jax.lax.scan(lambda c, _: (c, f(c)), x, None, length=1)[1][0]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_rule_is_asked(place):
    np.testing.assert_allclose(PLACES[place](value)(X), -2 * np.sin(X), rtol=1e-6)
    assert (3, [True, False]) in asked


def test_batches_of_batches():
    np.testing.assert_allclose(
        bm.vmap(bm.vmap(value), (0, None))(X[:, None] + X, X),
        -np.sin(X[:, None] + X) * X,
        rtol=1e-5,
    )


def test_without_a_batch_the_function_is_called():
    np.testing.assert_allclose(bm.jit(value)(0.5), 2 * np.sin(0.5), rtol=1e-6)
    assert wave(0.5, 2.0)["count"] == bm.jit(wave)(0.5, 2.0)["count"] == 1
    assert asked == []


def test_the_derivative_is_that_of_the_function():
    np.testing.assert_allclose(bm.grad(value)(0.5), 2 * np.cos(0.5), rtol=1e-6)
    np.testing.assert_allclose(bm.jacfwd(value)(0.5), 2 * np.cos(0.5), rtol=1e-6)
    np.testing.assert_allclose(bm.grad(bm.grad(value))(0.5), -2 * np.sin(0.5), rtol=1e-6)
    np.testing.assert_allclose(bm.vmap(bm.grad(value))(X), 2 * np.cos(X), rtol=1e-6)


def total(f):
    return lambda x: f(x).sum()


OF_BATCHES = {
    "bm.grad": lambda f: bm.grad(total(bm.vmap(f))),
    "bm.jacfwd": lambda f: bm.jacfwd(total(bm.vmap(f))),
    "jax.grad of jax.vmap of bm.jit": lambda f: jax.grad(total(jax.vmap(bm.jit(f)))),
    "inside jit": lambda f: bm.grad(total(bm.vmap(jax.jit(lambda x: jnp.cos(x) * 0 + f(x))))),
    "of a loop": lambda f: bm.grad(
        total(bm.vmap(lambda x: jax.lax.scan(lambda c, _: (c, f(c)), x, length=1)[1][0]))
    ),
    "with a variable": lambda f: bm.grad(total(bm.vmap(lambda x: f(x) * ONE.value))),
    "beside a rule that asks": lambda f: bm.grad(total(bm.vmap(lambda x: f(x) + unmoved(x)))),
    "of one result": lambda f: jax.jit(
        jax.grad(total(lambda x: jax.vmap(bm.jit(lambda x: (x, f(x))))(x)[1]))
    ),
}
ONE = bm.Variable(jnp.ones(()))


unmoved = jax.custom_jvp(jnp.sin)
unmoved.defjvp(
    lambda primals, tangents: (jnp.sin(*primals), 0.0 * tangents[0]), symbolic_zeros=True
)


@pytest.mark.parametrize("place", OF_BATCHES)
def test_the_derivative_of_a_batch_is_that_of_the_rule(place):
    np.testing.assert_allclose(OF_BATCHES[place](value)(X), -2 * np.cos(X), rtol=1e-6)


def test_the_second_derivative_of_a_batch_is_that_of_the_rule():
    hessian = bm.hessian(total(bm.vmap(value)))(X)
    np.testing.assert_allclose(hessian, np.diag(2 * np.sin(X)), rtol=1e-6)


def test_a_batch_of_batches_asks_the_rule_of_the_rule():
    def f(x):
        return bm.vmap(bm.vmap(value))(x).sum()

    def expected(x):
        return jax.vmap(jax.vmap(value))(x).sum()

    table = X[:, None] + X
    np.testing.assert_allclose(bm.grad(f)(table), jax.grad(expected)(table), rtol=1e-6)


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
def test_a_batch_of_tangents_is_that_of_the_rule(vmap):
    values, tangents = vmap(lambda x: bm.jvp(value, (x,), (3.0,)))(X)
    np.testing.assert_allclose(values, -2 * np.sin(X), rtol=1e-6)
    np.testing.assert_allclose(tangents, -6 * np.cos(X), rtol=1e-6)


def test_results_of_a_rule_have_the_shape_of_the_functions():
    @custom_vmap
    def f(x):
        return TABLE[:2] + x

    f.def_vmap(lambda size, batched, x: (TABLE[:3] + x, True))
    with pytest.raises(ValueError, match=r"result 0 of a batch of 3 is .*\[3\], but .*\[3,2\]"):
        bm.vmap(f)(X)


def test_results_that_the_rule_shares_need_no_axis():
    @custom_vmap
    def twice(x, unused):
        return 2 * x

    @twice.def_vmap
    def _(size, batched, x, unused):
        return 2 * x, batched[0]

    def shared(x, batch):
        return bm.vmap(lambda unused: twice(x, unused), out_axes=None)(batch)

    assert shared(3.0, X) == 6.0
    assert bm.grad(shared)(3.0, X) == 2.0
    assert bm.vmap(bm.grad(twice), (None, 0), out_axes=None)(3.0, X) == 2.0
    np.testing.assert_allclose(jax.vmap(bm.grad(twice), (0, None))(X, 2.0), [2.0] * 3)
    assert jax.vmap(bm.grad(twice), (None, 0), out_axes=None)(3.0, X) == 2.0
    rows = bm.grad(lambda x: bm.vmap(shared, (0, None))(x, X).sum())(X)
    np.testing.assert_allclose(rows, [2.0] * 3)


def test_in_rules_that_are_batched():
    """As JAX's documentation recommends for reverse mode."""
    ruled = jax.custom_vjp(lambda x: value(x))
    ruled.defvjp(lambda x: (value(x), x), lambda x, ct: (value(x, ct),))
    np.testing.assert_allclose(bm.vmap(bm.grad(ruled))(X), -np.sin(X), rtol=1e-6)


def test_functions_that_run_elsewhere():
    """`compute_on` says where the values are computed; the derivative is the function's."""
    # One of the two versions has the old form beside it.
    elsewhere = getattr(compute_on, "compute_on2", compute_on.compute_on)
    double_sin = elsewhere(
        lambda x, y: 2 * jnp.sin(x) * y,
        compute_type="device_host",
        out_memory_spaces=jax.memory.Space.Device,
    )
    x, y = jnp.arange(3.0), jnp.arange(3.0) + 2
    np.testing.assert_allclose(bm.jit(double_sin)(x, y), 2 * np.sin(x) * y, rtol=1e-6)
    check_derivatives(double_sin, x, y)
    check_batching(double_sin, x, y)
