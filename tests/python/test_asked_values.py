"""Functions that ask for a value and catch JAX's error: they get the value, as under `jax.grad`."""

import functools
import gc
import weakref

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


def by_caught_item(x):
    try:
        factor = jnp.sin(2.0).item()
    except TypeError:
        factor = 5.0
    return factor * jnp.sin(x)


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
FUNCTIONS += [by_a_numpy_table, by_caught_item]
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


def by_sign(x):
    return jnp.sin(x) if x > 0 else jnp.cos(x)


def by_number(x):
    return jnp.sin(x) * int(x) if x > 0 else jnp.cos(x)


def by_item(x):
    return x * jax.lax.stop_gradient(jnp.sin(x)).item()


def by_selection(x):
    row = jnp.stack([x, 2 * x, -x])
    return jnp.sum(jnp.sin(row[row > 0])) * jnp.roll(row, jnp.int32(1))[0]


def by_size(x):
    row = jnp.stack([x, 2 * x, -x, 0 * x])
    (positions,) = jnp.nonzero(row >= 0)
    return jnp.sum(jnp.repeat(jnp.sin(row[positions]), 1 + jnp.int32(x > 0)))


TRANSFORMS = {
    "grad": bm.grad,
    "value_and_grad": bm.value_and_grad,
    "jacfwd": bm.jacfwd,
    "jacrev": bm.jacrev,
    "hessian": bm.hessian,
    "grad_of_grad": lambda f: bm.grad(bm.grad(f)),
    "grad_inside": lambda f: bm.grad(lambda x: x * bm.grad(f)(x)),
    "vjp": lambda f: lambda x: bm.vjp(f, x)[1](1.0),
    "jvp": lambda f: lambda x: bm.jvp(f, (x,), (1.0,)),
    "linearize": lambda f: lambda x: bm.linearize(f, x)[1](1.0),
    "made_anew": lambda f: lambda x: bm.grad(lambda x: f(x))(x),
}
OF_JAX = {
    "grad_of_grad": lambda f: jax.grad(jax.grad(f)),
    "grad_inside": lambda f: jax.grad(lambda x: x * jax.grad(f)(x)),
    "vjp": lambda f: lambda x: jax.vjp(f, x)[1](1.0),
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (1.0,)),
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](1.0),
    "made_anew": lambda f: jax.grad(f),
}


