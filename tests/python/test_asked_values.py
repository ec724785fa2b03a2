"""Functions that ask for a value and catch JAX's error: they get the value, as under `jax.grad`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm


def by_branch(x):
    try:
        factor = 2.0 if x > 0 else 3.0
    except jax.errors.TracerBoolConversionError:
        factor = 5.0
    return factor * jnp.sin(x)


def by_numpy(x):
    try:
        factor = np.asarray(jnp.eye(2) * 2.0)
    except jax.errors.TracerArrayConversionError:
        factor = np.zeros((2, 2))
    return jnp.sum(factor * jnp.sin(x))


def by_index(x):
    try:
        chosen = [2.0, 3.0][jnp.int32(x > 0)]
    except TypeError:
        chosen = 5.0
    return chosen * jnp.sin(x)


def by_mask(x):
    row = jnp.stack([x, 2 * x])
    try:
        return jnp.sum(jnp.sin(row[row > 0]))
    except jax.errors.NonConcreteBooleanIndexError:
        return x


def by_a_derivative(x):
    return x * jax.grad(by_branch)(x)


def by_another_error(x):
    try:
        factor = 2.0 if x > 0 else 3.0
    except TypeError as error:
        raise RuntimeError("only outside jit") from error
    return factor * jnp.sin(x)


def by_a_numpy_table(x):
    table = np.zeros(2)
    table[0] = jnp.cos(1.0)  # NumPy catches JAX's error, and raises one of its own.
    return jnp.sum(table * jnp.sin(x))


FUNCTIONS = [by_branch, by_numpy, by_index, by_mask, by_a_derivative, by_another_error]
FUNCTIONS += [by_a_numpy_table]
ways = pytest.mark.parametrize("way", FUNCTIONS, ids=lambda f: f.__name__)


@ways
def test_functions_that_catch_the_error_get_the_value(way):
    of_bm, of_jax = bm.grad(way), jax.grad(way)
    # Twice, as it is known of the second that the first has asked.
    for x in (0.5, 0.7, -0.5, -0.7):
        np.testing.assert_allclose(of_bm(x), of_jax(x), 1e-6)


@ways
def test_so_do_those_in_other_derivatives(way):
    x = -0.5
    np.testing.assert_allclose(bm.grad(bm.grad(way))(x), jax.grad(jax.grad(way))(x), 1e-6)
    np.testing.assert_allclose(bm.grad(jax.grad(way))(x), jax.grad(jax.grad(way))(x), 1e-6)
    np.testing.assert_allclose(bm.value_and_grad(way)(x), jax.value_and_grad(way)(x), 1e-6)
    np.testing.assert_allclose(bm.vjp(way, x)[1](1.0), jax.vjp(way, x)[1](1.0), 1e-6)
    np.testing.assert_allclose(bm.jvp(way, (x,), (1.0,)), jax.jvp(way, (x,), (1.0,)), 1e-6)
    np.testing.assert_allclose(bm.linearize(way, x)[1](1.0), jax.linearize(way, x)[1](1.0), 1e-6)


@pytest.mark.parametrize("way", [by_branch, by_index, by_mask])
@pytest.mark.parametrize("jit", [jax.jit, bm.jit], ids=["jax.jit", "bm.jit"])
def test_under_jit_there_is_none(jit, way):
    want = jax.jit(jax.grad(way))(-0.5)
    np.testing.assert_allclose(jit(bm.grad(way))(-0.5), want, 1e-6)
    np.testing.assert_allclose(jit(lambda x: bm.grad(way)(x))(-0.5), want, 1e-6)
    np.testing.assert_allclose(bm.grad(jit(way))(-0.5), want, 1e-6)
    np.testing.assert_allclose(bm.grad(way).trace(-0.5).lower().compile()(-0.5), want, 1e-6)


@pytest.mark.parametrize("jit", [jax.jit, bm.jit], ids=["jax.jit", "bm.jit"])
def test_under_jit_constants_have_one(jit):
    want = jax.grad(by_numpy)(-0.5)
    np.testing.assert_allclose(jit(bm.grad(by_numpy))(-0.5), want, 1e-6)
    np.testing.assert_allclose(jit(lambda x: bm.grad(by_numpy)(x))(-0.5), want, 1e-6)


def test_under_jit_another_error_is_raised():
    with pytest.raises(RuntimeError, match="only outside jit"):
        jax.jit(bm.grad(by_another_error))(0.5)
    with pytest.raises(RuntimeError, match="only outside jit"):
        bm.jit(bm.grad(by_another_error))(0.5)


def test_variables_are_assigned_once():
    count = bm.Variable(bm.zeros(()))

    def loss(x):
        count.value = count.value + 1
        return by_branch(x)

    np.testing.assert_allclose(bm.grad(loss)(0.5), jax.grad(by_branch)(0.5), 1e-6)
    assert float(count) == 1


def test_functions_of_jax_that_can_do_without_a_value_do():
    traced = []

    def loss(x, i):
        traced.append(x)
        row = jnp.stack([x, 2 * x])
        return row[i] + jnp.sum(jnp.roll(row, i) * jnp.arange(2))

    gradient = bm.grad(loss)
    for i in range(3):
        gradient(0.5, jnp.int32(i % 2))
    assert len(traced) == 1
