"""Values of types that users define with hijax, in functions and as what is differentiated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hijax_types import (
    ARRAY,
    Element,
    MutableType,
    OlderPrimitive,
    Operation,
    Pair,
    PairType,
    Quantize,
    Quantized,
    QuantizedType,
    X,
    dequantize,
    first,
    make_pair,
    quantize,
    second,
)
from import_helpers import jax_flag
from jax.experimental import hijax

import bmgrad.math as bm

# -- In functions ----------------------------------------------------------------------------------


def in_line(x):
    pair = make_pair(x * x, jnp.sin(x))
    return (first(pair) * second(pair) + dequantize(quantize(x)) ** 2).sum()


def captured(x):
    return (first(PAIR) * x + dequantize(QUANTIZED) * x**2).sum()


PAIR, QUANTIZED = Pair(X + 1, 2 * X), Quantized(jnp.array([10, -20, 127], np.int8), jnp.array(0.1))


def in_calls(x):
    twice = jax.jit(lambda pair, value: (make_pair(second(pair), first(pair)), value))
    pair, value = twice(*twice(make_pair(x, x**3), quantize(x)))
    return (first(pair) * second(pair) * dequantize(value)).sum()


def in_scan(x):
    def step(carry, row):
        pair, value = carry
        pair = make_pair(jnp.sin(second(pair)), first(pair) * dequantize(row))
        return (pair, quantize(dequantize(value) * 1.5)), quantize(first(pair))

    rows = quantize(jnp.outer(jnp.arange(1.0, 4.0), x))
    (pair, value), ys = jax.lax.scan(step, (make_pair(x, x), quantize(x)), rows, length=3)
    return (first(pair) * dequantize(value)).sum() + (dequantize(ys) ** 2).sum()


def in_branches(x):
    def of(scale):
        return lambda x: (make_pair(scale * x, x**2), quantize(scale * x))

    pair, value = jax.lax.cond(x[0] > 0, of(2.0), of(3.0), x)
    other, _ = jax.lax.switch(2, [of(1.0), of(2.0), of(5.0)], x)
    return (first(pair) * second(other) * dequantize(value)).sum()


def in_vmap(x):
    rows = jnp.outer(jnp.arange(1.0, 4.0), x)
    return jax.vmap(lambda row: (dequantize(quantize(row * row)) * row).sum())(rows).sum()


FUNCTIONS = [in_line, captured, in_calls, in_scan, in_branches, in_vmap]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint], ids=["", "jit", "remat"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_are_those_of_jax(function, wrap):
    expected_value, expected = jax.value_and_grad(function)(X)
    value, gradient = bm.value_and_grad(wrap(function))(X)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(bm.grad(wrap(function)))(X), expected, rtol=1e-5)


@pytest.mark.parametrize("function", [in_line, in_calls, in_branches, in_vmap])
def test_second_derivatives_are_those_of_jax(function):
    def second(grad):
        return grad(lambda x: (grad(function)(x) * jnp.arange(1.0, 4.0)).sum())

    np.testing.assert_allclose(second(bm.grad)(X), second(jax.grad)(X), rtol=1e-4)


def of_pairs(x):
    def step(pair, _):
        return make_pair(jnp.sin(second(pair)), first(pair) * 2), first(pair)

    pair, ys = jax.lax.scan(step, make_pair(x, x * x), None, length=3)
    pair = jax.lax.cond(x[0] > 0, lambda p: make_pair(second(p), first(p)), lambda p: p, pair)
    return first(pair) * second(pair) + ys.sum(0)


def test_forward_mode_is_that_of_jax():
    direction = jnp.array([1.0, -0.5, 2.0])
    value, tangent = jax.jvp(of_pairs, (X,), (direction,))
    for got in (
        bm.jvp(of_pairs, (X,), (direction,)),
        (bm.linearize(of_pairs, X)[0], bm.linearize(of_pairs, X)[1](direction)),
    ):
        np.testing.assert_allclose(got[0], value, rtol=1e-6)
        np.testing.assert_allclose(got[1], tangent, rtol=1e-6)


def test_loops_that_depend_on_data():
    def function(x):
        def step(carry):
            i, pair = carry
            return i + 1, make_pair(jnp.sin(second(pair)), first(pair) * 2)

        _, pair = jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, make_pair(x, x)))
        return first(pair)

    np.testing.assert_allclose(bm.jit(function)(X), jnp.sin(2 * jnp.sin(X)), rtol=1e-6)
    _, tangent = bm.jvp(function, (X,), (jnp.ones(3),))
    np.testing.assert_allclose(tangent, jax.jvp(function, (X,), (jnp.ones(3),))[1], rtol=1e-6)


# -- Rules -----------------------------------------------------------------------------------------


def test_rules_are_honoured_in_both_modes():
    def function(x):
        return first(make_pair(x, x), scale=10)

    np.testing.assert_allclose(bm.grad(lambda x: function(x).sum())(X), [10.0] * 3)
    np.testing.assert_allclose(bm.jvp(function, (X,), (jnp.ones(3),))[1], [10.0] * 3)


def test_a_rule_is_told_which_arguments_are_perturbed():
    told = []

    class Told(Element):
        def vjp_fwd(self, flags, pair):
            told.append(flags)
            return super().vjp_fwd(flags, pair)

        jvp = Operation.jvp

    def function(x, y):
        return (Told(PairType(ARRAY, ARRAY), 0, 1)(make_pair(x, x)) * y).sum()

    bm.grad(function, argnums=1)(X, X)
    assert not told
    bm.grad(function)(X, X)
    assert told == [(True,)]


class Sum(Operation):
    """Has no rules."""

    def __init__(self, ty):
        self.in_avals, self.out_aval, self.params = (ty,), ARRAY, {}
        super().__init__()

    def expand(self, value):
        if isinstance(value, Pair):
            return value.first * value.second
        return value.integers * value.scale


def test_without_a_rule_the_expansion_is_differentiated_where_it_knows_what_moves():
    gradient = bm.grad(lambda x: Sum(PairType(ARRAY, ARRAY))(make_pair(x, jnp.sin(x))).sum())
    np.testing.assert_allclose(gradient(X), jnp.sin(X) + X * jnp.cos(X), rtol=1e-6)

    def of_quantized(x):
        return Sum(QuantizedType((3,)))(quantize(x)).sum()

    assert np.isfinite(bm.jit(of_quantized)(X))
    with pytest.raises(NotImplementedError, match=r"Sum.* must implement `lin`"):
        bm.grad(of_quantized)(X)


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, quantize(x)), lambda kept, ct: (3 * dequantize(kept) ** 2 * ct,))


@jax.custom_vjp
def scaled(value, x):
    return quantize(dequantize(value) * x)


scaled.defvjp(
    lambda value, x: (scaled(value, x), (value, x)),
    lambda kept, ct: (10 * ct * kept[1], 7 * ct * dequantize(kept[0])),
)


@jax.custom_jvp
def halves(pair):
    return make_pair(first(pair) / 2, second(pair) / 2)


@halves.defjvp
def _(primals, tangents):
    (pair,), (dot,) = primals, tangents
    return halves(pair), make_pair(5 * first(dot), second(dot))


WITH_RULES = [
    lambda x: cube(x).sum(),
    lambda x: jax.lax.scan(lambda c, _: (cube(c) / 2, None), x, None, length=2)[0].sum(),
    lambda x: dequantize(scaled(quantize(x * x), x)) @ X,
    lambda x: dequantize(scaled(scaled(QUANTIZED, x), x)) @ X,
    lambda x: first(halves(make_pair(x * x, x))) @ X,
    lambda x: second(halves(halves(make_pair(x * x, x)))) @ X,
]


@pytest.mark.parametrize("function", WITH_RULES)
def test_functions_with_rules_of_their_own(function):
    np.testing.assert_allclose(bm.grad(function)(X), jax.grad(function)(X), rtol=1e-6)
    np.testing.assert_allclose(bm.grad(jax.jit(function))(X), jax.grad(function)(X), rtol=1e-6)


@pytest.mark.parametrize("flag", ["jax_custom_vjp3", "jax_custom_jvp3", "jax_remat3"])
def test_functions_that_jax_keeps_as_objects(flag):
    with jax_flag(flag):
        for function in (in_line, in_branches, *WITH_RULES):
            expected = jax.grad(lambda x: function(x))(X)  # noqa: B023 - called at once.
            got = bm.grad(jax.checkpoint(lambda x: function(x)))(X)  # noqa: B023
            np.testing.assert_allclose(got, expected, rtol=1e-5)


# -- As what is differentiated ---------------------------------------------------------------------


def test_a_pair_has_a_pair_as_its_gradient():
    def function(pair, x):
        return (first(pair, scale=10) * second(pair) * x).sum()

    pair = Pair(X, X + 1)
    for _ in range(2):  # The second call takes another way.
        value, gradient = bm.value_and_grad(function)(pair, X)
        assert isinstance(gradient, Pair)
        np.testing.assert_allclose(value, (X * (X + 1) * X).sum(), rtol=1e-6)
        np.testing.assert_allclose(gradient.first, 10 * (X + 1) * X, rtol=1e-6)
        np.testing.assert_allclose(gradient.second, X * X, rtol=1e-6)
    gradients = bm.grad(function, argnums=(0, 1))({"x": pair}["x"], X)
    np.testing.assert_allclose(gradients[1], X * (X + 1), rtol=1e-6)
    np.testing.assert_allclose(bm.grad(function, argnums=1)(pair, X), X * (X + 1), rtol=1e-6)


def test_a_quantized_array_has_an_array_as_its_gradient():
    def function(value):
        return (dequantize(value) ** 3).sum()

    value = quantize(X)
    expected = 3 * dequantize(value) ** 2
    np.testing.assert_allclose(bm.grad(function)(value), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(function)(value), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(bm.grad(function))(value), expected, rtol=1e-6)


def test_primals_and_results_of_vjp_jvp_and_linearize():
    def function(pair, x):
        return {"pair": make_pair(second(pair) * x, first(pair)), "x": x}

    pair, ct = Pair(X, X + 1), {"pair": Pair(X, 2 * X), "x": X}
    out, pullback = bm.vjp(function, pair, X)
    assert isinstance(out["pair"], Pair)
    expected = jax.vjp(function, pair, X)[1](ct)
    for got in (pullback(ct), jax.jit(lambda f, ct: f(ct))(pullback, ct)):
        np.testing.assert_allclose(got[0].first, expected[0].first, rtol=1e-6)
        np.testing.assert_allclose(got[0].second, expected[0].second, rtol=1e-6)
        np.testing.assert_allclose(got[1], expected[1], rtol=1e-6)

    tangents = Pair(2 * X, X * X), X**3
    _, expected = jax.jvp(function, (pair, X), tangents)
    _, tangent = bm.jvp(function, (pair, X), tangents)
    _, pushforward = bm.linearize(function, pair, X)
    for got in (tangent, pushforward(*tangents)):
        np.testing.assert_allclose(got["pair"].first, expected["pair"].first, rtol=1e-6)
        np.testing.assert_allclose(got["pair"].second, expected["pair"].second, rtol=1e-6)
    with pytest.raises(ValueError, match="tree"):
        pullback(X)


def test_quantized_results_have_arrays_as_cotangents():
    out, pullback = bm.vjp(quantize, X)
    assert isinstance(out, Quantized)
    np.testing.assert_allclose(pullback(X)[0], X)
    out, aux = bm.grad(lambda x: ((x * x).sum(), quantize(x)), has_aux=True)(X)
    np.testing.assert_array_equal(aux.integers, quantize(X).integers)


def test_jit_takes_and_returns_values():
    function = bm.jit(lambda pair, x: (make_pair(second(pair) + x, first(pair)), quantize(x)))
    for _ in range(2):
        pair, value = function(Pair(X, X + 1), X)
        np.testing.assert_allclose(pair.first, 2 * X + 1)
        np.testing.assert_array_equal(value.integers, quantize(X).integers)


def test_integers_of_a_pair_have_no_gradient():
    pair = Pair(X, jnp.arange(3))
    gradient = bm.grad(lambda pair: (first(pair) * second(pair)).sum())(pair)
    np.testing.assert_allclose(gradient.first, jnp.arange(3.0))
    assert gradient.second.dtype == jax.dtypes.float0


def test_variables_and_values():
    w = bm.TrainVar(X)

    def function(pair):
        return (first(pair) * w * second(make_pair(w.value, w.value * w.value))).sum()

    gradients = bm.grad(function, grad_vars=w)(Pair(X, X))
    np.testing.assert_allclose(gradients, 3 * X**3, rtol=1e-6)


# -- Types that do not say what they lower to ------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bare:
    integers: Any
    scale: Any


@dataclasses.dataclass(frozen=True)
class BareType(hijax.HiType):
    shape: tuple[int, ...]

    def to_tangent_aval(self):
        return jax.core.ShapedArray(self.shape, np.dtype("float32"))

    def str_short(self, *_, **__):
        return "BareType"


hijax.register_hitype(Bare, lambda value: BareType(value.integers.shape))


class ToBare(Quantize):
    def __init__(self, aval):
        super().__init__(aval)
        self.out_aval, self.out_avals_flat = BareType(aval.shape), [BareType(aval.shape)]

    def expand(self, x):
        value = super().expand(x)
        return Bare(value.integers, value.scale)


def bare(x):
    return ToBare(jax.typeof(x))(x)


def test_types_that_do_not_say_what_they_lower_to():
    def function(x):
        return (dequantize(bare(x * x)) ** 2).sum()

    np.testing.assert_allclose(bm.grad(function)(X), jax.grad(function)(X), rtol=1e-6)
    value = Bare(jnp.array([1, 2, 127], np.int8), jnp.array(0.5))
    gradient = bm.grad(lambda x: (dequantize(value) * x).sum())(X)
    np.testing.assert_allclose(gradient, [0.5, 1.0, 63.5])


# -- Primitives of the older interface -------------------------------------------------------------


@pytest.mark.skipif(OlderPrimitive is None, reason="this JAX has no HiPrimitive")
def test_primitives_of_the_older_interface():
    class Swap(OlderPrimitive):
        def abstract_eval(self, ty, *, scale):
            return PairType(ty.second, ty.first), set()

        def to_lojax(self, pair, *, scale):
            return Pair(pair.second, pair.first)

        def jvp(self, primals, tangents, *, scale):
            (pair,), (dot,) = primals, tangents
            swapped = self.bind(dot, scale=scale)
            return self.bind(pair, scale=scale), make_pair(scale * first(swapped), second(swapped))

    swap = Swap("swap")

    def function(x):
        return first(swap.bind(make_pair(x, x * x), scale=10)).sum()

    np.testing.assert_allclose(bm.grad(function)(X), 10 * 2 * X, rtol=1e-6)
    np.testing.assert_allclose(bm.jit(function)(X), (X * X).sum(), rtol=1e-6)


# -- What is refused -------------------------------------------------------------------------------


@pytest.mark.skipif(MutableType is None, reason="this JAX has no types whose values change")
def test_values_that_change_are_refused():
    from jax._src.hijax import Box

    def makes_one(x):
        return Box(first(make_pair(x, x))).get().sum()

    def closes_over_one(x):
        box.set(jax.lax.stop_gradient(x))
        return (first(make_pair(x, x)) * box.get()).sum()

    box = Box(X)
    for function in (makes_one, closes_over_one):
        with pytest.raises(NotImplementedError, match="no values of type BoxTy") as raised:
            bm.grad(function)(X)
        assert f"{__file__}:" in str(raised.value)
    with pytest.raises(NotImplementedError, match="no values of type BoxTy"):
        bm.grad(lambda x: (x * box.get()).sum())(X)
    with pytest.raises(NotImplementedError, match="`new_box`"):
        bm.grad(lambda x: Box(x).get().sum())(X)


def test_other_operations_on_values_are_refused():
    def function(x):
        return first(jax.lax.optimization_barrier(make_pair(x, x))).sum()

    with pytest.raises(NotImplementedError, match=r"`optimization_barrier`: it takes") as e:
        bm.grad(function)(X)
    assert f"{__file__}:" in str(e.value)


def test_types_that_lower_to_types_are_refused():
    with pytest.raises(NotImplementedError, match=r"lowers to values of type .*say arrays"):
        bm.grad(lambda x: (first(first(make_pair(make_pair(x, x), x))) ** 2).sum())(X)


def test_types_without_tangents_are_refused_where_a_derivative_needs_them():
    class Plain(QuantizedType):
        to_tangent_aval = hijax.HiType.to_tangent_aval

    class ToPlain(Quantize):
        def __init__(self, aval):
            super().__init__(aval)
            self.out_aval, self.out_avals_flat = Plain(aval.shape), [Plain(aval.shape)]

    def function(x):
        value = ToPlain(jax.typeof(x))(x)
        return Sum(jax.typeof(value))(value).sum()

    assert np.isfinite(bm.jit(function)(X))
    with pytest.raises(NotImplementedError, match=r"Plain.* have no derivative in bmgrad programs"):
        bm.grad(function)(X)


def test_vmap_jacobians_and_stages_refuse_values():
    pair = make_pair(X, X)
    with pytest.raises(NotImplementedError, match="vmap cannot map over values of type PairType"):
        bm.vmap(first)(pair)
    with pytest.raises(NotImplementedError, match="vmap cannot map over values of type PairType"):
        bm.vmap(lambda x: make_pair(x, x))(X)
    mapped = bm.vmap(lambda pair, x: first(pair) * x, in_axes=(None, 0))(pair, jnp.arange(2.0))
    np.testing.assert_allclose(mapped, [0 * X, X])
    with pytest.raises(TypeError, match="argument 0 of jacrev has a value of type PairType"):
        bm.jacrev(first)(pair)
    with pytest.raises(TypeError, match="jacfwd requires results that are arrays"):
        bm.jacfwd(lambda x: make_pair(x, x))(X)
    with pytest.raises(TypeError, match="compiled ahead of time cannot"):
        bm.jit(first).lower(pair)
