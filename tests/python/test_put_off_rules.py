"""Derivative rules of calls in other rules: imported when a derivative needs them, not before."""

import gc
import itertools
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental import checkify
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import bmgrad as bp
import bmgrad.math as bm

X = jnp.array([0.5, -1.2, 2.0], np.float32)
asked = []


@pytest.fixture(autouse=True)
def _nothing_asked():
    asked.clear()


class Exponent:
    """Equal to itself only, so each call of the primitive is another one to the importer."""

    def __init__(self, value):
        self.value = value


power_p = Primitive("power")
power_p.def_impl(lambda x, *, exponent: x**exponent.value)
power_p.def_abstract_eval(lambda x, *, exponent: x)
mlir.register_lowering(
    power_p, mlir.lower_fun(lambda x, *, exponent: x**exponent.value, multiple_results=False)
)
batching.primitive_batchers[power_p] = lambda args, axes, *, exponent: (
    power_p.bind(args[0], exponent=exponent),
    axes[0],
)


def power(x, exponent):
    return power_p.bind(x, exponent=Exponent(exponent))


def _power_jvp(primals, tangents, *, exponent):
    (x,), (dx,), n = primals, tangents, exponent.value
    asked.append(n)
    if n == 0:
        raise ValueError("a constant has no derivative here")
    return power_p.bind(x, exponent=exponent), n * power(x, n - 1) * dx


ad.primitive_jvps[power_p] = _power_jvp


def cubes(x):
    return power(x, 3).sum()


def test_a_gradient_asks_for_the_rules_of_its_order():
    np.testing.assert_allclose(bm.grad(cubes)(X), 3 * X**2, rtol=1e-6)
    assert set(asked) == {3}
    second = bm.grad(lambda x: bm.grad(cubes)(x).sum())
    np.testing.assert_allclose(second(X), 6 * X, rtol=1e-6)
    assert set(asked) == {3, 2}


def test_what_a_rule_raises_is_raised_where_it_is_needed():
    third = bm.grad(lambda x: bm.grad(bm.grad(lambda x: power(x, 3)))(x))
    np.testing.assert_allclose(third(0.5), 6.0)
    fourth = bm.grad(third)
    with pytest.raises(ValueError, match="a constant has no derivative"):
        fourth(0.5)


@pytest.mark.parametrize(
    "second",
    [
        lambda f, x: jax.grad(lambda x: bm.grad(f)(x).sum())(x),
        lambda f, x: jax.grad(lambda x: jax.jit(bm.grad(f))(x).sum())(x),
        lambda f, x: bm.vjp(bm.grad(f), x)[1](jnp.ones_like(x))[0],
        lambda f, x: jax.vjp(jax.grad(bm.jit(f)), x)[1](jnp.ones_like(x))[0],
        lambda f, x: bm.jvp(bm.grad(f), (x,), (jnp.ones_like(x),))[1],
        lambda f, x: bm.hessian(f)(x).sum(0),
    ],
)
@pytest.mark.parametrize(
    "mapped",
    [
        cubes,
        lambda x: bm.vmap(lambda x: power(x, 3))(x).sum(),
        lambda x: bm.vmap(bm.vmap(lambda x, y: power(x, 2) * y), in_axes=(0, None))(
            x.reshape(1, 3), x
        ).sum(),
    ],
)
def test_second_derivatives(second, mapped):
    np.testing.assert_allclose(second(mapped, X), 6 * X, rtol=1e-5)


# Linear, with a transpose and no more: for what rules apply to tangents.
scale_p = Primitive("scale")
scale_p.def_impl(lambda x, *, factor: factor.value * x)
scale_p.def_abstract_eval(lambda x, *, factor: x)
mlir.register_lowering(
    scale_p, mlir.lower_fun(lambda x, *, factor: factor.value * x, multiple_results=False)
)
ad.deflinear2(scale_p, lambda ct, x, *, factor: [scale_p.bind(ct, factor=factor)])
batching.defvectorized(scale_p)


def test_transposes_in_a_loop_of_a_rule():
    @jax.custom_jvp
    def repeated(x):
        return 8.0 * x

    @repeated.defjvp
    def _(primals, tangents):
        def step(dx, _):
            return scale_p.bind(dx, factor=Exponent(2.0)), None

        # A primitive that brings rules, so those of this program wait.
        x = primals[0] * power(1.0, 2)
        return repeated(x), lax.scan(step, tangents[0], None, length=3)[0]

    def fun(x):
        return (repeated(x) * power(x, 1)).sum()

    np.testing.assert_allclose(bm.grad(fun)(X), 16 * X, rtol=1e-6)
    _, tangent = bm.jvp(fun, (X,), (X,))
    np.testing.assert_allclose(tangent, (16 * X * X).sum(), rtol=1e-6)

    # The transpose of a batch that is first asked for when the batch is there.
    mapped = bm.vmap(lambda x: bm.grad(lambda x: repeated(x) * power(x, 1))(x))
    np.testing.assert_allclose(mapped(X), 16 * X, rtol=1e-6)


