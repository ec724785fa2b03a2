"""Forward rules see Python's state as it is at the call of their function, as under `jax.grad`."""

import contextlib
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = jnp.array([0.1, 0.2, 0.3])


def with_jvp(value, slope):
    function = jax.custom_jvp(lambda x: x * value())
    function.defjvp(lambda p, t: (p[0] * value(), t[0] * slope()))
    return function


def with_jvp_told(value, slope):
    """Its rule is told which tangents are zero."""
    function = jax.custom_jvp(lambda x, y: x * value() + y)

    def rule(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        assert type(dy) is jax.custom_derivatives.SymbolicZero
        return x * value() + y, dx * slope()

    function.defjvp(rule, symbolic_zeros=True)
    return lambda x: function(x, 1.0)


def with_jvps(value, slope):
    function = jax.custom_jvp(lambda x: x * value())
    function.defjvps(lambda t, out, x: t * slope())
    return function


def with_vjp(value, slope):
    function = jax.custom_vjp(lambda x: x * value())
    function.defvjp(lambda x: (x * value(), slope()), lambda slope, ct: (ct * slope,))
    return function


KINDS = [with_jvp, with_jvp_told, with_jvps, with_vjp]


def attribute(m, kind):
    """Assigned after the call, before another one."""
    state = types.SimpleNamespace(v=2.0)
    function = kind(lambda: state.v, lambda: 10 * state.v)

    def f(x):
        state.v = 2.0
        y = function(x)
        state.v = 5.0
        return (y + function(x)).sum()

    return f


def late_binding(m, kind):
    def f(x):
        for k in (1.0, 2.0, 3.0):
            x = kind(lambda: k, lambda: 2 * k)(x)  # noqa: B023
        return x.sum()

    return f


def context(m, kind):
    stack = []

    @contextlib.contextmanager
    def pushed(value):
        stack.append(value)
        try:
            yield
        finally:
            stack.pop()

    function = kind(lambda: stack[-1], lambda: 10 * stack[-1])

    def f(x):
        with pushed(3.0):
            y = function(x)
        return y.sum()

    return f


def setting(m, kind):
    def precision():
        return 7.0 if jax.config.jax_default_matmul_precision == "highest" else 1.0

    function = kind(lambda: 2.0, precision)

    def f(x):
        with jax.default_matmul_precision("highest"):
            return function(x).sum()

    return f


def variables(m, kind):
    """Exchanged after the call; and one that follows what the function computes."""
    make = bm.Variable if m is bm else (lambda value: types.SimpleNamespace(value=value))
    u, v = make(X + 1), make(X + 2)
    function = kind(lambda: u.value, lambda: 10 * u.value)

    def f(x):
        y = function(x)
        u.value, v.value = v.value, u.value * 0.9 + jax.lax.stop_gradient(y)
        return (y + function(x)).sum()

    return f


def in_a_batch(m, kind):
    state = types.SimpleNamespace(v=2.0)
    function = kind(lambda: state.v, lambda: 10 * state.v)

    def f(x):
        state.v = 2.0
        y = m.vmap(function)(x) if m is jax else jax.vmap(function)(x)
        state.v = 5.0
        return y.sum()

    return f


PROGRAMS = [attribute, late_binding, context, setting, variables, in_a_batch]
TRANSFORMS = {
    "grad": lambda m, f: m.grad(f)(X),
    "value_and_grad": lambda m, f: m.value_and_grad(f)(X),
    "jit": lambda m, f: jax.jit(m.grad(f))(X),
    "vjp": lambda m, f: m.vjp(f, X)[1](2.0),
    "jvp": lambda m, f: m.jvp(f, (X,), (X,)),
    "linearize": lambda m, f: m.linearize(f, X)[1](X),
    "hessian": lambda m, f: m.hessian(lambda x: f(x**2))(X),
}


# JAX has no forward mode of functions with a custom VJP, and under jit leaves tracers in the state.
CASES = [
    (program, kind, transform)
    for program, kind, transform in itertools.product(PROGRAMS, KINDS, TRANSFORMS)
    if not (kind is with_vjp and transform in ("jvp", "linearize", "hessian"))
    and not (program is variables and transform == "jit")
]


@pytest.mark.parametrize(("program", "kind", "transform"), CASES)
def test_rules_read_what_is_there_at_the_call(program, kind, transform):
    found, want = (TRANSFORMS[transform](m, program(m, kind)) for m in (bm, jax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, want)


# What calls a function, of one argument.
INNER = {
    "jit": lambda g: jax.jit(lambda x: g(x)),
    "scan": lambda g: lambda x: jax.lax.scan(lambda c, _: (g(c), None), x, None, length=2)[0],
    "map": lambda g: lambda x: jax.lax.map(g, x),
    "cond": lambda g: lambda x: jax.lax.cond(x.sum() > 0, g, jnp.sin, x),
    "checkpoint": lambda g: jax.checkpoint(lambda x: g(x)),
    "fori_loop": lambda g: lambda x: jax.lax.fori_loop(0, 2, lambda _, c: g(c), x),
    "jit in scan in jit": lambda g: jax.jit(INNER["scan"](INNER["jit"](g))),
    "jit in vmap": lambda g: jax.vmap(jax.jit(lambda x: g(x))),
    "vmap in scan": lambda g: INNER["scan"](jax.vmap(g)),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", [with_jvp, with_jvps, with_vjp])
def test_rules_in_inner_functions_read_what_is_there_at_their_call(kind, inner):
    def f(x):
        for k in (1.0, 2.0, 3.0):
            x = INNER[inner](kind(lambda: k, lambda: 2 * k))(x)  # noqa: B023
        return x.sum()

    for transform in ("grad", "vjp", *(["jvp", "linearize"] if kind is not with_vjp else [])):
        found, want = (TRANSFORMS[transform](m, f) for m in (bm, jax))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, want)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", KINDS)
def test_rules_in_inner_functions_run_once(kind, inner):
    runs = []
    function = kind(lambda: 2.0, lambda: runs.append(1) or 3.0)
    bm.grad(lambda x: INNER[inner](function)(x).sum())(X)
    assert len(runs) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_each_rule_runs_once(kind):
    runs = []
    function = kind(lambda: 2.0, lambda: runs.append(1) or 3.0)
    np.testing.assert_array_equal(bm.grad(lambda x: function(x).sum())(X), [3.0] * 3)
    assert len(runs) == 1
