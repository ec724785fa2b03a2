"""Calls after the first, which go to the compiled function at once where they can."""

import copy
import functools
import gc
import pickle
import sys
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm
from bmgrad.runtime._dispatch import Dispatcher, Shortcut, new_array, node_functions

X = jnp.arange(3.0)


class Counter(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(bm.ones(3))
        self.count = bm.Variable(bm.zeros(()))

    def loss(self, x):
        self.count += 1
        return jnp.sum(self.w.value * x) ** 2


def test_assigned_variables():
    model = Counter()
    grad = bm.grad(model.loss, grad_vars=model.w)
    for calls in range(1, 5):
        np.testing.assert_allclose(grad(X), 2 * 3 * calls * X)
        assert float(model.count.value) == calls
        model.w.value += 1
    assert grad.cache_info()[:3] == (3, 1, 1)


def test_keywords():
    grad = bm.grad(lambda x, *, scale: jnp.sum(x * scale))
    for scale in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(grad(X, scale=scale), jnp.full(3, scale))
    model = Counter()
    of_model = bm.grad(model.loss, grad_vars=model.w)
    for factor in (1.0, 2.0):
        np.testing.assert_allclose(of_model(x=factor * X), 2 * 3 * factor**2 * X)


@pytest.mark.parametrize("transform", [bm.grad, bm.jit, bm.jacrev])
def test_arguments_of_any_name(transform):
    fun = transform(lambda x, args=1.0, kwargs=1.0, self=1.0: x * x * args * kwargs * self)
    want = 9.0 if transform is bm.jit else 6.0
    for _ in range(2):
        assert fun(3.0) == want
        assert fun(3.0, args=2.0) == 2 * want
        assert fun(3.0, args=2.0, kwargs=3.0, self=4.0) == 24 * want


def test_arguments_that_contain_themselves():
    grad = bm.grad(lambda x, y: jnp.sum(x))
    grad(X, [X])
    circle = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        grad(X, circle)


def test_other_variable_in_the_place():
    model = Counter()
    grad = bm.grad(model.loss)
    for _ in range(2):
        np.testing.assert_allclose(grad(X), jnp.full(3, 2 * 3))
    model.w = bm.TrainVar(2 * bm.ones(3))
    for _ in range(2):
        np.testing.assert_allclose(grad(X), jnp.full(3, 4 * 2 * 3))
    assert float(model.count.value) == 4


def test_inside_a_trace_after_calls_outside():
    model = Counter()
    grad = bm.grad(model.loss, grad_vars=model.w)
    grad(X)
    grad(X)

    @bm.jit
    def twice(x):
        model.w.value = 2 * model.w.value
        return grad(x) + grad(x)

    np.testing.assert_allclose(twice(X), 2 * 2 * 6 * X)
    assert float(model.count.value) == 4
    np.testing.assert_allclose(model.w.value, 2 * jnp.ones(3))


def test_inside_a_trace_that_assigned_what_is_read():
    model = Counter()
    grad = bm.grad(lambda x: jnp.sum(model.w.value * x) ** 2)
    want = grad(X)
    np.testing.assert_array_equal(grad(X), want)

    @bm.jit
    def of_tripled(x):
        model.w.value = 3 * model.w.value
        return grad(x)

    np.testing.assert_allclose(of_tripled(X), 9 * want)


def test_plain_function_inside_a_trace_that_writes():
    """What a call returns inside a trace belongs to that trace."""
    grad = bm.grad(lambda x: bm.sum(x**2))
    x = bm.asarray(X)
    grad(x)
    grad(x)

    @bm.jit
    def doubled(y):
        gradient = grad(y)
        gradient += y
        return gradient

    np.testing.assert_allclose(bm.as_jax(doubled(x)), 3 * X)


def of_lambdas(fun, other):
    return lambda x: fun(x, other)


def of_partials(fun, other):
    return functools.partial(lambda other, x: fun(x, other), other)


@pytest.mark.parametrize("made", [of_lambdas, of_partials])
@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
def test_functions_made_anew(made, name, caplog):
    """As by `jax.grad`, equal ones are compiled once, though each is called once."""

    def call(library, k):
        fun = made(lambda x, other: jnp.sum(jnp.sin(x * other)), k * X)
        return jax.tree.leaves(getattr(library, name)(fun)(X + 1))

    for k in range(3):
        call(bm, k)
    caplog.clear()
    with jax.log_compiles():
        found = [call(bm, k) for k in range(3, 5)]
    assert not any("Finished XLA compilation" in message for message in caplog.messages)
    for k, leaves in zip(range(3, 5), found, strict=True):
        for leaf, want in zip(leaves, call(jax, k), strict=True):
            np.testing.assert_allclose(leaf, want, rtol=1e-5, atol=1e-6)


def test_functions_made_anew_that_are_called_again():
    for k in (1.0, 2.0, 3.0, 4.0):
        grad = bm.grad(lambda x: jnp.sum(x) * k)  # noqa: B023
        for _ in range(30):
            np.testing.assert_array_equal(grad(X), k * jnp.ones(3))
        assert grad.cache_info()[:2] == ((29, 1) if k < 3 else (9, 21))


def test_one_function_transformed_in_many_ways_is_not_made_anew():
    fun = lambda x, y: jnp.sum(x * y)  # noqa: E731
    for argnums in (0, 1, (0, 1), (1, 0), -1):
        grad = bm.grad(fun, argnums=argnums)
        for hits in range(3):
            grad(X, X)
            assert grad.cache_info().hits == hits


def test_functions_made_anew_that_assign():
    w, count = bm.TrainVar(bm.ones(3)), bm.Variable(bm.zeros(()))

    def made(k):
        def loss():
            count.value = count + 1
            if type(k) is int and k > 5:
                raise KeyError(k)
            return jnp.sum(w.value * k * X)

        return bm.grad(loss, grad_vars=w)

    for k in range(5):
        np.testing.assert_array_equal(made(k)(), k * X)
    assert float(count) == 5
    with pytest.raises(KeyError):
        made(6)()
    for _ in range(4):
        with pytest.raises(jax.errors.UnexpectedTracerError, match="assigns a variable"):
            jax.grad(lambda k: made(k)().sum())(2.0)
    assert float(count) == 5


def test_shapes_that_need_more():
    """One shape reads a variable, one asks for values, as the first call did not."""
    offset = bm.Variable(bm.ones(()))

    def loss(x):
        if x.shape == (2,):
            return jnp.sum(x) * offset.value
        if x.shape == (4,) and x[0] > 0:
            return -jnp.sum(x)
        return jnp.sum(x)

    grad = bm.grad(loss)
    for _ in range(2):
        np.testing.assert_array_equal(grad(jnp.ones(3)), jnp.ones(3))
    offset.value = 5 * bm.ones(())
    for _ in range(2):
        np.testing.assert_array_equal(grad(jnp.ones(2)), jnp.full(2, 5.0))
    for sign in (1.0, -1.0, 1.0):
        np.testing.assert_array_equal(grad(sign * jnp.ones(4)), jnp.full(4, -sign))
    np.testing.assert_array_equal(grad(jnp.ones(3)), jnp.ones(3))


def test_static_arguments_after_arrays():
    grad = bm.grad(lambda x, power: jnp.sum(x if power == "one" else x**power))
    for _ in range(2):
        np.testing.assert_allclose(grad(X, 2), 2 * X)
    np.testing.assert_allclose(grad(X, "one"), jnp.ones(3))
    np.testing.assert_allclose(grad(X, 2), 2 * X)


def test_flags_after_arrays_of_flags():
    seen = []

    def loss(x, flag):
        seen.append(type(flag))
        return jnp.sum(jnp.where(flag, x, -x))

    grad = bm.grad(loss)
    for _ in range(2):
        np.testing.assert_array_equal(grad(X, jnp.array([True, False, True])), [1, -1, 1])
    np.testing.assert_array_equal(grad(X, True), jnp.ones(3))
    assert seen[-1] is bool


def test_errors_of_the_function():
    model = Counter()

    def loss(x):
        model.count += 1
        if x.ndim == 2:
            raise ZeroDivisionError("of the user")
        return jnp.sum(x)

    grad = bm.grad(loss)
    grad(X)
    grad(X)
    with pytest.raises(ZeroDivisionError, match="of the user"):
        grad(jnp.ones((2, 2)))
    assert float(model.count.value) == 2
    grad(X)
    assert float(model.count.value) == 3
    with pytest.raises(TypeError, match="argnums"):
        grad()


def test_leaked_tracer_is_named():
    model = Counter()
    grad = bm.grad(model.loss, grad_vars=model.w)
    grad(X)
    grad(X)

    def leak(x):
        model.w._value = x
        return x

    jax.jit(leak)(X)
    with pytest.raises(jax.errors.UnexpectedTracerError, match="w"):
        grad(X)


def test_assigned_under_a_jax_trace():
    model = Counter()
    grad = bm.grad(model.loss, grad_vars=model.w)
    grad(X)
    grad(X)
    with pytest.raises(jax.errors.UnexpectedTracerError, match=r"use bm\.jit"):
        jax.jit(grad)(X)
    assert float(model.count.value) == 2


def test_threads():
    model = Counter()
    grad = bm.grad(model.loss, grad_vars=model.w)
    plain = bm.grad(lambda x: jnp.sum(x**2))
    expected = grad(X)
    plain(X)
    failures = []

    def work(seed):
        try:
            for i in range(50):
                np.testing.assert_allclose(grad(X), expected)
                # Other shapes close the shortcut for a while.
                x = jnp.ones(1 + (seed * i) % 5)
                np.testing.assert_allclose(plain(x), 2 * x)
                if i % 10 == 0:
                    model.other = bm.Variable(bm.zeros(seed + 1))
                    bm.jit(lambda: model.other.value + 1)()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_is_kept():
    x = X + 1
    plain = bm.grad(lambda x, *, y=1.0: jnp.sum(x * y))

    def call(grad):
        for _ in range(20):
            grad(x)
            plain(x, y=2.0)
        with pytest.raises(TypeError):
            plain(object())
        plain(x)
        plain(x)
        gc.collect()
        return sys.getrefcount(x), len(jax.live_arrays())

    def use():
        model = Counter()
        grad = bm.grad(model.loss, grad_vars=model.w)
        call(grad)
        assert call(grad) == call(grad)
        return weakref.ref(model), weakref.ref(grad)

    references = use()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_copy():
    grad = bm.grad(lambda x: jnp.sum(x**2))
    grad(X)
    copied = copy.copy(grad)
    np.testing.assert_array_equal(copied(X), 2 * X)
    assert copied.cache_info()[:3] == (1, 1, 1)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("of", ["model", "gradient"])
def test_a_copy_of_a_model(copied, of):
    """What holds a transform of its method: that is one of the copy's."""
    model = Counter()
    model.gradient = bm.grad(model.loss, grad_vars=model.w, argnums=0, return_value=True)
    model.gradient(X)
    other = copied(model) if of == "model" else copied(model.gradient)._transform.owner
    other.w.value = 2 * other.w.value
    for _ in range(2):
        (of_w, of_x), loss = other.gradient(X)
        np.testing.assert_allclose(of_w, 4 * 3 * X)
        np.testing.assert_allclose(of_x, jnp.full(3, 8 * 3))
        assert loss == 36
    assert (float(model.count.value), float(other.count.value)) == (1, 3)
    assert model.gradient(X)[1] == 9


def power(x, n):
    return jnp.sum(x**n)


def test_functions_are_pickled_by_name():
    for fun in (bm.jit(power, static_argnums=1), bm.value_and_grad(power, has_aux=False)):
        twin = pickle.loads(pickle.dumps(fun))
        assert twin.cache_info() == fun.cache_info()  # They share what is compiled.
        for mine, other in zip(
            jax.tree.leaves(fun(X, 2)), jax.tree.leaves(twin(X, 2)), strict=True
        ):
            np.testing.assert_array_equal(mine, other)
        assert twin.cache_info() == fun.cache_info()
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(bm.grad(lambda x: x))


def test_a_deep_copy_of_a_function():
    grad = bm.grad(lambda x: jnp.sum(x**2))
    assert copy.deepcopy(grad) is grad


def test_what_a_dispatcher_takes():
    with pytest.raises(TypeError):
        Shortcut([ValueError], set(), None)
    shortcut = Shortcut((ValueError,), set(), None)
    with pytest.raises(TypeError, match="arrays must be a list or None"):
        shortcut.open(len, 0, ())
    with pytest.raises(TypeError, match="expected a Shortcut"):
        Dispatcher()._set_shortcut(len)
    with pytest.raises(AttributeError, match="_call"):
        Dispatcher()()


def test_leaves_in_a_trace_are_the_values_there():
    w = bm.Variable(bm.zeros(3))

    @bm.jit
    def assign(x):
        w.value = 2 * x
        return jax.tree.leaves((w, [w]))

    for leaf in assign(X):
        np.testing.assert_array_equal(leaf, 2 * X)


def test_array_objects_as_nodes():
    flatten, unflatten = node_functions(bm.Array)
    assert flatten(bm.Variable(X)) == ((X,), None)
    made = unflatten(None, [X])
    assert type(made) is bm.Array
    assert made.value is X
    for children in ([], [X, X]):
        with pytest.raises(ValueError, match="expected one child"):
            unflatten(None, children)
    for wrong in (lambda: unflatten(None), lambda: unflatten(None, 1), lambda: node_functions(X)):
        with pytest.raises(TypeError, match="expected"):
            wrong()
    with pytest.raises(TypeError):
        new_array(X, X)
    with pytest.raises(AttributeError, match="_value"):
        flatten(object())


def test_array_objects_replaced_between_a_call_and_a_use_in_another_transform():
    class Net(bp.Base):
        def __init__(self):
            super().__init__()
            self.w = bm.TrainVar(jnp.float32(2.0))
            self.compiled = bm.jit(lambda x: self.w * x)
            self.slope = bm.grad(lambda x: self.w * x * x)

    for call in ("compiled", "slope"):
        for outer in (bm.jit, bm.value_and_grad, bm.vmap, lambda f: lambda x: bm.vjp(f, x)[0]):
            net = Net()
            getattr(net, call)(3.0)
            net.w = bm.TrainVar(jnp.float32(5.0))
            given = jnp.full(2, 3.0) if outer is bm.vmap else 3.0
            found = outer(lambda x, net=net, call=call: getattr(net, call)(x) ** 2)(given)
            value = found[0] if outer is bm.value_and_grad else found
            np.testing.assert_allclose(value, 225.0 if call == "compiled" else 900.0)
            expected = getattr(net, call)(3.0) ** 2
            np.testing.assert_allclose(value, expected)
