"""Python code that decides by values: `if x > 0`, `while`, `int(n)`, outside jit as with JAX."""

import dataclasses
import enum
import gc
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm


def branches(x):
    return jnp.sin(x) if x > 0 else x**3


def halvings(x):
    while jnp.abs(x).sum() > 0.5:
        x = jnp.sin(x) * 0.5
    return (x**2).sum()


def power(x, n):
    for _ in range(n):
        x = x * x
    return x


def exponent(x):
    return x ** int(x)


@jax.custom_jvp
def own_forward(x):
    return jnp.sin(x) if x > 0 else jnp.cos(x)


@own_forward.defjvp
def own_forward_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return own_forward(x), (2.0 * dx * jnp.cos(x) if x > 0 else 3.0 * dx * x)


@jax.custom_vjp
def own_reverse(x):
    return jnp.sin(x) if x > 0 else jnp.cos(x)


own_reverse.defvjp(
    lambda x: (own_reverse(x), jnp.cos(x) if x > 0 else x), lambda slope, ct: (2.0 * slope * ct,)
)


@jax.custom_vjp
def own_backward(x, n):
    return jnp.sin(x) * n


def own_backward_rule(residuals, ct):
    slope, x, n = residuals
    steep = slope > 0.2
    return (ct * slope if steep and x > 0 else ct * x * 5.0) * int(n), None


own_backward.defvjp(lambda x, n: (own_backward(x, n), (jnp.cos(x), x, n + 1)), own_backward_rule)


DIFFERENTIATED = {
    "grad": (bm.grad, jax.grad),
    "value_and_grad": (bm.value_and_grad, jax.value_and_grad),
    "jacrev": (bm.jacrev, jax.jacrev),
    "jacfwd": (bm.jacfwd, jax.jacfwd),
    "hessian": (bm.hessian, jax.hessian),
    "grad of grad": (lambda f: bm.grad(bm.grad(f)), lambda f: jax.grad(jax.grad(f))),
    "jax.grad of ours": (lambda f: jax.grad(bm.grad(f)), lambda f: jax.grad(jax.grad(f))),
    "ours of jax.grad": (lambda f: bm.grad(jax.grad(f)), lambda f: jax.grad(jax.grad(f))),
    "vjp": (lambda f: lambda x: bm.vjp(f, x)[1](1.0), lambda f: lambda x: jax.vjp(f, x)[1](1.0)),
    "jvp": (
        lambda f: lambda x: bm.jvp(f, (x,), (1.0,)),
        lambda f: lambda x: jax.jvp(f, (x,), (1.0,)),
    ),
    "linearize": (
        lambda f: lambda x: bm.linearize(f, x)[1](1.0),
        lambda f: lambda x: jax.linearize(f, x)[1](1.0),
    ),
}


@pytest.mark.parametrize("point", [0.7, -1.3, 2.5])
@pytest.mark.parametrize("function", [branches, halvings, exponent])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_as_jax_outside_jit(name, function, point):
    ours, theirs = DIFFERENTIATED[name]
    got, expected = ours(function)(point), theirs(function)(point)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, expected)


def test_functions_with_rules_of_their_own():
    for point in (0.7, -1.3):
        for function in (own_forward, own_reverse):
            for nested in (function, lambda x, f=function: jnp.exp(f(x)) * x):
                ours, theirs = bm.grad(nested)(point), jax.grad(nested)(point)
                np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_each_call_decides_anew():
    g = bm.grad(branches)
    for x in (1.0, -1.0, 2.0, -2.0):
        assert float(g(x)) == pytest.approx(float(jax.grad(branches)(x)))


def test_a_path_is_compiled_once(caplog):
    def loss(x):
        return jnp.cos(x) * x if x > 0 else x**5

    def compilations(x):
        caplog.clear()
        with jax.log_compiles():
            bm.grad(loss)(x)
        return sum("Finished XLA compilation" in message for message in caplog.messages)

    assert compilations(1.0) > 0
    assert compilations(1.5) == 0
    assert compilations(-1.5) > 0
    assert compilations(-2.5) == 0


