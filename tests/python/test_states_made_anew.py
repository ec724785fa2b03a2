"""Variables that a function makes anew at each call, and those that only look so."""

import collections
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_made_variables import FOR_VARIABLES, X, assert_equal
from variable_keepers import (
    Circle,
    Dict,
    Plain,
    with_own_code,
)

import bmgrad as bp
import bmgrad.math as bm


class Resetting(Plain):
    """Makes its states anew at each call, without a look at the last ones."""

    def __init__(self):
        self.w, self.traces = bm.TrainVar(jnp.ones(3)), 0

    def loss(self, x):
        self.traces += 1
        self.states = [bm.Variable(jnp.zeros(3)), bm.Variable(x * 2)]
        for _ in range(3):
            self.states[0].value = jnp.sin(self.states[0] * self.w + x)
            self.states[1] += self.states[0]
        return self.states[1].sum()


@pytest.mark.parametrize("in_circle", [False, True])
@pytest.mark.parametrize("name", [*FOR_VARIABLES, "vmap"])
def test_states_that_are_made_anew_at_each_call_are_compiled(name, in_circle):
    model, plain = Resetting(), Resetting()
    if in_circle:
        model.itself = model
    x = X[None] if name == "vmap" else X
    transform = {**FOR_VARIABLES, "vmap": lambda m: m.vmap}[name]
    transformed = transform(bm)(model.loss)
    first = transformed(x)
    if name == "vmap":
        with pytest.raises(jax.errors.UnexpectedTracerError, match="each element of the batch"):
            model.states[1].value  # noqa: B018
    else:
        assert_equal(plain.loss(X), model.states[1].value.sum())
    if name in ("grad", "jacfwd", "vjp", "jvp", "linearize", "vmap"):
        assert_equal(first, transform(jax)(plain.loss)(x))
    for _ in range(5):
        assert_equal(transformed(x), first)
    is_anew = name in ("vjp", "jvp", "linearize", "made anew", "a lambda", "grad in a function")
    assert is_anew or model.traces <= 3
    if not is_anew:
        with pytest.raises(jax.errors.UnexpectedTracerError, match="in the place of the last one"):
            model.states[1].value  # noqa: B018


def test_models_that_live_as_long_as_the_call():
    traces = []

    class Net(bp.Base):
        def __init__(self, x):
            super().__init__()
            self.w = bm.TrainVar(x * 2)
            self.layers = [bm.TrainVar(jnp.ones(3))]
            self.method = self.loss

        def loss(self, x):
            return jnp.sum(jnp.sin(x * self.w) * self.layers[0])

    def loss(x):
        traces.append(1)
        return Net(x).loss(x)

    want = jax.grad(loss)(X)
    traces.clear()
    gradient = bm.grad(with_own_code(loss))
    for _ in range(5):
        assert_equal(gradient(X), want)
    assert len(traces) <= 2


@pytest.mark.parametrize("keep", [2, 3])
def test_the_last_ones_are_kept_and_the_newest_is_read(keep):
    def steps(jit):
        recent = collections.deque(maxlen=keep)
        recent.append(bm.Variable(jnp.zeros(3)))

        @jit
        def step(x):
            recent.append(bm.Variable(recent[-1].value * 0.5 + x))
            return recent[-1].sum()

        return [float(step(X)) for _ in range(8)]

    np.testing.assert_allclose(steps(bm.jit), steps(lambda f: f), rtol=1e-6)


def test_what_else_is_dropped_is_no_predecessor():
    states = {}

    @bm.jit
    def step(x):
        if x.size == 2:
            states.setdefault("scratch", bm.Variable(jnp.zeros(())))
            return x.sum()
        states.pop("scratch", None)
        if "sum" not in states:
            states["sum"] = bm.Variable(jnp.zeros(()))
        states["sum"] += x.sum()
        return states["sum"].value

    sums = [float(step(np.ones(size, np.float32))) for size in (2, 3, 3, 3, 3)]
    assert sums == [2, 3, 6, 9, 12]