transposed = []


def _product_transpose(ct, x, y, *, label):
    known = [None if ad.is_undefined_primal(each) else each for each in (x, y)]
    transposed.append(tuple(each is None for each in known))
    if known == [None, None]:
        raise ValueError("not linear in both")
    return [None if x is not None else ct * y for x, y in zip(known, known[::-1], strict=True)]


product_p = Primitive("product")
product_p.def_impl(lambda x, y, *, label: x * y)
product_p.def_abstract_eval(lambda x, y, *, label: x)
mlir.register_lowering(
    product_p, mlir.lower_fun(lambda x, y, *, label: x * y, multiple_results=False)
)
ad.primitive_transposes[product_p] = _product_transpose
ad.defjvp(
    product_p,
    lambda dx, x, y, *, label: product_p.bind(dx, y, label=label),
    lambda dy, x, y, *, label: product_p.bind(x, dy, label=label),
)
batching.defbroadcasting(product_p)


def product(x, y):
    return product_p.bind(x, y, label=Exponent(None))


def test_transposes_wait_until_one_is_needed():
    transposed.clear()
    bm.jvp(lambda x: jnp.sin(product(x, X)), (X,), (X,))
    assert transposed == []
    np.testing.assert_allclose(bm.grad(lambda x: product(x, X).sum())(X), X)
    assert transposed == [(True, False)]


