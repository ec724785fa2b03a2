"""Containers of users' types whose constructors ask what they are given, or change it.

JAX calls them with arrays, tracers, and what stands for gradients; so do we.
"""

import hijax_types
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

# Where users have defined types (hijax), trees are searched for values of them.
assert hijax_types


def converts(a, b):
    return jnp.asarray(a), jnp.asarray(b)


def converts_others(a, b):
    return tuple(x if isinstance(x, jax.Array) else jnp.array(x) for x in (a, b))


def asks_for_shapes(a, b):
    assert a.shape[-1] == 2
    assert b.dtype == a.dtype
    return a, b


def adds(a, b):
    a + b
    return a, b


def refuses_others(a, b):
    for x in (a, b):
        if not isinstance(x, (jax.Array, np.ndarray)):
            raise TypeError(f"not an array: {type(x)}")
    return a, b


def made(take):
    class Pair:
        def __init__(self, a, b):
            self.a, self.b = take(a, b)

    jax.tree_util.register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda _, x: Pair(*x))
    return Pair


X = np.float32([1.0, 2.0])
ROWS = np.float32([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def f(p):
    return jnp.sum(p.a * p.a * jnp.sin(p.b))


# What each way makes of the transforms of `m`, which is JAX or bmgrad, and the class.
WAYS = {
    "grad": lambda m, P: m.grad(f)(P(X, X)),
    "value_and_grad": lambda m, P: m.value_and_grad(f)(P(X, X)),
    "argnums": lambda m, P: m.grad(lambda x, p, y: f(p) * jnp.sum(x * y), argnums=(2, 1))(
        X, P(X, X), X
    ),
    "beside": lambda m, P: m.grad(lambda x, p: jnp.sum(x**2) * f(p))(X, P(X, X)),
    "jvp": lambda m, P: m.jvp(f, (P(X, X),), (P(X, X),)),
    "vjp": lambda m, P: m.vjp(f, P(X, X))[1](np.float32(1.0)),
    "vjp_result": lambda m, P: m.vjp(lambda p: P(p.a * 2, p.b), P(X, X))[1](P(X, X)),
    "linearize": lambda m, P: m.linearize(f, P(X, X))[1](P(X, X)),
    "linearize_result": lambda m, P: m.linearize(lambda p: P(p.a * 2, p.b), P(X, X))[1](P(X, X)),
    "vmap": lambda m, P: m.vmap(f)(P(ROWS, ROWS)),
    "vmap_axes": lambda m, P: m.vmap(lambda x, p: jnp.sum(x * p.a), in_axes=(0, None))(
        ROWS, P(X, X)
    ),
    "vmap_axes_in_dict": lambda m, P: m.vmap(
        lambda d: jnp.sum(d["x"] * d["p"].a), in_axes=({"x": 0, "p": None},)
    )({"x": ROWS, "p": P(X, X)}),
    "vmap_result": lambda m, P: m.vmap(lambda x: P(x, x + 1), out_axes=0)(ROWS),
    "vmap_of_grad": lambda m, P: m.vmap(m.grad(f))(P(ROWS, ROWS)),
    "grad_of_vmap": lambda m, P: m.grad(
        lambda x: jnp.sum(m.vmap(lambda y, p: f(p) * y, in_axes=(0, None))(ROWS, P(x, x)))
    )(X),
    "jvp_of_grad": lambda m, P: m.jvp(m.grad(f), (P(X, X),), (P(X, X),)),
    "grad_of_grad": lambda m, P: m.grad(lambda p: f(m.grad(f)(p)))(P(X, X)),
    "jacfwd": lambda m, P: m.jacfwd(lambda x, p: x**2 * p.a)(X, P(X, X)),
    "jit": lambda m, P: jax.jit(m.grad(f))(P(X, X)),
    "aux_as_it_is": lambda m, P: m.grad(
        lambda x: (jnp.sum(x**2), {"pair": P(ROWS[0], x), "n": 2}), has_aux=True
    )(X),
    "aux": lambda m, P: m.grad(lambda x: (jnp.sum(x**2), P(x, x)), has_aux=True)(X),
}
TAKES = [converts, converts_others, asks_for_shapes, adds, refuses_others]


@pytest.mark.parametrize("take", TAKES, ids=lambda take: take.__name__)
@pytest.mark.parametrize("name", WAYS)
def test_such_containers_are_as_any_other(name, take):
    container = made(take)
    got, want = WAYS[name](bm, container), WAYS[name](jax, container)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, 1e-5)


def test_messages_name_what_is_in_them():
    container = made(refuses_others)
    with pytest.raises(ValueError, match=r"p\.0"):
        bm.vmap(lambda p: p.a, in_axes=(3,))(container(X, X))
