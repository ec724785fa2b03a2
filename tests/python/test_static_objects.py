"""Objects that are arguments: what is in them may change between calls, as under `jax.grad`."""

import concurrent.futures
import dataclasses
import datetime
import decimal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = jnp.ones(2)


class Settings:
    rate = 1.0


@dataclasses.dataclass(frozen=True)
class Named:
    """Equal ones may have other factors."""

    name: str
    factor: float = dataclasses.field(compare=False)


class Net:
    def __call__(self, x):
        return x**2 * self.w


def net(w):
    made = Net()
    made.w = w * jnp.ones(2)
    return made


def changed_settings():
    settings = Settings()
    for settings.rate in RATES:
        yield settings


def changed_function():
    held = {}

    def function(x):
        return x * held["factor"]

    for held["factor"] in RATES:
        yield function


def changed_net():
    made = net(1.0)
    for w in RATES:
        made.w = w * jnp.ones(2)
        yield made


def changed_method():
    for made in changed_net():
        yield made.__call__


# More than are compiled, and some of them again.
RATES = (1.0, 2.0, 1.0, 3.0, 4.0, 5.0, 6.0, 2.0)
CASES = {
    "attribute": (lambda x, s: (x**2 * s.rate).sum(), changed_settings),
    "closure": (lambda x, f: f(x**2).sum(), changed_function),
    "arrays": (lambda x, net: net(x).sum(), changed_net),
    "method": (lambda x, call: call(x).sum(), changed_method),
    "equal": (
        lambda x, named: (x**2 * named.factor).sum(),
        lambda: (Named("rate", factor) for factor in RATES),
    ),
    "types of numbers": (
        lambda x, named: x.sum() * (2.0 if isinstance(named.factor, bool) else 3.0),
        lambda: (Named("rate", factor) for factor in (1, True, 1.0, True)),
    ),
}


@pytest.mark.parametrize("transform", ["grad", "value_and_grad", "jacfwd", "hessian"])
@pytest.mark.parametrize("case", CASES)
def test_changes_in_objects_are_seen(case, transform):
    function, given = CASES[case]
    ours, jaxs = (getattr(library, transform)(function) for library in (bm, jax))
    found, want = ([jax.tree.leaves(f(X, value)) for value in given()] for f in (ours, jaxs))
    jax.tree.map(np.testing.assert_array_equal, found, want)


def test_inside_another_transform():
    inner = bm.grad(lambda x, s: (x**2 * s.rate).sum())
    settings = Settings()
    for settings.rate in RATES:
        outer = bm.grad(lambda x: inner(x, settings).sum())
        np.testing.assert_array_equal(outer(X), 2 * settings.rate * X)


def test_the_same_content_is_compiled_once():
    traced = []

    def function(x, named):
        traced.append(named.factor)
        return (x**2 * named.factor).sum()

    gradient = bm.grad(function)
    for factor in (1.0, 2.0, 1.0, 2.0):
        np.testing.assert_array_equal(gradient(X, Named("rate", factor)), 2 * factor * X)
    assert traced == [1.0, 2.0]
    # Of other shapes: with the object of the call, not with one that was equal to it.
    gradient(jnp.ones(3), Named("rate", 2.0))
    assert traced == [1.0, 2.0, 2.0]


def test_equal_values_that_are_made_anew_are_compiled_once():
    """Also those that take no weak references; 0 and -0 are equal and differ."""
    traced = []

    def function(x, value):
        traced.append(value)
        number = value.factor if isinstance(value, Named) else value
        return (x * (number.day if isinstance(number, datetime.date) else float(number))).sum()

    gradient = bm.grad(function)
    for make, count in (
        (lambda: decimal.Decimal("1.5"), 1),
        (lambda: datetime.date(2020, 1, 2), 2),
        (lambda: Named("rate", decimal.Decimal("0")), 3),
        (lambda: Named("rate", decimal.Decimal("-0")), 4),
        (lambda: Named("table", np.array(2.0)), 5),
        (lambda: Named("table", np.array(3.0)), 6),
        (lambda: Named("table", np.array(3)), 7),
    ):
        for _ in range(6):
            np.testing.assert_array_equal(gradient(X, make()), jax.grad(function)(X, make()))
        assert len(traced) == count + 6 * count  # JAX has run it at each call.


def test_calls_that_raise_do_not_count():
    traced = []

    def function(x, named):
        traced.append(named.factor)
        return x.sum() if named.factor > 10 else x.no_such_attribute

    gradient = bm.grad(function)
    for factor in range(10):
        with pytest.raises(AttributeError):
            gradient(X, Named("rate", factor))
    del traced[:]
    for _ in range(3):
        gradient(X, Named("rate", 20))
    assert traced == [20]


def test_first_calls_in_threads():
    gradient = bm.grad(lambda x, named: (x * named.factor).sum())
    start = threading.Barrier(4)

    def call(factor):
        start.wait()
        return gradient(X, Named(str(factor), factor))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, (1.0, 2.0, 3.0, 4.0)))
    np.testing.assert_array_equal(found, [[factor] * 2 for factor in (1.0, 2.0, 3.0, 4.0)])


def test_what_the_function_changes_itself_is_no_change():
    kept = bm.Variable(jnp.ones(()))  # It is found to be an input at the first trace.
    settings = Settings()
    settings.calls = 0

    def function(x, settings):
        settings.calls += 1
        return (x * kept).sum()

    gradient = bm.grad(function)
    for _ in range(3):
        gradient(X, settings)
    assert settings.calls == 1


def test_bm_jit_compares_objects_as_jax_jit_does():
    function = bm.jit(lambda x, named: x * named.factor, static_argnums=1)
    assert function(1.0, Named("rate", 2.0)) == function(1.0, Named("rate", 3.0)) == 2.0
