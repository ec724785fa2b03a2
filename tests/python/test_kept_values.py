"""What a function makes of constants and keeps: a cache, parameters made at the first call.

Under JAX's transforms these are arrays. Under ours they were tracers while the function ran.
"""

import copy
import functools
import gc
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm
from bmgrad.runtime import Program

X = np.float32([0.5, 1.0, 2.0])

TRANSFORMS = {
    "grad": lambda m: m.grad,
    "value_and_grad": lambda m: m.value_and_grad,
    "jacfwd": lambda m: m.jacfwd,
    "hessian": lambda m: m.hessian,
    "vmap": lambda m: m.vmap,
    "vjp": lambda m: lambda f: lambda x: m.vjp(f, x)[1](np.float32(1.0)),
    "jvp": lambda m: lambda f: lambda x: m.jvp(f, (x,), (x,)),
    "linearize": lambda m: lambda f: lambda x: m.linearize(f, x)[1](x),
    "grad_inside": lambda m: lambda f: m.grad(lambda x: jnp.sum(x * m.grad(f)(x))),
}


def assert_equal(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), got, want)


class Lazy:
    """Makes its parameters when it is first called."""

    weights = None

    def __call__(self, x):
        if self.weights is None:
            self.weights = jax.random.normal(jax.random.key(0), (3,))
        return jnp.sum(jnp.sin(x) * self.weights)


class Counting:
    """Takes new random numbers at each call, and keeps an array of each."""

    def __init__(self):
        self.key, self.seen = jax.random.key(0), []

    def __call__(self, x):
        self.key, key = jax.random.split(self.key)
        self.seen.append(jnp.arange(3.0) + len(self.seen))
        return jnp.sum(x**2 * jax.random.normal(key, (3,)))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_parameters_made_at_the_first_call_are_found_at_the_next(name):
    def run(m):
        model = Lazy()
        transformed = TRANSFORMS[name](m)(model)
        first = transformed(X)
        value = model(X[0])
        model.weights = model.weights * 2
        return first, value, transformed(X), model.weights, np.asarray(model.weights)

    assert_equal(run(bm), run(jax))


def test_so_are_those_in_slots():
    class Slotted:
        __slots__ = ("scale",)

        def __init__(self):
            self.scale = jnp.ones(3)

        def loss(self, x):
            self.scale = self.scale * 2
            return jnp.sum(x * self.scale)

    def run(m):
        model = Slotted()
        gradient = m.grad(model.loss)
        return [gradient(X) for _ in range(4)], model.scale

    assert_equal(run(bm), run(jax))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_arrays_kept_at_each_call_are_those_of_each_call(name):
    def run(m):
        model = Counting()
        transformed = TRANSFORMS[name](m)(model)
        results = [transformed(X) for _ in range(4)]
        return results, model.seen, jax.random.key_data(model.key)

    assert_equal(run(bm), run(jax))


def test_a_cached_table_serves_other_functions():
    @functools.lru_cache
    def table(n):
        return jnp.linspace(0.0, 1.0, n)

    def first(x):
        return jnp.sum(jnp.sin(x) * table(x.shape[0]))

    def second(x):
        return jax.lax.scan(lambda c, y: (c * y, c), x[0], x * table(3) + 1.0)[0]

    assert_equal(bm.grad(first)(X), np.cos(X) * np.linspace(0, 1, 3))
    assert_equal(bm.grad(second)(X), jax.grad(second)(X))
    assert_equal(jax.grad(second)(X), jax.jit(bm.grad(second))(X))
    assert_equal(bm.grad(first)(X), np.cos(X) * np.linspace(0, 1, 3))
    assert_equal(bm.jit(lambda x: x + table(3))(X), X + np.linspace(0, 1, 3))


