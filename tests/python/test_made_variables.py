"""Variables that a function makes and keeps, as parameters at its first call.

They have their values after that call, and are variables to the next one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad as bp
import bmgrad.math as bm

X = np.float32([0.5, 1.0, 2.0])


def assert_equal(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, want)


FOR_VARIABLES = {
    "grad": lambda m: m.grad,
    "jacfwd": lambda m: m.jacfwd,
    "vjp": lambda m: lambda f: lambda x: m.vjp(f, x)[1](np.float32(1.0)),
    "jvp": lambda m: lambda f: lambda x: m.jvp(f, (x,), (x,)),
    "linearize": lambda m: lambda f: lambda x: m.linearize(f, x)[1](x),
    "jit": lambda m: m.jit,
    "vector_grad": lambda m: m.vector_grad,
    "jit of grad": lambda m: lambda f: m.jit(m.grad(f)),
    "grad in a function": lambda m: lambda f: m.grad(lambda x: jnp.sum(m.grad(f)(x) * x)),
    "a lambda": lambda m: lambda f: m.grad(lambda x: f(x)),
    "made anew": lambda m: lambda f: lambda x: m.grad(f)(x),
}
OF_JAX_TOO = ("grad", "jacfwd", "vjp", "jvp", "linearize", "vmap")
MADE_OF = {
    "constants": lambda x: bm.ones(3),
    "random numbers": lambda x: bm.random.rand(3),
    "arguments": lambda x: jax.lax.stop_gradient(x) + 1,
}


class LazyNode(bp.Base):
    def __init__(self, make):
        super().__init__()
        self.make, self.w = make, None

    def loss(self, x):
        if self.w is None:
            self.w = bm.TrainVar(self.make(x))
        return jnp.sum(jnp.sin(x) * self.w)


@pytest.mark.parametrize("name", FOR_VARIABLES)
@pytest.mark.parametrize("made_of", MADE_OF)
def test_variables_made_at_the_first_call_are_variables_afterwards(name, made_of):
    node = LazyNode(MADE_OF[made_of])
    transformed = FOR_VARIABLES[name](bm)(node.loss)
    first = transformed(X)
    made = node.w
    again = LazyNode(None)
    again.w = bm.TrainVar(made.value)
    of_again = FOR_VARIABLES[name](bm)(again.loss)
    assert_equal(first, of_again(X))
    for _ in range(3):
        assert_equal(transformed(X), first)
    made.value = again.w.value = made * 2 + 1
    assert_equal(transformed(X), of_again(X))
    assert node.w is made
    node.w, again.w = bm.TrainVar(X + 5), bm.TrainVar(X + 5)
    assert_equal(transformed(X), of_again(X))


@pytest.mark.parametrize("transform", [bm.grad, bm.jit, bm.vmap], ids=["grad", "jit", "vmap"])
def test_variables_of_a_call_that_fails_are_not_kept(transform):
    class Node(bp.Base):
        def __init__(self):
            super().__init__()
            self.w = before

        def loss(self, x, y):
            self.w = bm.TrainVar(x * 2)
            self.other = bm.TrainVar(x * 3)
            return (self.w * self.other @ y).sum()

    before = bm.TrainVar(jnp.ones(3))
    node = Node()
    x = jnp.ones((1, 3)) if transform is bm.vmap else X
    for _ in range(4):  # Functions made anew are called in another way from the third on.
        with pytest.raises(TypeError, match="dot_general"):
            transform(node.loss)(x, jnp.ones((1, 5)))
        assert node.w is before
        assert not hasattr(node, "other")
    assert before.tolist() == [1, 1, 1]


def test_functions_that_decide_make_their_variables_once():
    node = LazyNode(MADE_OF["random numbers"])
    gradient = bm.grad(lambda x: node.loss(x) if x.sum() > 0 else -node.loss(x))
    first, made = gradient(X), node.w
    np.testing.assert_allclose(first, jnp.cos(X) * made, rtol=1e-6)
    assert_equal(gradient(X), first)
    assert node.w is made


def test_variables_that_are_made_at_each_call():
    class Cell(bp.Base):
        def __init__(self):
            super().__init__()
            self.h = bm.Variable(jnp.zeros(3))

        def step(self, x):
            self.h = bm.Variable(jnp.tanh(self.h + x))
            return self.h.sum()

    cell, plain = Cell(), Cell()
    step = bm.jit(cell.step)
    for _ in range(4):
        np.testing.assert_allclose(step(X), plain.step(X), rtol=1e-6)
        np.testing.assert_allclose(cell.h, plain.h, rtol=1e-6)


@pytest.mark.parametrize("transform", [bm.grad, bm.jit], ids=["grad", "jit"])
def test_variables_of_a_model_that_is_an_argument(transform):
    def loss(x, node):
        return node.loss(x)

    node = LazyNode(MADE_OF["random numbers"])
    transformed = transform(loss)
    first = transformed(X, node)
    made = node.w.value
    assert_equal(transformed(X, node), first)
    node.w.value = made * 3
    assert_equal(transformed(X, node), first * 3)


@pytest.mark.parametrize("made_of", ["constants", "arguments"])
@pytest.mark.parametrize(
    "argument", [True, [False], bm.Variable(jnp.ones(3)), "reference"], ids=str
)
def test_variables_of_functions_that_are_traced_again(made_of, argument):
    if argument == "reference":
        argument = jax.new_ref(jnp.zeros(3))

    class Node(LazyNode):
        def loss(self, x, other):
            return super().loss(x)

    for transform in (bm.jit, bm.grad, lambda f: bm.jit(bm.grad(f))):
        node, again = Node(MADE_OF[made_of]), Node(None)
        transformed = transform(node.loss)
        first = transformed(X, argument)
        again.w = bm.TrainVar(MADE_OF[made_of](X))
        assert_equal(first, transform(again.loss)(X, argument))
        for _ in range(2):
            assert_equal(transformed(X, argument), first)
        assert_equal(node.w.value, again.w.value)


def test_variables_of_functions_with_loops_whose_bounds_are_asked_for():
    class Node(LazyNode):
        def loss(self, x, count):
            y = super().loss(x)
            return lax.fori_loop(0, count, lambda _, c: jnp.sin(c) * y, y)

    for derive in (
        lambda f: bm.vjp(f, X, 3)[1](1.0)[0],
        lambda f: bm.jvp(lambda x: bm.grad(f)(x, 3), (X,), (X,)),
    ):
        node, again = Node(MADE_OF["random numbers"]), Node(None)
        first = derive(node.loss)
        again.w = bm.TrainVar(node.w.value)
        assert_equal(first, derive(again.loss))
        assert_equal(derive(node.loss), first)


INNER = {
    "vmap": lambda f: lambda x: jax.vmap(f)(x[None])[0],
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (x,))[1],
    "scan": lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, None, 2)[0],
    "fori_loop": lambda f: lambda x: lax.fori_loop(0, 2, lambda _, c: f(c), x),
    "cond": lambda f: lambda x: lax.cond(x[0] > 0, f, lambda y: y, x),
    "checkpoint": jax.checkpoint,
}


@pytest.mark.parametrize("transform", [bm.grad, bm.jit], ids=["grad", "jit"])
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@pytest.mark.parametrize("constant", [True, False])
def test_variables_of_inner_traces_do_not_come_out(transform, inner, constant):
    class Node(bp.Base):
        def part(self, x):
            self.w = bm.Variable(jnp.ones(3) if constant else x + 1)
            return self.w.value * x

        def loss(self, x):
            return inner(self.part)(x).sum()

    node = Node()
    with jax.disable_jit():
        want = Node().loss(X) if transform is bm.jit else jax.grad(Node().loss)(X)
    for _ in range(3):
        assert_equal(transform(node.loss)(X), want)


def test_variables_that_are_made_and_dropped():
    traces = []

    @bm.jit
    def f(x):
        traces.append(1)
        local = bm.Variable(x * 2)
        local += 1
        return local.sum()

    for _ in range(3):
        np.testing.assert_allclose(f(X), (X * 2 + 1).sum())
    assert len(traces) == 1


OF_JAX = {
    "jit": lambda f: jax.jit(bm.grad(f)),
    "jit of jit": lambda f: jax.jit(bm.jit(f)),
    "grad": lambda f: jax.grad(bm.jit(f)),
    "jacfwd": lambda f: jax.jacfwd(bm.grad(f)),
    "vmap": lambda f: lambda x: jax.vmap(bm.grad(f))(x[None]),
    "scan": lambda f: lambda x: lax.scan(lambda c, _: (c + bm.jit(f)(x), None), 0.0, None, 2)[0],
}


@pytest.mark.parametrize("name", OF_JAX)
@pytest.mark.parametrize("made_of", ["constants", "arguments"])
def test_variables_made_under_transforms_of_jax(name, made_of):
    node, again = LazyNode(MADE_OF[made_of]), LazyNode(None)
    got = OF_JAX[name](node.loss)(X)
    again.w = bm.TrainVar(MADE_OF[made_of](X))
    assert_equal(got, OF_JAX[name](again.loss)(X))
    if made_of == "constants":
        assert_equal(node.w.value, again.w.value)
    else:
        with pytest.raises(jax.errors.UnexpectedTracerError, match=r"LazyNode\d+.w'"):
            node.w.value  # noqa: B018


def test_arrays_made_of_constants_can_be_read():
    class Node(bp.Base):
        def loss(self, x):
            self.table = bm.ones(3) * 2
            return (self.table * x).sum()

    node = Node()
    for transform in (bm.jit, bm.grad):
        transform(node.loss)(X)
        assert node.table.tolist() == [2, 2, 2]


class Resetting(bp.Base):
    """Makes its state anew at each call, without a look at the last."""

    def __init__(self):
        super().__init__()
        self.w, self.traces = bm.TrainVar(jnp.ones(3)), 0

    def loss(self, x):
        self.traces += 1
        self.h = bm.Variable(jnp.zeros(3))
        for _ in range(3):
            self.h.value = jnp.sin(self.h * self.w + x)
        return self.h.sum()


@pytest.mark.parametrize("name", [*FOR_VARIABLES, "vmap"])
def test_states_that_are_made_anew_at_each_call_are_compiled(name):
    node, plain = Resetting(), Resetting()
    x = X[None] if name == "vmap" else X
    transform = {**FOR_VARIABLES, "vmap": lambda m: m.vmap}[name]
    transformed = transform(bm)(node.loss)
    oracle = transform(jax)(plain.loss) if name in OF_JAX_TOO else None
    first = transformed(x)
    if oracle is not None:
        assert_equal(first, oracle(x))
    for _ in range(5):
        assert_equal(transformed(x), first)
    # Functions that are made anew, as the lambdas of these tests are, are traced anew.
    is_anew = name in ("vjp", "jvp", "linearize", "made anew", "a lambda", "grad in a function")
    assert is_anew or node.traces <= 3


def test_variables_that_are_made_twice_in_a_call():
    class Node(bp.Base):
        w = None

        def loss(self, x):
            if self.w is None:
                self.w = bm.TrainVar(x * 2)
                self.w = bm.TrainVar(x * 3)
            return (self.w * x).sum()

    node = Node()
    for _ in range(3):
        np.testing.assert_allclose(bm.jit(node.loss)(X), 3 * X @ X, rtol=1e-6)
        assert_equal(node.w.value, X * 3)


@pytest.mark.parametrize(
    "inside",
    [
        lambda f, x: bm.vjp(f, x)[1](np.float32(1))[0],
        lambda f, x: bm.grad(f)(x),
        lambda f, x: bm.grad(lambda y: f(y))(x),
    ],
    ids=["vjp", "grad", "grad of a function made there"],
)
def test_states_that_are_made_anew_inside_a_compiled_function(inside):
    node = Resetting()
    step = bm.jit(lambda x: inside(node.loss, x))
    want = jax.grad(Resetting().loss)(X)
    for _ in range(5):
        assert_equal(step(X), want)
    assert node.traces <= 3


def test_variables_made_ahead_of_time():
    node = LazyNode(MADE_OF["random numbers"])
    with pytest.raises(TypeError, match=r"makes and keeps TrainVar 'LazyNode\d+.w'.*call it once"):
        bm.grad(node.loss).trace(X)
    assert node.w is None
    want = bm.grad(node.loss)(X)
    assert_equal(bm.grad(node.loss).trace(X).lower().compile()(X), want)
    node = Resetting()
    want = bm.grad(node.loss)(X)
    assert_equal(bm.grad(Resetting().loss).trace(X).lower().compile()(X), want)


def test_variables_made_at_each_call_ahead_of_time():
    class Cell(bp.Base):
        def __init__(self):
            super().__init__()
            self.h, self.count = bm.Variable(jnp.zeros(3)), 0

        def step(self, x):
            self.count += 1
            setattr(self, f"x{self.count}", bm.Variable(x * 2))
            self.h = bm.Variable(jnp.tanh(self.h + x))
            return self.h.sum()

    cell = Cell()
    before = cell.h
    with pytest.raises(TypeError, match=r"makes and keeps Variable"):
        bm.jit(cell.step).trace(X)
    assert cell.h is before
    assert not any(hasattr(cell, f"x{i}") for i in range(5))