def test_a_cache_of_one_that_settings_choose():
    class Model(Plain):
        def __init__(self):
            self.mode, self.held = 0, {}

        def loss(self, x):
            if self.mode not in self.held:
                self.held = {self.mode: bm.Variable(jnp.zeros(3))}
            self.held[self.mode] += 1
            return jnp.sum(x * self.held[self.mode])

    model = Model()
    for mode, count in ((0, 1), (0, 2), (1, 1), (2, 1), (2, 2), (2, 3), (0, 1), (0, 2)):
        model.mode = mode
        bm.grad(model.loss)(X)
        assert model.held[mode].tolist() == [count] * 3
    model = Model()
    gradient = bm.grad(model.loss)
    for mode, count in ((0, 1), (1, 1), (1, 2), (1, 3)):
        model.mode = mode
        gradient(X)
        assert model.held[mode].tolist() == [count] * 3


@pytest.mark.parametrize("node", [bp.Base, Plain], ids=["node", "plain"])
def test_states_that_a_flag_resets(node):
    class Cell(node):
        h = None

        def step(self, x, reset):
            if reset or self.h is None:
                self.h = bm.Variable(jnp.zeros(3))
            self.h.value = self.h * 0.5 + x
            return self.h.sum()

    cell, plain = Cell(), Cell()
    step = bm.jit(cell.step, static_argnums=1)
    for number, reset in enumerate([True, False, False, True, False, False, True, True, False]):
        x = X * (number + 1)
        np.testing.assert_allclose(step(x, reset), plain.step(x, reset), rtol=1e-6)
        np.testing.assert_allclose(cell.h, plain.h, rtol=1e-6)


@pytest.mark.parametrize("node", [bp.Base, Plain], ids=["node", "plain"])
def test_states_that_one_function_resets_and_another_reads(node):
    class Cell(node):
        h = None

        def run(self, x):
            self.h = bm.Variable(x * 0)
            return self.step(x)

        def step(self, x):
            self.h.value = self.h * 0.5 + x
            return self.h.sum()

    cell, plain = Cell(), Cell()
    run, step = bm.jit(cell.run), bm.jit(cell.step)
    for number in range(1, 4):
        np.testing.assert_allclose(run(X * number), plain.run(X * number), rtol=1e-6)
        for _ in range(3):
            np.testing.assert_allclose(step(X), plain.step(X), rtol=1e-6)


@pytest.mark.parametrize("node", [bp.Base, Plain], ids=["node", "plain"])
def test_constants_made_anew_have_no_value_outside(node):
    class Model(node):
        def step(self, x):
            made = bm.Variable(jnp.zeros(3))
            self.metric = [made] if node is Plain else made
            del made
            return jnp.sum(x)

        def read(self):
            return self.metric[0] if node is Plain else self.metric

    model = Model()
    step = bm.jit(model.step)
    for _ in range(2):
        step(X)
    step(X)
    with pytest.raises(jax.errors.UnexpectedTracerError, match="in the place of the last one"):
        model.read().value  # noqa: B018
    model.read().value = X
    assert_equal(model.read().value, X)


def test_local_nodes_that_assign_and_refer_to_each_other():
    traces = []

    class Leaf(bp.Base):
        def __init__(self, parent, x):
            super().__init__()
            self.parent, self.w = parent, bm.Variable(x * 2)

    class Root(bp.Base):
        def __init__(self, x):
            super().__init__()
            self.child = Leaf(self, x)

    @bm.jit
    def f(x):
        traces.append(1)
        root = Root(x)
        root.child.w += x
        return root.child.w.sum()

    for _ in range(5):
        np.testing.assert_allclose(f(X), 3 * X.sum(), rtol=1e-6)
    assert len(traces) <= 2


def test_ahead_of_time():
    want = bm.grad(Resetting().loss)(X)
    assert_equal(bm.grad(Resetting().loss).trace(X).lower().compile()(X), want)


def counter_of(box, *, collects=False):
    @bm.jit
    def step(x):
        if box[0].get() is None:
            box[0].put(bm.Variable(jnp.zeros(3)))
        if collects:
            gc.collect()
        count = box[0].get()
        count += 1
        return jnp.sum(x * count)

    return step


@pytest.mark.parametrize("keeper", [Dict, Circle], ids=["dict", "circle"])
def test_what_was_dropped_between_calls_is_no_predecessor(keeper):
    box = [keeper()]
    step = counter_of(box, collects=keeper is Circle)
    gc.disable()  # So that circles are there until the function collects them.
    try:
        step(X)
        box[0] = keeper()
        for number in range(1, 4):
            step(X)
            assert box[0].get().tolist() == [number] * 3
    finally:
        gc.enable()
