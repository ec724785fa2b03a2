"""Our transforms inside functions with derivative rules and in rules, of what is around these."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

A = np.float32([[2.0, 1.0], [0.0, 3.0]])
X = np.float32([0.5, -1.5])

TRANSFORMS = {
    "grad": lambda m, f, x: m.grad(lambda x: jnp.sum(f(x)))(x),
    "vjp": lambda m, f, x: m.vjp(f, x)[1](x)[0],
    "jvp": lambda m, f, x: m.jvp(f, (x,), (x,))[1],
    "linearize": lambda m, f, x: m.linearize(f, x)[1](x),
    "vmap": lambda m, f, x: jnp.sum(m.vmap(lambda y: f(y * x))(x), 0),
    "hessian": lambda m, f, x: jnp.sum(m.hessian(lambda x: jnp.sum(f(x)))(x), 0),
    "jit": lambda m, f, x: m.jit(f)(x),
}
AROUND = {
    "jax.jit": lambda m, f: jax.jit(f)(A, X),
    "jit": lambda m, f: m.jit(f)(A, X),
    "scan": lambda m, f: jax.lax.scan(lambda x, a: (f(a, x), None), X, A[None])[0],
    "grad": lambda m, f: m.grad(lambda x: jnp.sum(f(jax.lax.stop_gradient(A * x[0]), x)))(X),
    "jvp": lambda m, f: m.jvp(lambda x: f(jax.lax.stop_gradient(A * x[0]), x), (X,), (X,)),
    "vmap": lambda m, f: m.vmap(f, (None, 0))(A, A),
    "jax.vmap": lambda m, f: jax.vmap(f)(np.stack([A, A + 1]), A),
}


def with_rules(kind, inner, uses):
    """`inner` with rules; `uses` says where it is called: in the function, or in rules."""
    here = {
        place: inner if place in uses else jnp.sin for place in ("function", "rule", "backward")
    }
    if kind == "custom_jvp":
        f = jax.custom_jvp(here["function"])
        f.defjvp(lambda p, t: (f(*p), t[0] * jax.lax.stop_gradient(here["rule"](*p))))
        return f
    f = jax.custom_vjp(here["function"])
    f.defvjp(
        lambda x: (here["rule"](x), x),
        lambda x, ct: (ct * here["backward"](x),),
    )
    return f


CASES = [
    (around, kind, uses)
    for around in AROUND
    for kind, places in (
        ("custom_jvp", ["function", "rule", "function rule"]),
        ("custom_vjp", ["function", "rule", "backward", "function rule backward"]),
    )
    for uses in places
    if (around, kind) != ("jvp", "custom_vjp")
]


@pytest.mark.parametrize(("around", "kind", "uses"), CASES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_they_read_what_is_around(name, around, kind, uses):
    def run(m):
        def outer(a, x):
            inner = functools.partial(TRANSFORMS[name], m, lambda y: a @ y * jnp.sin(y))
            return with_rules(kind, inner, uses.split())(x)

        return AROUND[around](m, outer)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5), run(bm), run(jax))


@pytest.mark.parametrize("jit", [jax.jit, bm.jit, bm.grad], ids=["jax.jit", "jit", "grad"])
def test_they_do_not_read_what_left_a_loop(jit):
    def outer(x):
        left = []
        jax.lax.scan(lambda c, _: (left.append(c * 2) or c, None), x, None, length=2)
        f = jax.custom_jvp(lambda x: bm.grad(lambda x: x * left[0])(x))
        f.defjvp(lambda p, t: (f(*p), t[0]))
        return f(x)

    with pytest.raises(jax.errors.UnexpectedTracerError):
        jit(outer)(np.float32(1.0))
