"""Variables that a function makes and keeps in no attribute of a node.

In a list, a dict, an object of the user's, a closure: they have their values after the call, and
are variables to the next one, as those in attributes are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_made_variables import FOR_VARIABLES, INNER, MADE_OF, OF_JAX, X, assert_equal
from variable_keepers import (
    ZEROS_OF,
    Attribute,
    Circle,
    Closure,
    Dict,
    Lazy,
    List,
    OfNode,
    with_own_code,
)

import bmgrad.math as bm

KEEPERS = [Attribute, List, Dict, Closure, Circle, OfNode]


CASES = [
    *((keeper, name, "random numbers") for keeper in KEEPERS for name in ("grad", "jit of grad")),
    *((keeper, "jit", "constants") for keeper in KEEPERS),
    *((Dict, name, made_of) for name in FOR_VARIABLES for made_of in MADE_OF),
]


@pytest.mark.parametrize(("keeper", "name", "made_of"), CASES)
def test_they_are_variables_afterwards(keeper, name, made_of):
    model = Lazy(keeper, MADE_OF[made_of])
    transformed = FOR_VARIABLES[name](bm)(model.loss)
    first = transformed(X)
    made = model.keeper.get()
    again = Lazy(keeper, None)
    again.keeper.put(bm.TrainVar(made.value))
    of_again = FOR_VARIABLES[name](bm)(again.loss)
    assert_equal(first, of_again(X))
    for _ in range(3):
        assert_equal(transformed(X), first)
    made.value = again.keeper.get().value = made * 2 + 1
    assert_equal(transformed(X), of_again(X))
    assert model.keeper.get() is made


@pytest.mark.parametrize("keeper", KEEPERS, ids=lambda k: k.__name__)
def test_what_is_assigned_to_them_stays(keeper):
    class Counter(Lazy):
        def loss(self, x):
            if self.keeper.get() is None:
                self.keeper.put(bm.Variable(self.make(x)))
            count = self.keeper.get()
            count += 1
            return jnp.sum(x * count)

    for transform in (bm.jit, bm.grad, lambda f: bm.jit(bm.grad(f))):
        model, plain = Counter(keeper, jnp.zeros_like), Counter(keeper, jnp.zeros_like)
        transformed, oracle = transform(model.loss), jax.grad(plain.loss)
        for number in range(1, 5):
            got, want = transformed(X), oracle(X)
            assert_equal(got, plain.keeper.get().value @ X if transform is bm.jit else want)
            assert model.keeper.get().tolist() == plain.keeper.get().tolist() == [number] * 3


def test_an_optimizer_that_makes_its_velocities_at_the_first_step():
    class Momentum:
        def __init__(self, variables):
            self.variables, self.velocities = variables, {}

        def step(self, gradients):
            for key, variable in self.variables.items():
                if key not in self.velocities:
                    self.velocities[key] = bm.Variable(bm.zeros_like(variable))
                velocity = self.velocities[key]
                velocity.value = 0.9 * velocity + gradients[key]
                variable -= 0.1 * velocity

    def train(jit):
        variables = {"a": bm.TrainVar(jnp.ones(3)), "b": bm.TrainVar(jnp.ones(2))}
        optimizer = Momentum(variables)

        def step(x):
            def loss():
                return jnp.sum(variables["a"] ** 2 * x) + jnp.sum(jnp.cos(variables["b"]))

            gradients, value = bm.grad(loss, variables, return_value=True)()
            optimizer.step(gradients)
            return value

        step = jit(step)
        return [float(step(X)) for _ in range(6)], variables

    (losses, variables), (want, plain) = train(bm.jit), train(lambda f: f)
    np.testing.assert_allclose(losses, want, rtol=1e-5)
    assert_equal({k: v.value for k, v in variables.items()}, {k: v.value for k, v in plain.items()})


def test_one_for_each_shape():
    states = {}

    @bm.jit
    def step(x):
        if x.shape not in states:
            states[x.shape] = bm.Variable(jnp.zeros_like(x))
        states[x.shape] += x
        return states[x.shape].sum()

    for number in range(1, 4):
        for size in (2, 3):
            np.testing.assert_allclose(step(np.ones(size, np.float32)), number * size)


def test_one_more_at_each_call():
    history = []

    @bm.jit
    def step(x):
        history.append(bm.Variable(x * (len(history) + 1)))
        return sum(jnp.sum(h * x) for h in history)

    for number in range(1, 5):
        np.testing.assert_allclose(step(X), number * (number + 1) / 2 * (X @ X), rtol=1e-6)
        assert_equal([h.value for h in history], [X * (i + 1) for i in range(number)])


@pytest.mark.parametrize(
    "use",
    [
        lambda w, x: lax.scan(lambda c, _: (jnp.sin(c * w), None), x, None, 3)[0],
        lambda w, x: jax.jit(lambda y: y * w)(x),
        lambda w, x: jax.vmap(lambda y: y * w)(x),
        lambda w, x: jax.checkpoint(lambda y: jnp.sin(y * w))(x),
        lambda w, x: lax.cond(x[0] > 0, lambda y: y * w, lambda y: y - w, x),
        lambda w, x: bm.vmap(lambda y: y * w)(x),
        lambda w, x: bm.grad(lambda y: jnp.sum(jnp.sin(y) * w))(x),
    ],
    ids=["scan", "jit", "vmap", "checkpoint", "cond", "bm.vmap", "bm.grad"],
)
def test_what_jax_keeps_for_itself_is_not_kept(use):
    traces = []

    @bm.jit
    def f(x):
        traces.append(1)
        local = bm.Variable(x * 2)
        local += 1
        return use(local, x).sum()

    first = f(X)
    for _ in range(3):
        assert_equal(f(X), first)
    assert len(traces) == 1


@pytest.mark.parametrize("name", OF_JAX)
@pytest.mark.parametrize("made_of", ["constants", "arguments"])
def test_under_transforms_of_jax(name, made_of):
    model, again = Lazy(List, MADE_OF[made_of]), Lazy(List, None)
    got = OF_JAX[name](model.loss)(X)
    again.keeper.put(bm.TrainVar(MADE_OF[made_of](X)))
    assert_equal(got, OF_JAX[name](again.loss)(X))
    if made_of == "constants":
        assert_equal(model.keeper.get().value, again.keeper.get().value)
    else:
        with pytest.raises(jax.errors.UnexpectedTracerError, match="TrainVar"):
            model.keeper.get().value  # noqa: B018


@pytest.mark.parametrize("keeper", [List, Attribute], ids=["list", "attribute"])
@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_what_is_made_in_a_loop_says_so(keeper, transform, inner):
    keeper = keeper()

    def part(x):
        if keeper.get() is None:
            keeper.put(bm.Variable(x + 1))
        return jnp.sin(x) * keeper.get()

    def loss(x):
        return jnp.sum(inner(part)(x) * keeper.get())

    transformed = transform(with_own_code(loss))
    for _ in range(2):
        with pytest.raises(
            jax.errors.UnexpectedTracerError, match=r"Variable, that.*Make it before"
        ):
            transformed(X)


def test_ahead_of_time():
    model = Lazy(List, MADE_OF["random numbers"])
    with pytest.raises(TypeError, match=r"makes and keeps TrainVar.*call it once"):
        bm.grad(model.loss).trace(X)
    model = Lazy(List, MADE_OF["random numbers"])
    want = bm.grad(model.loss)(X)
    assert_equal(bm.grad(model.loss).trace(X).lower().compile()(X), want)


def test_a_model_that_was_dropped_is_no_other_ones():
    def made():
        model = Lazy(Circle, MADE_OF["arguments"])
        model.itself = model
        return model, bm.jit(model.loss)

    for factor in (1, 2, 3):
        model, loss = made()
        loss(X * factor)
        assert_equal(model.keeper.get().value, X * factor + 1)
        loss(X)
        assert_equal(model.keeper.get().value, X * factor + 1)


@pytest.mark.parametrize("made_of", ZEROS_OF)
@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("most", [1, 5])
def test_caches_by_shape_of_functions_called_before(transform, made_of, most):
    states = {}

    def loss(x):
        if x.shape not in states:
            if len(states) == most:
                states.clear()
            states[x.shape] = bm.Variable(ZEROS_OF[made_of](x))
        states[x.shape] += 1
        return jnp.sum(x * states[x.shape])

    transformed = transform(with_own_code(loss))
    for size, count in ((2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2)):
        transformed(np.ones(size, np.float32))
        assert states[(size,)].tolist() == [count] * size


def test_what_one_call_makes_is_seen_for_other_arguments():
    states = {}

    @bm.jit
    def step(x, flag):
        if flag is not None and "flags" not in states:
            states["flags"] = bm.Variable(jnp.zeros(3))
        if flag is not None:
            states["flags"] += flag
        return (x + states["flags"]).sum() if "flags" in states else x.sum()

    flags = [None, None, None, X, X, None, X, None]
    counts = [0, 0, 0, 1, 2, 2, 3, 3]
    for flag, count in zip(flags, counts, strict=True):
        np.testing.assert_allclose(step(X, flag), (1 + count) * X.sum(), rtol=1e-6)