@pytest.mark.parametrize("mapped", [False, True])
def test_transposes_in_loops_for_one_operand_and_the_other(mapped):
    """What depends on tangents in a loop is known when it is transposed, not before."""

    @jax.custom_jvp
    def scaled(x, y):
        return x * y**2

    @scaled.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents

        def step(carry, _):
            dx, dy = carry
            return (product(dx, y), product(x * y, dy)), dy

        (dx, dy), dys = lax.scan(step, (dx, dy), None, length=2)
        return scaled(x, y), dx + dys[1] + x * y * dys[0]

    def gradients(library, x, y):
        value = lambda x, y: (scaled(x, y) + power(x, 1)).sum()  # noqa: E731
        return library.grad(value, argnums=(0, 1))(x, y)

    results = []
    for library in (bm, jax):
        of = partial(gradients, library)
        if mapped:
            results.append(jax.jit(jax.vmap(of, (0, None)))(jnp.stack([X, 2 * X]), 1 + X))
        else:
            results.append(jax.jit(of)(X, 1 + X))
    for got, want in zip(*results, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("modes", list(itertools.product(("forward", "reverse"), repeat=3)))
def test_third_derivatives_of_products(modes):
    def derivative(library, fun, mode):
        if mode == "forward":
            return lambda *x: library.jvp(fun, x, tuple(map(jnp.cos, x)))[1]
        return lambda *x: sum(
            jnp.sum(ct * jnp.sin(a))
            for ct, a in zip(library.vjp(fun, *x)[1](jnp.ones(())), x, strict=True)
        )

    results = []
    for library in (bm, jax):
        fun = lambda x, y: jnp.sin(product(x, product(x, y))).sum()  # noqa: E731
        for mode in modes:
            fun = derivative(library, fun, mode)
        results.append(jax.jit(fun)(X, 0.5 + X))
    np.testing.assert_allclose(*results, rtol=1e-4)


def test_rules_told_of_one_argument_are_differentiated_in_another():
    """Each level asks for one argument; the next goes through what the rule gave."""
    fun = jax.custom_jvp(lambda x, y: jnp.sin(x) * y**3)

    def rule(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        terms = [
            factor * t
            for factor, t in ((jnp.cos(x) * y**3, dx), (3 * jnp.sin(x) * y**2, dy))
            if type(t) is not SymbolicZero
        ]
        return fun(x, y), sum(terms)

    fun.defjvp(rule, symbolic_zeros=True)
    for each in (fun, product):

        def third(first, each=each):
            of_y = first(lambda x, y: jnp.tanh(each(x, y)), argnums=1)
            return jax.grad(lambda y: jax.grad(lambda x: of_y(x, y))(0.3))(0.4)

        np.testing.assert_allclose(third(bm.grad), third(jax.grad), rtol=1e-5)


def test_rules_told_of_one_argument_in_batches_of_batches():
    times = jax.custom_jvp(lambda x, y: x * y)
    times.defjvp(lambda xs, dxs: (times(*xs), times(dxs[0], xs[1]) + times(*xs[:1], dxs[1])))
    scaled = jax.custom_jvp(lambda x, y: x * y**2)

    @scaled.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return scaled(x, y), dx * times(y, y) + 2 * dy * times(x, y)

    def third(first):
        of_x = first(lambda x, y: jnp.tanh(scaled(jnp.sin(x), y)).sum(), argnums=0)

        def total(x, y):
            row = lambda x: jax.vmap(of_x, (None, 0))(x, jnp.stack([y, y + 1])).sum()  # noqa: E731
            return jax.vmap(row)(jnp.stack([x, 2 * x, 3 * x])).sum()

        return jax.grad(lambda x, y: jax.grad(total, argnums=1)(x, y).sum())(X, 0.5 + X)

    np.testing.assert_allclose(third(bm.grad), third(jax.grad), rtol=1e-4)


def test_arrays_that_waiting_rules_read():
    table = jnp.array([1.0, 2.0, 4.0])

    @jax.custom_jvp
    def inner(x):
        return x * x

    inner.defjvp(
        lambda primals, tangents: (inner(primals[0]), 2 * table * primals[0] * tangents[0])
    )

    @jax.custom_jvp
    def outer(x):
        return x * x * x / 3

    outer.defjvp(lambda primals, tangents: (outer(primals[0]), inner(primals[0]) * tangents[0]))

    def fun(x):
        return (outer(x) + power(x, 3)).sum()

    np.testing.assert_allclose(bm.grad(fun)(X), 4 * X * X, rtol=1e-6)
    second = bm.grad(lambda x: bm.grad(fun)(x).sum())
    np.testing.assert_allclose(second(X), 2 * table * X + 6 * X, rtol=1e-6)


# The product of two numbers; its rule is told which of them are perturbed.
pair_p = Primitive("pair")
pair_p.def_impl(lambda x, y, *, key: x * y)
pair_p.def_abstract_eval(lambda x, y, *, key: x)
mlir.register_lowering(pair_p, mlir.lower_fun(lambda x, y, *, key: x * y, multiple_results=False))


def pair(x, y):
    return pair_p.bind(x, y, key=Exponent(None))


def _pair_jvp(primals, tangents, *, key):
    x, y = primals
    told = tuple(not isinstance(t, ad.Zero) for t in tangents)
    asked.append(told)
    terms = [t * other for t, other, is_told in zip(tangents, (y, x), told, strict=True) if is_told]
    return pair_p.bind(x, y, key=key), sum(terms)


ad.primitive_jvps[pair_p] = _pair_jvp


@jax.custom_jvp
def integral(x, y):
    return x * x * y / 2


@integral.defjvp
def _integral_jvp(primals, tangents):
    x, y = primals
    dx, dy = tangents
    return integral(x, y), pair(x, y) * dx + x * x / 2 * dy


def slope(x, y):
    """Whose derivatives need the rule of `pair`; the other term makes rules wait."""
    return bm.grad(lambda x: integral(x, y) + power(x, 2))(x)


def test_rules_are_told_what_is_perturbed():
    np.testing.assert_allclose(bm.grad(slope)(2.0, 3.0), 5.0)
    np.testing.assert_allclose(bm.grad(slope, argnums=1)(2.0, 3.0), 2.0)
    assert [told for told in asked if isinstance(told, tuple)] == [(True, False), (False, True)]


def test_rules_that_two_calls_need_for_different_arguments():
    inner = jax.jit(slope)

    def fun(x, y):
        # Perturbed as far as one can tell before differentiating, yet without a tangent.
        return inner(x, jnp.floor(y)) * inner(jnp.floor(x), y)

    # (x (y + 2)) squared, each argument counted once
    slopes = bm.grad(fun, argnums=(0, 1))(np.float32(2.0), np.float32(5.0))
    np.testing.assert_allclose(slopes, (98.0, 28.0), rtol=1e-5)
    assert (True, True) in asked


def test_rules_of_what_no_derivative_perturbs_wait():
    def fun(x, y):
        return power(x, 3) * power(y, 2)

    np.testing.assert_allclose(bm.grad(fun)(2.0, 5.0), 300.0)
    assert asked == [3]
    mixed = bm.grad(lambda y: bm.grad(fun)(2.0, y))
    np.testing.assert_allclose(mixed(5.0), 120.0)
    assert 2 in asked


# Linear in its first operand; its rule refuses derivatives in the second, a state, as solvers do.
scaled_p = Primitive("scaled")
scaled_p.def_impl(lambda x, state: x * state)
scaled_p.def_abstract_eval(lambda x, state: x)
mlir.register_lowering(scaled_p, mlir.lower_fun(lambda x, state: x * state, multiple_results=False))
ad.primitive_transposes[scaled_p] = lambda ct, x, state: (scaled_p.bind(ct, state), None)


def _scaled_jvp(primals, tangents):
    dx, dstate = tangents
    assert isinstance(dstate, ad.Zero), "the state has no derivative"
    return scaled_p.bind(*primals), scaled_p.bind(dx, primals[1])


ad.primitive_jvps[scaled_p] = _scaled_jvp


def test_what_rules_apply_to_tangents_is_told_what_is_perturbed():
    @jax.custom_jvp
    def square(x):
        return x * x

    square.defjvp(
        lambda primals, tangents: (square(*primals), scaled_p.bind(primals[0] * tangents[0], 2.0))
    )

    def fun(x):
        return square(x) * power(x, 2)

    def slope(x):
        return bm.jvp(fun, (x,), (1.0,))[1]

    np.testing.assert_allclose(bm.grad(fun)(3.0), 108.0)
    np.testing.assert_allclose(bm.jvp(slope, (3.0,), (1.0,))[1], 108.0)
    np.testing.assert_allclose(bm.grad(slope)(3.0), 108.0)


def test_calls_of_which_other_results_are_read():
    """The backward rule of `two` is told which results anybody reads."""

    @jax.custom_vjp
    def two(y):
        return jnp.sin(y), jnp.cos(2 * y)

    def bwd(y, cts):
        ct = 0.0
        if not isinstance(cts[0], SymbolicZero):
            ct = ct + cts[0] * jnp.cos(y)
        if not isinstance(cts[1], SymbolicZero):
            ct = ct - 2 * cts[1] * jnp.sin(2 * y)
        return (ct,)

    two.defvjp(lambda y: (two(y.value), y.value), bwd, symbolic_zeros=True)
    inner = jax.jit(two)

    def fun(x, y):
        first, _ = inner(y)
        second, third = inner(y)
        return x * (first + third * second)

    def mixed(lib):
        return lib.grad(lambda y: lib.grad(fun)(1.3, y))(0.7)

    np.testing.assert_allclose(mixed(bm), mixed(jax), rtol=1e-5)


def test_rules_that_do_not_ask_get_all_tangents():
    @jax.custom_jvp
    def product(x, y):
        return x * y

    @product.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return product(x, y), y * dx + x * dy

    @jax.custom_jvp
    def area(x, y):
        return x * x * y / 2

    @area.defjvp
    def _(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        return area(x, y), product(x, y) * dx + x * x / 2 * dy

    second = bm.grad(bm.grad(lambda x: area(x, 3.0) + power(x, 2)))
    np.testing.assert_allclose(second(0.5), 5.0)


def _second_derivative(slope):
    return bm.grad(bm.grad(_rule_in_rule(slope)))


def _rule_in_rule(slope):
    """`x^3 / 3`, whose rule calls `x^2`, whose rule calls `slope`; other rules make that wait."""
    square = jax.custom_jvp(lambda x: x * x)
    square.defjvp(lambda primals, tangents: (square(*primals), slope(primals[0]) * tangents[0]))
    cube = jax.custom_jvp(lambda x: x**3 / 3)
    cube.defjvp(lambda primals, tangents: (cube(*primals), square(*primals) * tangents[0]))
    return lambda x: cube(x) + power(x, 2)


def test_waiting_rules_read_keys():
    key = jax.random.key(3)
    second = _second_derivative(lambda x: 2 * x + 0 * jax.random.normal(key))
    np.testing.assert_allclose(second(0.5), 3.0)


def test_effects_of_waiting_rules_are_refused():
    for slope in (
        lambda x: (jax.debug.print("{}", x), 2 * x)[1],
        lambda x: (checkify.check(x > 1, "small"), 2 * x)[1],
    ):
        with pytest.raises(NotImplementedError, match="of a kind that nothing has"):
            _second_derivative(slope)(0.5)


def test_effects_of_waiting_rules_that_the_program_has_too(capfd):
    def fun(x):
        jax.debug.print("outside")
        return _rule_in_rule(lambda x: (jax.debug.print("inside {}", x), 2 * x)[1])(x)

    np.testing.assert_allclose(bm.grad(bm.grad(fun))(0.5), 3.0)
    jax.effects_barrier()
    printed = capfd.readouterr().out.split()
    assert {"outside", "inside", "0.5"} <= set(printed)


class Layer(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(jnp.ones(3))

    def waiting(self, x):
        return (power(x, 3) * self.w.value).sum()

    def with_rule(self, x):
        scaled = jax.custom_vjp(lambda x: x * self.w.value)
        scaled.defvjp(lambda x: (scaled(x), None), lambda _, ct: (ct * self.w.value,))
        return scaled(x).sum()


@pytest.mark.parametrize("method", ["waiting", "with_rule"])
@pytest.mark.parametrize(
    "transform", [bm.grad, bm.jit, lambda f: bm.grad(lambda x: bm.grad(f)(x).sum())]
)
def test_rules_keep_no_model_alive(method, transform):
    layer = Layer()
    transform(getattr(layer, method))(X)
    alive = weakref.ref(layer)
    del layer
    gc.collect()
    assert alive() is None
