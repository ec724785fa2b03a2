"""Loops whose bounds are values, where some transform around or inside is to go in reverse."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm


def power(n, x):
    return jax.lax.fori_loop(0, n + 1, lambda i, y: jnp.sin(y) * x * 1.5, x)


# Each makes of a function `(n, x) -> scalar` another one, by the transforms of `bm` or `jax`.
TRANSFORMS = {
    "vmap": lambda m, f: (
        lambda n, x: m.vmap(f, in_axes=(None, 0))(n, x * jnp.arange(1.0, 3.0)).sum()
    ),
    "vmap closed": lambda m, f: (
        lambda n, x: m.vmap(lambda x: f(n, x))(x * jnp.arange(1.0, 3.0)).sum()
    ),
    "grad": lambda m, f: m.grad(f, argnums=1),
    "value_and_grad": lambda m, f: lambda n, x: m.value_and_grad(f, argnums=1)(n, x)[1],
    "jacfwd": lambda m, f: m.jacfwd(f, argnums=1),
    "jacrev": lambda m, f: m.jacrev(f, argnums=1),
    "hessian": lambda m, f: m.hessian(f, argnums=1),
    "jvp": lambda m, f: lambda n, x: m.jvp(lambda x: f(n, x), (x,), (1.0,))[1],
    "linearize": lambda m, f: lambda n, x: m.linearize(lambda x: f(n, x), x)[1](1.0),
    "vjp": lambda m, f: lambda n, x: m.vjp(lambda x: f(n, x), x)[1](1.0)[0],
    "jit closed": lambda m, f: lambda n, x: jax.jit(lambda x: f(n, x))(x),
}
REVERSE = ("grad", "hessian", "vjp")
FORWARD = ("vmap", "vmap closed", "jacfwd", "jvp", "linearize", "grad", "jit closed")
NESTINGS = [
    *itertools.product(REVERSE, FORWARD, [(bm, bm)]),
    *itertools.product(["grad"], FORWARD, [(jax, bm)]),
    *itertools.product(FORWARD[:-1], ["grad"], [(bm, bm), (bm, jax)]),
    ("value_and_grad", "vmap", (jax, bm)),
    ("linearize", "jacrev", (bm, bm)),
    ("jit closed", "jacfwd", (bm, bm)),
]


@pytest.mark.parametrize(("outer", "inner", "modules"), NESTINGS)
def test_bounds_are_known_in_nested_transforms(outer, inner, modules):
    def nested(first, second):
        return TRANSFORMS[outer](first, TRANSFORMS[inner](second, power))

    ours, jaxs = nested(*modules), nested(jax, jax)
    for n in (2, 1):
        want = jaxs(n, jnp.float32(0.7))
        np.testing.assert_allclose(ours(n, jnp.float32(0.7)), want, rtol=1e-4)


def test_three_transforms():
    def nested(m):
        f = power
        for name in ("jit closed", "jacrev", "linearize"):
            f = TRANSFORMS[name](m, f)
        return f(2, jnp.float32(0.7))

    np.testing.assert_allclose(nested(bm), nested(jax), rtol=1e-4)


def test_a_batch_in_jax_grad_and_alone():
    traces = []

    def f(n, x):
        traces.append(n)
        return power(n, x)

    batch = bm.vmap(f, in_axes=(None, 0))
    xs = jnp.arange(1.0, 3.0)
    for n in (1, 2, 1):
        want = jax.vmap(power, in_axes=(None, 0))(n, xs)
        np.testing.assert_allclose(batch(n, xs), want, rtol=1e-5)
    # Alone, and in a batch of JAX, it is compiled for all bounds.
    assert len(traces) == 1
    jax.vmap(batch, in_axes=(None, 0))(1, xs[None])
    assert len(traces) == 1
    for n in (1, 2):
        of_ours = jax.grad(lambda xs, n=n: batch(n, xs).sum())(xs)
        want = jax.grad(lambda xs, n=n: jax.vmap(power, in_axes=(None, 0))(n, xs).sum())(xs)
        np.testing.assert_allclose(of_ours, want, rtol=1e-5)
    count = len(traces)
    np.testing.assert_allclose(batch(1, xs), jax.vmap(power, in_axes=(None, 0))(1, xs), rtol=1e-5)
    assert len(traces) == count


class Repeated(bp.Base):
    def __init__(self):
        super().__init__()
        self.count = bm.Variable(jnp.array(2))
        self.weight = bm.Variable(jnp.array(0.7))
        self.calls = bm.Variable(jnp.array(0))

    def __call__(self, x):
        self.calls.value = self.calls.value + 1
        return power(self.count.value, self.weight.value * x)


def test_bounds_in_variables():
    model = Repeated()
    batch = bm.vmap(model)
    xs = jnp.arange(1.0, 3.0)
    gradient = bm.grad(lambda xs: batch(xs).sum(), grad_vars=model.weight)
    for count in (2, 1):
        model.count.value = jnp.array(count)

        def plain(weight, n=count):
            return jax.vmap(lambda x: power(n, weight * x))(xs).sum()

        np.testing.assert_allclose(gradient(xs), jax.grad(plain)(0.7), rtol=1e-5)
    # Once a call, however often it was traced.
    assert int(model.calls.value) == 2


def test_forward_over_reverse_of_a_bound_that_is_no_argument():
    def f(x):
        return jax.lax.fori_loop(0, jnp.int32(3), lambda i, y: y * x, jnp.float32(1.0))

    found, want = (m.jvp(m.grad(f), (0.5,), (2.0,)) for m in (bm, jax))
    np.testing.assert_allclose(found, want, rtol=1e-6)


def test_bounds_that_depend_on_the_batch_stay_unknown():
    with pytest.raises(ValueError, match="trip count is not known"):
        bm.grad(lambda xs: bm.vmap(power)(jnp.arange(2), xs).sum())(jnp.ones(2))


def test_loops_that_are_not_turned_round_are_compiled_once():
    """Those of a derivative rule's own function, whatever is around."""
    traces = []

    @jax.custom_vjp
    def root(x):
        return jax.lax.while_loop(lambda y: abs(y * y - x) > 1e-4, lambda y: (y + x / y) / 2, x)

    root.defvjp(lambda x: (root(x), root(x)), lambda y, ct: (ct / (2 * y),))

    def f(x):
        traces.append(x)
        return root(x)

    batch, xs = bm.vmap(f), jnp.arange(1.0, 4.0)
    for _ in range(3):
        slopes = jax.grad(lambda xs: batch(xs).sum())(xs)
    np.testing.assert_allclose(slopes, 0.5 / jnp.sqrt(xs), rtol=1e-3)
    assert len(traces) == 1
