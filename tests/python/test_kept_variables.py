"""Variables that a function makes and keeps in no attribute of a node.

In a list, a dict, an object of the user's, a closure: they have their values after the call, and
are variables to the next one, as those in attributes are.
"""

import collections
import gc
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_made_variables import FOR_VARIABLES, MADE_OF, OF_JAX, X, assert_equal

import bmgrad as bp
import bmgrad.math as bm


def with_own_code(function):
    """Functions of one code that are made again and again are not compiled as others are."""
    function.__code__ = function.__code__.replace(co_name=f"function{next(_numbers)}")
    return function


_numbers = itertools.count()


class Plain:
    pass


class Attribute:
    """Keeps one in an attribute of an object that is no node."""

    def __init__(self):
        self.held = Plain()

    def get(self):
        return getattr(self.held, "w", None)

    def put(self, variable):
        self.held.w = variable


class List:
    def __init__(self):
        self.held = []

    def get(self):
        return self.held[0] if self.held else None

    def put(self, variable):
        self.held[:] = [variable]


class Dict:
    def __init__(self):
        self.held = {}

    def get(self):
        return self.held.get("w")

    def put(self, variable):
        self.held["w"] = variable


class Closure:
    def __init__(self):
        w = None

        def get():
            return w

        def put(variable):
            nonlocal w
            w = variable

        self.get, self.put = get, put


class Circle(Plain):
    """An object that refers to itself, as one does that holds a bound method."""

    def __init__(self):
        self.itself, self.held = self, None

    def get(self):
        return self.held

    def put(self, variable):
        self.held = variable


class OfNode(bp.Base):
    """A list of variables that a node has."""

    def __init__(self):
        super().__init__()
        self.held = bm.VarList()

    def get(self):
        return self.held[0] if self.held else None

    def put(self, variable):
        self.held = bm.VarList([variable])


KEEPERS = [Attribute, List, Dict, Closure, Circle, OfNode]


class Lazy:
    def __init__(self, keeper, make):
        self.keeper, self.make, self.traces = keeper(), make, 0

    def loss(self, x):
        self.traces += 1
        if self.keeper.get() is None:
            self.keeper.put(bm.TrainVar(self.make(x)))
        return jnp.sum(jnp.sin(x) * self.keeper.get())


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


class InNode(bp.Base):
    def __init__(self):
        super().__init__()
        self.held = None

    def get(self):
        return self.held

    def put(self, variable):
        self.held = variable


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
@pytest.mark.parametrize(
    "inner",
    [
        lambda f, x: lax.scan(lambda c, _: (f(c), None), x, None, 2)[0],
        lambda f, x: lax.fori_loop(0, 2, lambda _, c: f(c), x),
        lambda f, x: lax.cond(x[0] > 0, f, lambda y: y, x),
        lambda f, x: jax.checkpoint(f)(x),
        lambda f, x: jax.vmap(f)(x[None])[0],
    ],
    ids=["scan", "fori_loop", "cond", "checkpoint", "vmap"],
)
def test_what_is_made_in_a_loop_says_so(keeper, transform, inner):
    keeper = keeper()

    def part(x):
        if keeper.get() is None:
            keeper.put(bm.Variable(x + 1))
        return jnp.sin(x) * keeper.get()

    def loss(x):
        return jnp.sum(inner(part, x) * keeper.get())

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
    model = Resetting()
    assert_equal(bm.grad(Resetting().loss).trace(X).lower().compile()(X), bm.grad(model.loss)(X))


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
    del model, loss
    gc.collect()


ARGUMENTS_MADE = {"constants": jnp.zeros_like, "arguments": lambda x: x * 0}


@pytest.mark.parametrize("made_of", ARGUMENTS_MADE)
@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("most", [1, 5])
def test_caches_by_shape_of_functions_called_before(transform, made_of, most):
    states = {}

    def loss(x):
        if x.shape not in states:
            if len(states) == most:
                states.clear()
            states[x.shape] = bm.Variable(ARGUMENTS_MADE[made_of](x))
        states[x.shape] += 1
        return jnp.sum(x * states[x.shape])

    transformed = transform(with_own_code(loss))
    for size, count in ((2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (4, 1), (4, 2)):
        transformed(np.ones(size, np.float32))
        assert states[(size,)].tolist() == [count] * size


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
            self.metric = [bm.Variable(jnp.zeros(3))] if node is Plain else bm.Variable(x * 0)
            if node is not Plain:
                self.metric = bm.Variable(jnp.zeros(3))
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
    assert not hasattr(model, "other") or model.other.w.tolist() == [1, 1, 1]
    model.fails, model.child = False, None
    assert_equal(transformed(X), X.sum() if transform is bm.jit else np.ones(3))


@pytest.mark.parametrize("transform", [bm.jit, bm.grad], ids=["jit", "grad"])
@pytest.mark.parametrize("made_of", ARGUMENTS_MADE)
def test_calls_that_fail_when_they_have_been_traced(transform, made_of):
    class Model(Parent):
        def loss(self, x):
            if self.h is None:
                self.h = bm.Variable(ARGUMENTS_MADE[made_of](x))
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