@pytest.mark.parametrize("x", [1.2, -0.5, 3.0])
def test_backward_rules_decide_by_residuals(x):
    fun = lambda x: jnp.tanh(own_backward(x * 0.5, 2)) ** 2  # noqa: E731
    for ours, jaxs in (DIFFERENTIATED[name] for name in ("grad", "vjp", "grad of grad")):
        np.testing.assert_allclose(ours(fun)(x), jaxs(fun)(x), rtol=1e-5)


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_rules_that_call_their_function_are_asked_once(kind):
    """At the values of the call around it, that call is the same one."""
    asked = []

    def slope(x):
        asked.append(1)
        return jnp.cos(x)

    fun = getattr(jax, kind)(lambda x: jnp.sin(x) if x > 0 else x)
    if kind == "custom_jvp":
        fun.defjvp(lambda x, dx: (fun(*x), slope(*x) * dx[0]))
    else:
        fun.defvjp(lambda x: (fun(x), slope(x)), lambda residual, ct: (residual * ct,))
    first, second = bm.grad(lambda x: fun(x) * 3), bm.grad(bm.grad(fun))
    for _ in range(2):
        for grad, want in ((first, 3 * jnp.cos(1.0)), (second, -jnp.sin(1.0))):
            asked.clear()
            np.testing.assert_allclose(grad(1.0), want, rtol=1e-6)
            assert len(asked) == 1


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_rules_decide_anew_at_other_values(kind):
    """Where the function, which does not decide, is the same, and where the rule calls it there."""

    def slope(x):
        return fun(x - 2) if x > 0 else 10 * fun(x - 2)

    fun = getattr(jax, kind)(jnp.sin)
    if kind == "custom_jvp":
        fun.defjvp(lambda x, dx: (fun(*x), slope(*x) * dx[0]))
    else:
        fun.defvjp(lambda x: (fun(x), slope(x)), lambda residual, ct: (residual * ct,))
    want = np.sin(-1.0) + 10 * np.sin(-3.0)
    np.testing.assert_allclose(bm.grad(lambda x: fun(x) + fun(x - 2))(1.0), want, rtol=1e-6)
    np.testing.assert_allclose(bm.grad(bm.grad(fun))(1.0), 10 * np.sin(-3.0), rtol=1e-6)


def test_backward_rules_do_not_decide_under_jit():
    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.jit(bm.grad(lambda x: own_backward(x, 2)))(1.0)


def test_what_is_traced_anew_is_not_compiled_anew(caplog):
    @jax.custom_jvp
    def refusing(x):
        return jnp.sin(x)

    @refusing.defjvp
    def rule(primals, tangents):
        raise RuntimeError("mine")

    def fun(x):
        return jnp.cos(x) * jnp.tanh(x) + refusing(jax.lax.stop_gradient(x))

    def compilations():
        caplog.clear()
        with jax.log_compiles():
            for _ in range(2):
                bm.vjp(fun, 0.3)[1](1.0)
        return sum("Finished XLA compilation" in message for message in caplog.messages)

    assert compilations() > 0
    assert compilations() == 0


def test_nothing_is_traced_twice_inside_jit():
    calls = []

    def fun(x):
        calls.append(x)
        return x if x > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        jax.jit(lambda x: bm.jvp(fun, (x,), (x,)))(1.0)
    assert len(calls) == 1


def test_integer_arguments():
    g = bm.grad(lambda x, n: power(x, int(n)))
    assert float(g(1.1, 2)) == pytest.approx(4 * 1.1**3)
    assert float(g(1.1, 3)) == pytest.approx(8 * 1.1**7)


