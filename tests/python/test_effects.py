"""Callbacks: they run as often as the function that holds them, derivatives or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

import bmgrad.math as bm

X = jnp.arange(1.0, 4.0)
SCALAR = jax.ShapeDtypeStruct((), np.float32)


class Seen:
    """Records what callbacks are given."""

    def __init__(self):
        self.values = []

    def __call__(self, value):
        self.values.append(np.asarray(value).tolist())

    def take(self):
        jax.effects_barrier()
        taken, self.values = sorted(self.values), []
        return taken


@pytest.fixture
def seen():
    return Seen()


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, bm.jit], ids=["plain", "jax.jit", "bm.jit"])
def test_runs_once_under_each_derivative(seen, wrap):
    def fun(x):
        y = jnp.sin(x)
        jax.debug.callback(seen, y[0])
        return jnp.sum(y * y)

    sine = [float(np.sin(np.float32(1)))]
    for derive in (bm.grad(fun), bm.hessian(fun), lambda x: bm.jvp(fun, (x,), (x,))):
        wrap(derive)(X)
        np.testing.assert_allclose(seen.take(), sine, rtol=1e-6)


def test_debug_print(capfd):
    def fun(x):
        jax.debug.print("x is {}", x)
        return x * x

    assert bm.grad(fun)(3.0) == 6
    jax.effects_barrier()
    assert capfd.readouterr().out == "x is 3.0\n"


def test_loops_and_branches(seen):
    def body(c, x):
        jax.debug.callback(seen, c)
        return c * x, c

    scanned = lambda x: lax.scan(body, 1.0, x)[0]  # noqa: E731
    np.testing.assert_allclose(bm.grad(scanned)(X), [6, 3, 2])
    assert seen.take() == [1, 1, 2]
    bm.jit(lambda x: lax.scan(body, 1.0, x)[1].shape[0] * x)(X)
    assert seen.take() == [1, 1, 2]  # Though nothing reads what the loop computes.

    def branch(x):
        jax.debug.callback(seen, x)
        return x * x

    chosen = lambda x, flag: lax.cond(flag, branch, lambda x: x, x)  # noqa: E731
    assert bm.grad(chosen)(3.0, True) == 6
    assert seen.take() == [3]
    assert bm.grad(chosen)(3.0, False) == 1
    assert seen.take() == []

    def step(x):
        jax.debug.callback(seen, x)
        return x * 2

    counted = lambda x: lax.while_loop(lambda x: x < 4, step, x)  # noqa: E731
    assert bm.jvp(counted, (1.0,), (1.0,)) == (4, 4)
    assert seen.take() == [1, 2]


def test_batches(seen):
    def fun(x):
        jax.debug.callback(seen, x)
        return x * x

    np.testing.assert_allclose(bm.vmap(bm.grad(fun))(X), 2 * X)
    assert seen.take() == [1, 2, 3]
    jax.vmap(bm.grad(fun))(X)
    assert seen.take() == [1, 2, 3]


def test_equal_effects_are_two(seen):
    def fun(x):
        jax.debug.callback(seen, x)
        jax.debug.callback(seen, x)
        return x * x

    bm.grad(fun)(3.0)
    assert seen.take() == [3, 3]


def test_inside_custom_rules(seen):
    @jax.custom_vjp
    def fun(x):
        jax.debug.callback(seen, x)
        return x * x

    def fwd(x):
        jax.debug.callback(seen, 10 * x)
        return x * x, x

    def bwd(x, ct):
        jax.debug.callback(seen, 100 * x)
        return (2 * x * ct,)

    fun.defvjp(fwd, bwd)
    unread = lambda x: (fun(x), x)[1]  # noqa: E731
    bm.jit(unread)(3.0)
    assert seen.take() == [3]
    assert bm.grad(fun)(3.0) == 6
    assert seen.take() == [30, 300]
    assert jax.grad(bm.jit(fun))(3.0) == 6
    assert seen.take() == [30, 300]


def test_io_callback(seen):
    def fun(x):
        drawn = io_callback(lambda: (seen(0), np.int32(7))[1], jax.ShapeDtypeStruct((), np.int32))
        return x * x * drawn

    assert bm.grad(fun)(3.0) == 42
    assert seen.take() == [0]


def test_pure_callback():
    def count(x):
        shape = jax.ShapeDtypeStruct((), np.int32)
        return jax.pure_callback(
            lambda x: np.int32(np.sum(np.asarray(x) > 1)), shape, x, vmap_method="sequential"
        )

    fun = lambda x: jnp.sum(x * x) * count(x)  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(X), 4 * X)
    xs = jnp.stack([X, -X])
    np.testing.assert_allclose(bm.vmap(bm.grad(fun))(xs), [4 * X, 0 * X])


def test_a_rule_around_a_callback():
    @jax.custom_jvp
    def sine(x):
        return jax.pure_callback(
            np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
        )

    @sine.defjvp
    def _(primals, tangents):
        return sine(*primals), jnp.cos(primals[0]) * tangents[0]

    fun = lambda x: jnp.sum(sine(x) ** 2)  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(X), np.sin(2 * X), rtol=1e-5)


@pytest.mark.parametrize("name", ["pure_callback", "io_callback"])
def test_callbacks_have_no_derivative(name):
    call = jax.pure_callback if name == "pure_callback" else io_callback

    def fun(x):
        return call(np.sin, SCALAR, x)

    with pytest.raises(NotImplementedError, match=f"'{name}'.*jax.custom_jvp") as error:
        bm.grad(fun)(1.0)
    assert isinstance(error.value, ValueError)
    assert f"{__file__}:{fun.__code__.co_firstlineno + 1}" in str(error.value)


# -- Effects that keep an order ------------------------------------------------------------------


class InOrder(Seen):
    def take(self):
        jax.effects_barrier()
        taken, self.values = self.values, []
        return taken

    def note(self, value):
        jax.debug.callback(self, value, ordered=True)


@pytest.fixture
def noted():
    return InOrder()


def test_order_of_a_function_and_its_derivatives(noted):
    @jax.custom_vjp
    def with_rule(x):
        return x * x

    def fwd(x):
        noted.note(2)
        return x * x, x

    def bwd(x, ct):
        noted.note(9)
        return (2 * x * ct,)

    with_rule.defvjp(fwd, bwd)

    def fun(x):
        noted.note(0)
        noted.note(0)
        jax.jit(lambda x: noted.note(x))(x)
        y = with_rule(x)
        noted.note(3)
        return y

    assert bm.grad(fun)(1.0) == 2
    assert noted.take() == [0, 0, 1, 2, 3, 9]
    assert jax.jit(jax.grad(bm.jit(fun)))(1.0) == 2
    assert noted.take() == [0, 0, 1, 2, 3, 9]
    unread = lambda x: (fun(x), x)[1]  # noqa: E731
    bm.jit(lambda x: (noted.note(7), unread(x), noted.note(8))[1])(1.0)
    assert noted.take() == [7, 0, 0, 1, 3, 8]


def test_order_in_loops_and_branches(noted):
    def body(c, x):
        noted.note(x)
        c = lax.cond(x > 1, lambda c: (noted.note(10 * x), c * x)[1], lambda c: c, c)
        noted.note(100 * x)
        return c, None

    fun = lambda x: lax.scan(body, 1.0, x)[0]  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(X), [0, 3, 2])
    steps = [1, 100, 2, 20, 200, 3, 30, 300]
    assert noted.take() == steps
    reverse = lambda x: lax.scan(lambda c, x: (c * x, noted.note(x)), 1.0, x, reverse=True)[0]  # noqa: E731
    np.testing.assert_allclose(bm.hessian(reverse)(X)[0], [0, 3, 2])
    assert noted.take() == [3, 2, 1]

    def counted(x):
        return lax.while_loop(
            lambda x: (noted.note(-x), x < 4)[1], lambda x: (noted.note(x), x * 2)[1], x
        )

    assert bm.jvp(counted, (1.0,), (1.0,)) == (4, 4)
    assert noted.take() == [-1, 1, -2, 2, -4]
    _, linear = bm.linearize(counted, 1.0)
    assert linear(1.0) == 4
    assert noted.take() == [-1, 1, -2, 2, -4]


@pytest.mark.parametrize("length", [0, 1, 5])
@pytest.mark.parametrize("unroll", [1, 2, True])
@pytest.mark.parametrize("transform", [bm.jit, bm.grad, bm.hessian])
def test_order_in_loops_of_any_length(capfd, transform, unroll, length):
    def step(c, i):
        jax.debug.print("step {}", i, ordered=True)
        return jnp.sin(c), c

    fun = lambda x: jax.lax.scan(step, x, jnp.arange(length), unroll=unroll)[0]  # noqa: E731
    transform(fun)(0.5)
    jax.effects_barrier()
    assert capfd.readouterr().out.split("\n") == [*(f"step {i}" for i in range(length)), ""]


def test_order_of_two_kinds_and_of_a_checkpoint(noted):
    def fun(x):
        noted.note(1)
        n = io_callback(lambda: (noted(2), np.float32(5))[1], SCALAR, ordered=True)
        m = io_callback(lambda: (noted(3), np.float32(7))[1], SCALAR, ordered=True)
        return jnp.sin(jnp.sin(x)) * lax.stop_gradient(n * m)

    want = jax.grad(lambda x: jnp.sin(jnp.sin(x)) * 35)(1.0)
    np.testing.assert_allclose(bm.grad(jax.checkpoint(fun))(1.0), want, rtol=1e-6)
    taken = noted.take()
    assert sorted(taken) == [1, 2, 3]
    assert taken.index(2) < taken.index(3)


def test_order_of_a_batch(noted):
    def fun(x):
        noted.note(x)
        noted.note(10 * x)
        return x * x

    np.testing.assert_allclose(bm.vmap(bm.grad(fun))(X), 2 * X)
    assert noted.take() == [1, 2, 3, 10, 20, 30]
    number = lambda x: io_callback(lambda x: x, SCALAR, x, ordered=True)  # noqa: E731
    with pytest.raises(ValueError, match="ordered IO callback"):
        jax.vmap(bm.jit(number))(X)


def test_order_where_results_are_pruned(noted):
    def fun(x, y):
        noted.note(x)
        return x * x, y

    jax.jit(lambda x, y: bm.jit(fun)(x, y)[1])(3.0, 4.0)
    assert noted.take() == [3]


def test_order_of_printed_lines(capfd):
    def fun(x):
        for i in range(3):
            jax.debug.print("{} {}", i, x, ordered=True)
        return x * x

    assert bm.grad(fun)(3.0) == 6
    jax.effects_barrier()
    assert capfd.readouterr().out == "0 3.0\n1 3.0\n2 3.0\n"
