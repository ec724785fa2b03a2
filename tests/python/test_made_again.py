"""Variables of functions that fail, or have to be traced once more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_made_variables import MADE_OF, X, assert_equal
from variable_keepers import (
    ZEROS_OF,
    Dict,
    InNode,
    Lazy,
    with_own_code,
)

import bmgrad as bp
import bmgrad.math as bm


@pytest.mark.parametrize("keeper", [Dict, InNode], ids=["dict", "node"])
@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("made_of", ["constants", "arguments"])
@pytest.mark.parametrize("argument", [True, [False], "reference"], ids=str)
def test_functions_that_may_be_traced_again(keeper, transform, made_of, argument):
    keeper = keeper()

    def loss(x, other):
        if keeper.get() is None:
            keeper.put(bm.Variable(MADE_OF[made_of](x)))
        count = keeper.get()
        count += 1
        return jnp.sum(x * count)

    if argument == "reference":
        argument = jax.new_ref(jnp.zeros(3))
    transformed = transform(with_own_code(loss))
    for number in range(1, 4):
        transformed(X, argument)
        assert_equal(keeper.get().value, MADE_OF[made_of](X) + number)


@pytest.mark.parametrize("keeper", [Dict, InNode], ids=["dict", "node"])
@pytest.mark.parametrize("made_of", ["constants", "arguments"])
def test_functions_that_ask_for_values(keeper, made_of):
    keeper = keeper()

    def loss(x):
        if keeper.get() is None:
            keeper.put(bm.Variable(MADE_OF[made_of](x)))
        count = keeper.get()
        count += 1
        return jnp.sum(x * count) if x.sum() > 0 else jnp.sum(x)

    gradient = bm.grad(with_own_code(loss))
    for number in range(1, 4):
        assert_equal(gradient(X), MADE_OF[made_of](X) + number)


def test_those_of_a_call_that_fails():
    states, ok = {}, [False]

    @bm.jit
    def step(x):
        if "n" not in states:
            states["n"] = bm.Variable(jnp.zeros(3))
        states["n"] += 1
        if not ok[0]:
            raise KeyError("no")
        return jnp.sum(x * states["n"])

    with pytest.raises(KeyError):
        step(X)
    assert states["n"].tolist() == [0, 0, 0]
    ok[0] = True
    assert_equal(step(X), X.sum())
    assert states["n"].tolist() == [1, 1, 1]


def test_those_of_arguments_of_a_call_that_fails():
    states = {}

    def step(x):
        if "n" not in states:
            states["n"] = bm.Variable(x * 2)
            raise KeyError("no")
        return jnp.sum(x * states["n"])

    with pytest.raises(KeyError):
        bm.jit(step)(X)
    with pytest.raises(jax.errors.UnexpectedTracerError, match="made by a function that failed"):
        bm.jit(step)(X)
    states["n"].value = X
    assert_equal(bm.jit(step)(X), X @ X)


@pytest.mark.parametrize("made_of", ["constants", "arguments"])
def test_functions_with_loops_whose_bounds_are_asked_for(made_of):
    model = Lazy(Dict, MADE_OF[made_of])

    def loss(x, count):
        y = model.loss(x)
        return lax.fori_loop(0, count, lambda _, c: jnp.sin(c) * y, y)

    def derive():
        return bm.vjp(loss, X, 3)[1](1.0)[0]

    if made_of == "arguments":
        with pytest.raises(jax.errors.UnexpectedTracerError, match="had to be traced once more"):
            derive()
        model.keeper.get().value = MADE_OF[made_of](X)
    got = derive()
    again = Lazy(Dict, None)
    again.keeper.put(bm.TrainVar(MADE_OF[made_of](X)))
    model = again
    assert_equal(got, derive())


@pytest.mark.parametrize("keeper", [Dict, InNode], ids=["dict", "node"])
def test_functions_that_are_traced_again_for_a_derivative(keeper):
    keeper = keeper()

    def loss(x):
        if keeper.get() is None:
            keeper.put(bm.Variable(jnp.zeros(3)))
        count = keeper.get()
        count += 1
        bound = jnp.sum(lax.stop_gradient(x)).astype(int)
        return jnp.sum(x) * lax.fori_loop(0, bound, lambda _, c: c * 1.5, x[0])

    gradient = bm.grad(with_own_code(loss))
    for number in range(1, 4):
        gradient(X)
        assert keeper.get().tolist() == [number] * 3


class Child(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(jnp.ones(3))


class Parent(bp.Base):
    def __init__(self):
        super().__init__()
        self.child, self.fails, self.h = None, False, None


def test_nodes_of_functions_that_are_traced_again():
    class Model(Parent):
        def loss(self, x):
            if self.child is None:
                self.child = Child()
            count = jnp.sum(lax.stop_gradient(x)).astype(int)
            return jnp.sum(x * self.child.w) + jnp.sum(jnp.ones(5)[:count])

    model = Model()
    for _ in range(3):
        assert_equal(bm.grad(model.loss)(X), np.ones(3))
    model.child.w.value = X
    assert_equal(bm.grad(model.loss)(X), X)


@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
def test_nodes_of_a_call_that_fails(transform):
    class Model(Parent):
        def loss(self, x):
            if self.child is None:
                self.child = bm.NodeList([Child()])
                self.other = Child()
            if self.fails:
                raise KeyError("no")
            return jnp.sum(x * self.child[0].w * self.other.w)

    model = Model()
    model.fails = True
    transformed = transform(model.loss)
    with pytest.raises(KeyError):
        transformed(X)
    assert not hasattr(model, "other")
    assert model.child[0].w.tolist() == [1, 1, 1]
    model.fails, model.child = False, None
    assert_equal(transformed(X), X.sum() if transform is bm.jit else np.ones(3))


@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("made_of", ZEROS_OF)
def test_calls_that_fail_when_they_have_been_traced(transform, made_of):
    class Model(Parent):
        def loss(self, x):
            if self.h is None:
                self.h = bm.Variable(ZEROS_OF[made_of](x))
            self.h += 1
            wrong = "text" if transform is bm.jit else x
            return wrong if self.fails else jnp.sum(self.h * x)

    model = Model()
    model.fails = True
    transformed = transform(model.loss)
    with pytest.raises((TypeError, ValueError)):
        transformed(X)
    assert model.h is None
    model.fails = False
    for number in range(1, 4):
        transformed(X)
        assert model.h.tolist() == [number] * 3