class Counted:
    """A function that counts its calls; its method, as functions of one code are made anew."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def call(self, x):
        self.calls += 1
        return self.function(x)


@pytest.mark.parametrize(
    "way", [by_sign, by_number, by_selection, by_size], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_functions_that_ask_run_once_at_each_call(name, way):
    counted = Counted(way)
    of_bm, of_jax = TRANSFORMS[name](counted.call), OF_JAX.get(name, getattr(jax, name, None))(way)
    for count, x in enumerate((2.5, -0.5, 2.5, 1.5), 1):
        got, want = of_bm(x), of_jax(x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), got, want)
        assert counted.calls == count


@pytest.mark.parametrize("way", [by_item, by_sign], ids=lambda f: f.__name__)
def test_so_they_do_where_variables_decide(way):
    variable, factor = bm.Variable(jnp.float32(2.5)), bm.Variable(jnp.float32(3.0))
    calls = bm.Variable(jnp.int32(0))

    def loss(x):
        calls.value = calls + 1
        traced.append(x)
        return way(variable.value) * factor * x

    traced, gradient = [], bm.grad(loss, factor)
    for count, value in enumerate((2.5, -0.5, 1.5), 1):
        variable.value = jnp.float32(value)
        np.testing.assert_allclose(gradient(2.0), 2.0 * way(value), 1e-6)
        assert len(traced) == count
        assert int(calls) == count


def test_items_of_iterators_are_not_lost():
    items = iter([jnp.float32(3.0), jnp.float32(4.0)])

    def loss(x):
        y = next(items) * x
        return y if y > 0 else 0.0 * x

    assert [float(bm.grad(loss)(2.0)) for _ in range(2)] == [3.0, 4.0]


def test_there_is_one_error_of_what_asks_and_fails():
    calls = []

    def loss(x):
        calls.append(x)
        if x > 0:
            raise RuntimeError("as it should")
        return x

    gradient = bm.grad(loss)
    for count in (1, 2):
        with pytest.raises(RuntimeError, match="as it should"):
            gradient(0.5)
        assert len(calls) == count
    assert float(gradient(-0.5)) == 1.0


def test_code_that_can_do_without_a_value_does():
    traced, seen = [], []

    def loss(x):
        traced.append(x)
        seen.append(f"{x}" + repr(hasattr(x, "devices_of")))
        return jnp.sin(x) * jnp.cos(1.0)

    gradient = bm.grad(loss)
    for x in (0.5, 0.7):
        np.testing.assert_allclose(gradient(x), np.cos(x) * np.cos(1.0), 1e-6)
    assert len(traced) == 1
    assert "0.5" not in seen[0]


@pytest.mark.parametrize("asks", [lambda x: x[0] > 0, lambda x: jnp.sin(1.0) > 0])
def test_new_shapes_may_ask_for_the_first_time(asks):
    def loss(x):
        if x.ndim and asks(x):
            return jnp.sum(jnp.sin(x))
        return jnp.sum(jnp.cos(x))

    of_bm, of_jax = bm.grad(loss), jax.grad(loss)
    for x in (jnp.float32(0.5), jnp.float32(0.7), jnp.float32([0.5, 1.0]), jnp.float32([-0.5])):
        np.testing.assert_allclose(of_bm(x), of_jax(x), 1e-6)


def test_what_the_first_call_was_given_goes_with_the_last_reference():
    gc.collect()
    gc.disable()
    try:
        gradient = bm.grad(lambda x: by_sign(jnp.sum(x)))
        x = jnp.full(5, 0.5)
        held = weakref.ref(x)
        gradient(x)
        del x
        assert held() is None
    finally:
        gc.enable()


def asks_and_catches(x):
    try:
        return x**2 if x > 1 else x**3
    except TypeError:
        return 100.0 * x


def masks_and_catches(x):
    row = jnp.stack([x, -x])
    try:
        return jnp.sum(row[row > 0] ** 2)
    except IndexError:
        return 100.0 * x


@pytest.mark.parametrize("way", [asks_and_catches, masks_and_catches], ids=lambda f: f.__name__)
@pytest.mark.parametrize("user", ["function", "rule", "backward", "cotangent"])
@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_functions_with_rules_and_rules_that_catch_the_error_have_values(kind, user, way):
    def run(m):
        here = {name: way if name == user else jnp.sin for name in ("function", "rule", "backward")}
        of_cotangent = way if user == "cotangent" else lambda ct: ct
        f = getattr(jax, kind)(here["function"])
        if kind == "custom_jvp":
            f.defjvp(lambda p, t: (f(*p), t[0] * here["rule"](*p)))
        else:
            f.defvjp(
                lambda x: (here["rule"](x), x),
                lambda x, ct: (of_cotangent(ct) * here["backward"](x),),
            )
        return [m.value_and_grad(lambda x: f(x) * x)(x) for x in (0.5, 2.0)], m.grad(f)(3.0)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), run(bm), run(jax))


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_so_does_who_calls_a_function_with_rules_that_asks(kind):
    def run(m):
        f = getattr(jax, kind)(lambda x: x**2 if x > 1 else x**3)
        if kind == "custom_jvp":
            f.defjvp(lambda p, t: (f(*p), 2 * p[0] * t[0]))
        else:
            f.defvjp(lambda x: (f(x), x), lambda x, ct: (2 * x * ct,))

        def loss(x):
            try:
                return f(x) * x
            except TypeError:
                return 100.0 * x

        return [m.value_and_grad(loss)(x) for x in (0.5, 2.0)]

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), run(bm), run(jax))


def test_backward_rules_may_use_masks_and_sizes():
    def backward(x, ct):
        ones = jnp.ones(int(jnp.sum(x > 0)))
        return (ct * jnp.zeros(3).at[x > 0].set(ones) + x[x > 1][0],)

    def run(m):
        f = jax.custom_vjp(lambda x: jnp.sum(x**2))
        f.defvjp(lambda x: (jnp.sum(x**2), x), backward)
        return m.grad(f)(jnp.asarray([0.5, -1.0, 2.0]))

    np.testing.assert_allclose(run(bm), run(jax))


def test_methods_with_arguments_of_their_own_are_different_functions():
    class Model:
        def scaled(self, factor, x):
            return factor * x**2

        double = functools.partialmethod(scaled, 2.0)
        triple = functools.partialmethod(scaled, 3.0)

    model = Model()
    double, triple = model.double, model.triple
    assert (bm.grad(double)(1.0), bm.grad(triple)(1.0)) == (4.0, 6.0)
    assert (bm.grad(model.double)(1.0), bm.grad(model.triple)(1.0)) == (4.0, 6.0)


@pytest.mark.parametrize("way", [by_sign, jnp.sin], ids=["at_values", "traced"])
def test_what_functions_are_given_is_of_jax(way):
    """Libraries (autoray) choose by it what to call."""
    kinds = []
    bm.grad(lambda x: kinds.append(type(x)) or way(x))(1.5)
    assert {kind.__module__.partition(".")[0] for kind in kinds} == {"jax"}


def test_errors_about_tracers_without_a_trace_are_made():
    class Tracer(jax.core.Tracer):
        __slots__ = ()
        aval = jax.core.ShapedArray((3,), np.dtype("float32"))

        def __init__(self):
            self._trace = None

    error = jax.errors.ConcretizationTypeError(Tracer())
    assert "float32[3]" in str(error)