def test_variables_made_at_the_first_call_are_trained():
    class Model(bm.Base if hasattr(bm, "Base") else object):
        weights = None

        def loss(self, x):
            if self.weights is None:
                self.weights = bm.Variable(jnp.ones(3))
            return jnp.sum(self.weights.value * x**2)

    model = Model()
    gradient = bm.grad(model.loss)
    assert_equal(gradient(X), 2 * X)
    assert not isinstance(model.weights.value, jax.core.Tracer)
    model.weights.value = 3 * model.weights.value
    assert_equal(gradient(X), 6 * X)
    assert_equal(bm.grad(model.loss, model.weights)(X), X**2)


@pytest.fixture
def kept():
    model = Lazy()
    bm.grad(model)(X)
    return model.weights, np.asarray(jax.random.normal(jax.random.key(0), (3,)))


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + 1,
        jnp.sin,
        jax.jit(jnp.sin),
        lambda x: jax.jit(lambda y: x * y)(2.0),
        lambda x: jax.jit(lambda y: x * y).lower(2.0).compile()(2.0),
        lambda x: jax.grad(lambda y: jnp.sum(x * y))(x),
        lambda x: jax.vmap(lambda y: jnp.sum(x * y))(jnp.ones((2, 3))),
        lambda x: bm.jit(lambda y: x * y)(2.0),
        lambda x: bm.grad(lambda y: jnp.sum(x * y))(x),
        lambda x: bm.Variable(x).value,
        np.asarray,
        jax.device_put,
        jax.device_get,
        jax.block_until_ready,
        lambda x: float(x[0]),
        lambda x: x.tolist(),
        lambda x: pickle.loads(pickle.dumps(x)),
        copy.deepcopy,
        list,
        lambda x: x.at[0].set(1.0),
    ],
)
def test_what_was_kept_is_an_array(kept, use):
    assert_equal(use(kept[0]), use(jnp.asarray(kept[1])))


def test_it_looks_like_one(kept):
    assert isinstance(kept[0], jax.Array)
    assert repr(kept[0]) == repr(jnp.asarray(kept[1]))
    assert f"{kept[0]}" == str(kept[0]) == f"{jnp.asarray(kept[1])}"
    assert len(kept[0].addressable_shards) == 1
    assert not isinstance(bm.Variable(kept[0]).value, jax.core.Tracer)
    assert kept[0].devices() == jnp.asarray(kept[1]).devices()


def test_what_depends_on_arguments_cannot_be_kept():
    seen = []

    def loss(x, y):
        seen.append((jnp.sin(y), x * 2))
        return jnp.sum(x * y)

    gradient = bm.grad(loss)
    gradient(X, X)
    gradient(X, X)
    assert len(seen) == 1
    for value in seen[0]:
        with pytest.raises(jax.errors.UnexpectedTracerError):
            value + 1
        with pytest.raises(jax.errors.UnexpectedTracerError):
            bm.grad(lambda x, value=value: jnp.sum(x * value))(X)


def test_a_function_that_keeps_nothing_more_is_compiled():
    traced = []

    class Model(Lazy):
        def __call__(self, x):
            traced.append(0)
            return super().__call__(x)

    gradient = bm.grad(Model())
    for _ in range(4):
        gradient(X)
    # At the first call, which makes the weights, and at the second, which finds them.
    assert len(traced) == 2


def test_nothing_is_computed_for_what_cannot_be_kept():
    calls, seen = [], []

    def count():
        calls.append(0)
        return np.float32(2.0)

    def loss(x):
        table = jax.pure_callback(count, jax.ShapeDtypeStruct((), jnp.float32))
        seen.append(jnp.sum(x) * table)
        return seen[-1] * 2

    assert_equal(bm.grad(loss)(X), np.full(3, 4.0))
    assert len(calls) == 1