class Gate(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.Variable(bm.ones(3))
        self.calls = bm.Variable(bm.zeros(()))

    def loss(self, x):
        self.calls.value = self.calls + 1
        if self.calls > 1:
            self.w.value = self.w * 2
        return (self.w * x).sum() if self.w.sum() > 2 else (self.w * x**2).sum()


def test_variables_decide_and_are_written():
    gate = Gate()
    g = bm.grad(gate.loss, grad_vars=gate.w)
    np.testing.assert_allclose(g(3.0), [3, 3, 3])
    assert gate.calls == 1
    np.testing.assert_allclose(g(3.0), [6, 6, 6])
    np.testing.assert_allclose(gate.w, [2, 2, 2])
    gate.w.value = bm.zeros(3)
    np.testing.assert_allclose(g(3.0), [18, 18, 18])


def test_nothing_is_written_where_the_function_raises():
    gate = Gate()

    def loss(x):
        value = gate.loss(x)
        if value > 0:
            raise RuntimeError("mine")
        return value

    with pytest.raises(RuntimeError, match="mine"):
        bm.grad(loss, grad_vars=gate.w)(1.0)
    assert gate.calls == 0


def test_inside_jit_it_is_an_error():
    for call in (jax.jit(bm.grad(branches)), bm.jit(branches), bm.jit(bm.grad(branches))):
        with pytest.raises(jax.errors.TracerBoolConversionError, match="branches"):
            call(1.0)


def test_ahead_of_time_it_is_an_error():
    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.grad(branches).trace(1.0)


def test_a_value_that_depends_on_a_batch_is_an_error():
    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.vmap(branches)(jnp.ones(3))
    mapped = bm.vmap(lambda flag, x: x if flag else -x, in_axes=(None, 0))
    np.testing.assert_allclose(mapped(False, jnp.ones(3)), -jnp.ones(3))


def test_printing_happens_once(capfd):
    def loss(x):
        jax.debug.print("at {}", x)
        return branches(x)

    bm.grad(loss)(1.0)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("at 1.0") == 1


def test_what_a_callback_returns_decides_nothing():
    def loss(x):
        seen = jax.experimental.io_callback(lambda y: y, jax.ShapeDtypeStruct((), x.dtype), x)
        return x if seen > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.grad(loss)(jnp.float32(1.0))


def test_the_cache_counts_such_calls_as_misses():
    g = bm.grad(lambda x: branches(x) * 2)
    g(1.0)
    g(1.0)
    info = g.cache_info()
    assert (info.hits, info.misses) == (0, 2)


class Counter(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(jnp.ones(4))
        self.calls = bm.Variable(jnp.zeros(()))

    def loss(self, x, part):
        self.calls += 1
        return (self.w.value[part] * x[part] ** 2).sum()


UNHASHABLE = {
    "slice": (lambda x, s: (x[s] ** 2).sum(), slice(0, 2)),
    "set": (lambda x, s: (x**3).sum() * len(s), {1, 2}),
    "many digits": (lambda x, n: (x**2).sum() * float(n), 2**70),
    "objects": (lambda x, a: (x**2).sum() * a[0], np.array([2.0, "a"], object)),
    "words": (lambda x, a: (x**2).sum() * len(a[0]), np.array(["abc"])),
}


@pytest.mark.parametrize("name", UNHASHABLE)
@pytest.mark.parametrize("transform", ["grad", "hessian", "jacfwd"])
def test_arguments_that_no_program_holds(name, transform):
    """The function is traced at each call with them, as `jax.grad` does."""
    fun, argument = UNHASHABLE[name]
    x = jnp.arange(1.0, 5.0)
    ours, jaxs = (getattr(library, transform)(fun) for library in (bm, jax))
    np.testing.assert_allclose(ours(x, argument), jaxs(x, argument), rtol=1e-6)
    around = jax.jit(lambda x: bm.vmap(lambda x: ours(x, argument))(x[None])[0])
    np.testing.assert_allclose(around(x), jaxs(x, argument), rtol=1e-6)


def test_other_values_of_such_arguments():
    """They may change between calls, and variables are kept."""
    model, x, part = Counter(), jnp.arange(1.0, 5.0), {"end": slice(0, 1)}
    gradient = bm.grad(lambda x, p: model.loss(x, p["end"]), grad_vars=model.w, argnums=0)
    for stop in (1, 3, 2):
        part["end"] = slice(0, stop)
        of_w, of_x = gradient(x, part)
        np.testing.assert_allclose(of_w, jnp.where(jnp.arange(4) < stop, x**2, 0))
        np.testing.assert_allclose(of_x, jnp.where(jnp.arange(4) < stop, 2 * x, 0))
    assert float(model.calls.value) == 3


def test_such_arguments_are_no_part_of_what_is_compiled():
    fun, part = UNHASHABLE["set"]
    x = jnp.arange(4.0)
    for call in (lambda: bm.jit(fun)(x, part), lambda: bm.grad(fun).lower(x, part)):
        with pytest.raises(TypeError, match=r"argument (s|arg1) is a set, which is neither"):
            call()
    with pytest.raises(TypeError, match="argument 1 of grad"):
        bm.grad(fun, argnums=1)(x, part)


# -- Values that JAX's and NumPy's functions ask for -----------------------------------------------


def power_by_loop(x, n):
    return jax.lax.fori_loop(0, n, lambda i, y: y * jnp.sin(x) * 2, x)


XS = jnp.arange(1.0, 4.0)
SIGNS = jnp.array([1.0, -1.0, 1.0])
ASKING = {
    "bound of a loop": (power_by_loop, (2.0, 3)),
    "bound made inside": (lambda x: power_by_loop(x, jnp.array(3)), (2.0,)),
    "mask": (lambda x: x[x > 1.0].sum() ** 2, (XS,)),
    "mask given": (lambda x, mask: (x[mask] ** 2).sum(), (XS, np.array([True, False, True]))),
    "mask of what is closed over": (lambda x: (x[SIGNS > 0] ** 2).sum(), (XS,)),
    "update at a mask": (lambda x: x.at[x > 1.5].set(x[0]).sum(), (XS,)),
    "shape": (lambda x, n: (x * jnp.ones((n, n))).sum(), (2.0, 3)),
    "reshape": (lambda x, n: (x.reshape(n, -1) ** 2).sum(), (XS, 3)),
    "slice": (lambda x, n: (x[:n] ** 2).sum(), (XS, 2)),
    "integer of an array": (lambda x: x if int(jnp.array(3)) == 3 else x * x, (2.0,)),
}
AS_GIVEN = {
    "float": (lambda x, y: x * float(y), (2.0, 3.0)),
    "math": (lambda x, y: x * math.sqrt(y), (2.0, 3.0)),
    "list": (lambda x, y: x * sum(y.tolist()), (2.0, np.ones(3, "f"))),
    "numpy": (lambda x, y: x * np.linalg.norm(np.asarray(y)), (2.0, np.ones(3, "f"))),
    "table": (lambda x, n: {3: x * 2}[n], (2.0, 3)),
    "text": (lambda x, n: x * len(f"{n:d}"), (2.0, 30)),
}


@pytest.mark.parametrize("name", [*ASKING, *AS_GIVEN])
def test_functions_that_ask_for_values(name):
    fun, args = (ASKING | AS_GIVEN)[name]
    expected = jax.grad(fun)(*args)
    gradient = bm.grad(fun)
    for _ in range(2):
        np.testing.assert_allclose(gradient(*args), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ASKING)
def test_functional_forms_ask_for_values(name):
    fun, args = ASKING[name]
    one = jnp.ones_like(fun(*args))
    for ours, jaxs in zip(bm.vjp(fun, *args)[1](one), jax.vjp(fun, *args)[1](one), strict=True):
        assert ours.dtype == jaxs.dtype
        if ours.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(ours, jaxs, rtol=1e-6)


def test_other_bounds_of_a_loop():
    gradient = bm.grad(power_by_loop)
    for n in (1, 3, 2):
        np.testing.assert_allclose(gradient(2.0, n), jax.grad(power_by_loop)(2.0, n), rtol=1e-6)


def test_variables_keep_their_values_where_no_value_helps():
    counter = bm.Variable(jnp.zeros(()))

    def loss(x):
        counter.value = counter.value + 1
        return jax.lax.while_loop(lambda y: y < 10, lambda y: y * x, x)

    for transform in (bm.grad, bm.jacrev):
        with pytest.raises(ValueError, match="trip count is not known"):
            transform(loss)(2.0)
    assert float(counter.value) == 0


def test_such_arguments_compile_nothing_at_each_call(caplog):
    fun, words = UNHASHABLE["words"]
    gradient = bm.grad(fun)

    def compilations(words):
        caplog.clear()
        with jax.log_compiles():
            gradient(jnp.ones(7), words)
        return sum("Finished XLA compilation" in message for message in caplog.messages)

    assert compilations(words) > 0
    assert compilations(words.copy()) == 0


# -- Arguments that are told apart by what they are ----------------------------------------------


class Mode(enum.IntEnum):
    TRAIN = 1
    TEST = 2


def by_identity(x, flag):
    return x * 3 if flag is True or flag is Mode.TRAIN else x * 5


@pytest.mark.parametrize("wrap", [lambda flag: flag, lambda flag: {"flag": flag}])
def test_flags_are_what_was_passed(wrap):
    gradient = bm.grad(lambda x, tree: by_identity(x, jax.tree.leaves(tree)[0]))
    for flag, want in [(True, 3), (False, 5), (Mode.TRAIN, 3), (Mode.TEST, 5), (1, 5), (True, 3)]:
        assert gradient(1.0, wrap(flag)) == want
    # Inside another trace too.
    assert jax.jit(lambda x: gradient(x, wrap(True)))(1.0) == 3
    # An array is no flag, whatever it holds, also where Python's flags came before.
    assert gradient(1.0, wrap(jnp.array(True))) == 5


def test_flags_after_an_array_of_their_type():
    gradient = bm.grad(by_identity)
    assert gradient(1.0, jnp.array(True)) == 5
    assert gradient(1.0, True) == 3


class Rate(float, enum.Enum):
    HALF = 0.5


class Name(enum.StrEnum):
    SQUARE = "square"


@jax.tree_util.register_pytree_node_class
class Settings:
    """A node of pytrees that nobody else knows."""

    def __init__(self, *flags):
        self.flags = flags

    def tree_flatten(self):
        return self.flags, None

    @classmethod
    def tree_unflatten(cls, _, flags):
        return cls(*flags)


@pytest.mark.parametrize("wrap", [lambda flag: flag, lambda flag: [flag], Settings])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("member", "equal"),
    [
        (Mode.TRAIN, 1),
        (Rate.HALF, 0.5),
        (Name.SQUARE, "square"),
        (jax.lax.RoundingMethod.TO_NEAREST_EVEN, 1),
        (True, 1),
        (False, 0),
    ],
)
def test_flags_and_what_is_equal_to_them(member, equal, first, wrap):
    def fun(x, tree):
        (flag,) = jax.tree.leaves(tree)
        return x**2 if flag is member else 3 * x

    gradient = bm.grad(fun)
    for flag in [member, equal, equal, member, member, equal][not first :]:
        assert gradient(2.0, wrap(flag)) == (4 if flag is member else 3)


def test_calls_with_flags_leave_the_others_quick():
    gradient = bm.grad(lambda x, flag: by_identity(x, flag))
    gradient(1.0, 2)
    for _ in range(3):
        gradient(1.0, True)
        before = gradient._state.shortcut.hits
        gradient(1.0, 2)
        assert gradient._state.shortcut.hits == before + 1


def test_flags_that_are_differentiated_or_first_left_out():
    gradient = bm.grad(lambda x, train=False: by_identity(x, train))
    assert gradient(1.0) == 5
    assert gradient(1.0, True) == 3
    assert gradient(1.0, train=True) == 3
    zero = bm.grad(lambda flag: flag * 1.0, allow_int=True)(True)
    assert zero.dtype == jax.dtypes.float0


@partial(jax.jit, static_argnames=("n", "train"))
def jitted_power(x, n=1, train=False):
    return x**n * (3.0 if train else 1.0)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def own_power(n, x):
    return x**n


own_power.defvjp(lambda n, x: (x**n, x), lambda n, x, ct: (ct * n * x ** (n - 1),))


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (lambda: bm.grad(jitted_power)(2.0, 3), 12),
        (lambda: bm.grad(jitted_power)(2.0, n=3, train=True), 36),
        (lambda: bm.jacfwd(jitted_power)(2.0, 3), 12),
        (lambda: bm.grad(lambda x, n: own_power(n, x))(2.0, 3), 12),
        (lambda: bm.vmap(jitted_power, in_axes=(0, None))(jnp.full(2, 2.0), 3), 8),
        (lambda: bm.grad(lambda d, n: d[f"w{n}"] ** 2)({"w1": 2.0}, 1)["w1"], 4),
        (lambda: bm.grad(lambda x, n: x * float(f"{n}"))(2.0, 3), 3),
        (lambda: bm.grad(lambda x, n: x * getattr(jnp, f"float{n}")(2))(2.0, 32), 2),
    ],
)
def test_numbers_that_must_not_be_arrays(call, want):
    np.testing.assert_allclose(call(), want)


def test_objects_that_are_equal_have_their_own_gradients():
    @dataclasses.dataclass(frozen=True)
    class Layer:
        name: str
        weight: float = dataclasses.field(compare=False)

        def loss(self, x):
            return self.weight * x

        def __call__(self, x):
            return self.weight * x

    first, second = Layer("a", 2.0), Layer("a", 3.0)
    assert first == second
    assert bm.grad(first.loss)(1.0) == 2
    assert bm.grad(second.loss)(1.0) == 3
    # Each finds what was compiled for it.
    for layer in (first, second):
        assert bm.grad(layer.loss).cache_info().misses == 1
    of_first, of_second = bm.grad(first), bm.grad(second)
    assert (of_first(1.0), of_second(1.0)) == (2, 3)
    del first, of_first
    gc.collect()
    assert of_second(jnp.float16(1)) == 3