def test_a_function_that_keeps_arrays_at_each_call_is_compiled_once():
    seen, compiled = [], []

    class Recording:
        def loss(self, x):
            seen.append(jnp.ones(3))
            return jnp.sum(jnp.sin(x))

    gradient = bm.grad(Recording().loss)
    for _ in range(4):
        gradient(X)

    def listen(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert_equal(gradient(X), np.cos(X))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
    assert len(seen) == 5


def test_where_jax_computes_constants_at_once_they_are_arrays():
    seen = []

    def loss(x):
        seen.append(jnp.ones(3) / 3)
        seen.append(jax.random.normal(jax.random.key(0), (3,)))
        assert not any(isinstance(value, jax.core.Tracer) for value in seen)
        return jnp.sum(x * seen[0] * seen[1])

    jax.config.update("eager_constant_folding", True)
    try:
        got = bm.grad(loss)(X)
    finally:
        jax.config.update("eager_constant_folding", False)
    assert_equal(got, seen[0] * seen[1])


def test_functions_that_close_over_it_are_called_again(kept):
    value, plain = kept
    linear = jax.jit(jax.grad(lambda y: jnp.sum(y * value)))
    scanned = jax.jit(lambda y: jax.lax.scan(lambda c, z: (c + z * value, None), y, X)[0])
    for _ in range(3):
        assert_equal(linear(X), plain)
        assert_equal(scanned(X), X + plain * np.sum(X))


def test_state_that_is_made_of_the_last_one_does_not_pile_up():
    def run(m, calls):
        state = [jnp.ones(3), jnp.arange(3.0)]

        def loss(x):
            state[:] = state[0] + 0.5 * state[1], state[0] * 0.5 - state[1] * 0.25
            return jnp.sum(x * state[0])

        gradient = m.grad(loss)
        counts = []
        for _ in range(calls):
            result = gradient(X)
            counts.append(len(jax.live_arrays()))
        return result, counts

    # Were all calls before looked through, the time would double at each.
    got, counts = run(bm, 40)
    assert_equal(got, run(jax, 40)[0])
    assert counts[-1] <= counts[9]


def test_functions_with_rules_may_return_it(kept):
    value, plain = kept
    by_jvp = jax.custom_jvp(lambda x: (value, x))
    by_jvp.defjvp(lambda primals, tangents: (by_jvp(*primals), (value, 2 * tangents[0])))
    by_vjp = jax.custom_vjp(lambda x: (value, x))
    by_vjp.defvjp(lambda x: ((value, x), value), lambda kept, cts: (cts[1] * kept,))

    def loss(f, x):
        first, second = f(x)
        return jnp.sum(first * second)

    # Of both results the derivative is the rule's.
    assert_equal(bm.grad(lambda x: loss(by_vjp, x))(X), plain * plain)
    got = bm.jvp(lambda x: loss(by_jvp, x), (X,), (X,))
    assert_equal(got, (np.sum(plain * X), np.sum(plain * X + 2 * X * plain)))


def with_rules(kind, table, users, asks=False):
    """A function that scales its argument, with rules; `users` are who of them reads `table`.

    The function may ask for its argument.
    """

    def scale(user):
        return jnp.sum(table()) if user in users else np.float32(6)

    def function(x):
        if asks and x > 10:
            return x
        return x * scale("function")

    if kind == "custom_jvp":
        f = jax.custom_jvp(function)
        f.defjvp(lambda primals, tangents: (f(*primals), tangents[0] * scale("rule")))
        return f
    f = jax.custom_vjp(function)
    f.defvjp(
        lambda x: (x * scale("forward"), None),
        lambda _, ct: (ct * scale("backward"),),
    )
    return f


@pytest.mark.parametrize("asking", ["", "outside", "inside", "outside inside"])
@pytest.mark.parametrize(
    ("kind", "users"),
    [
        ("custom_jvp", ["function"]),
        ("custom_jvp", ["rule"]),
        ("custom_jvp", ["function", "rule"]),
        ("custom_vjp", ["function", "forward", "backward"]),
        ("custom_vjp", ["forward"]),
        ("custom_vjp", ["forward", "backward"]),
        ("custom_vjp", ["backward"]),
    ],
)
def test_functions_with_rules_and_their_rules_keep_arrays(kind, users, asking):
    def run(m):
        kept = []

        def table():
            if not kept:
                kept.append(jnp.arange(4.0))
            return kept[0]

        scaled = with_rules(kind, table, users, "inside" in asking)

        def loss(x):
            if "outside" in asking and x > 0:
                x = x * 2
            return scaled(jnp.sin(x)) ** 2

        first = m.grad(loss)(X[0])
        other = m.jit(lambda x: x * kept[0])(X[0])
        return first, m.grad(loss)(X[1]), kept[0] + 1, other, m.grad(m.grad(loss))(X[0])

    assert_equal(run(bm), run(jax))


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_what_a_function_with_rules_keeps_the_others_use(kind):
    def run(m):
        table = functools.cache(lambda: jnp.arange(4.0))
        scaled = with_rules(kind, table, ["function", "rule", "forward", "backward"])
        return m.grad(lambda x: scaled(x) * jnp.sum(x * table()))(X[0])

    assert_equal(run(bm), run(jax))


def test_a_rule_may_return_what_it_keeps():
    def run(m):
        table = functools.cache(lambda: jnp.arange(3.0))

        @jax.custom_vjp
        def f(x):
            return x * table()

        f.defvjp(lambda x: (f(x), table()), lambda kept, ct: (ct * kept,))
        return m.grad(lambda x: jnp.sum(jnp.sin(f(x))))(X), m.jacrev(f)(X)

    assert_equal(run(bm), run(jax))


INSIDE = {"": lambda f: f, "jit": jax.jit, "checkpoint": jax.checkpoint}


@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_rules_read_what_the_function_around_has_kept_before(kind, inside):
    def run(m):
        table = functools.cache(lambda: jnp.arange(4.0))
        square = getattr(jax, kind)(lambda x: x**2)
        if kind == "custom_jvp":
            square.defjvp(lambda p, t: (square(*p), 2 * p[0] * t[0] * table()[1]))
        else:
            square.defvjp(lambda x: (x**2, x), lambda x, ct: (2 * x * ct * table()[1],))

        called = INSIDE[inside](lambda x: square(x))

        def loss(x):
            table()  # Of no use here.
            return called(x)

        return m.grad(loss)(X[0]), m.grad(m.grad(loss))(X[1])

    assert_equal(run(bm), run(jax))


def test_constants_that_functions_with_rules_return_are_computed_when_the_program_runs():
    def run(m):
        calls = []

        def count():
            calls.append(1)
            return np.float32(2.0)

        called = jax.ShapeDtypeStruct((), "float32")
        f = jax.custom_jvp(lambda x: (x, jax.pure_callback(count, called)))
        f.defjvp(lambda p, t: (f(*p), (t[0], jnp.zeros(()))))
        gradient = m.grad(lambda x: jnp.prod(jnp.stack(f(x))))
        return [gradient(x) for x in (X[0], X[1], X[2], X[0])], len(calls)

    assert_equal(run(bm), run(jax))


def test_what_rules_close_over_is_no_constant_of_programs():
    """A function that decides by values has one program for all values of one path."""

    def loss(x):
        x = x * 1.5 if x > 0 else x
        f = jax.custom_vjp(lambda x: jnp.sin(x) ** 2)
        f.defvjp(forward, lambda x, ct: (ct * x,))
        return f(x)

    def forward(x):
        y = jnp.cos(x)
        g = jax.custom_vjp(lambda z: z * y)
        g.defvjp(lambda z: (g(z), None), lambda _, ct: (ct * y * 2,))
        return g(x) * jax.grad(g)(x), x

    gradient = bm.value_and_grad(loss)
    gradient(1.0)
    before = programs()
    assert_equal(gradient(2.0), jax.value_and_grad(loss)(2.0))
    assert programs() <= before


def programs():
    gc.collect()
    return {id(each) for each in gc.get_objects() if issubclass(type(each), Program)}
