"""`bm.Array` objects as operands of JAX's own functions, `jax.lax` included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm


class Mine(bm.TrainVar):
    pass


KINDS = [bm.Array, bm.Variable, bm.TrainVar, Mine]

CALLS = {
    "sin": lambda x: jax.lax.sin(x),
    "add": lambda x: jax.lax.add(x, x),
    "mixed": lambda x: jax.lax.max(x, 2.0),
    "dot_general": lambda x: jax.lax.dot_general(x, x, (((0,), (0,)), ((), ()))),
    "select": lambda x: jax.lax.select(x > 2, x, -x),
    "reshape": lambda x: jax.lax.reshape(x, (3, 1)),
    "concatenate": lambda x: jax.lax.concatenate([x, x], 0),
    "pad": lambda x: jax.lax.pad(x, x.sum(), [(1, 1, 0)]),
    "dynamic_slice": lambda x: jax.lax.dynamic_slice(x, (x.argmin(),), (2,)),
    "dynamic_update": lambda x: jax.lax.dynamic_update_slice(x, x[:1], (x.argmax(),)),
    "scan": lambda x: jax.lax.scan(lambda c, a: (c + a, c * a), x, jnp.ones((4, 3))),
    "scan over": lambda x: jax.lax.scan(lambda c, a: (c + a, c * a), 0.0, x),
    "cond": lambda x: jax.lax.cond(x.sum() > 1, lambda a: a + 1, lambda a: a, x),
    "switch": lambda x: jax.lax.switch(x.argmax(), [lambda a: a, lambda a: -a], x),
    "fori_loop": lambda x: jax.lax.fori_loop(0, x.size, lambda i, a: a * 2, x),
    "while_loop": lambda x: jax.lax.while_loop(lambda a: a.sum() < 99, lambda a: a * 2, x),
    "index": lambda x: jnp.arange(5.0)[x.argmax()],
    "softmax": lambda x: jax.nn.softmax(x) * jnp.arange(3.0),
    "one_hot": lambda x: jax.nn.one_hot(x.astype(int), 5),
    "segment_sum": lambda x: jax.ops.segment_sum(x, np.array([0, 0, 1]), 2),
    "erf": lambda x: jax.scipy.special.erf(x),
    "norm": lambda x: jnp.linalg.norm(x),
    "vmap": lambda x: jax.vmap(lambda a: jax.lax.mul(a, a))(x),
    "top_k": lambda x: jax.lax.top_k(x, 2),
    "checkpoint": lambda x: jax.checkpoint(jax.lax.cos)(x),
    "jit that closes over it": lambda x: jax.jit(lambda y: jax.lax.mul(y, x))(jnp.ones(3)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_same_as_the_array_in_it(name, kind):
    value = jnp.array([1.0, 4.0, 2.0])
    call = CALLS[name]
    expected, tree = jax.tree.flatten(call(value))
    got = jax.tree.leaves(call(kind(value)))
    assert len(got) == tree.num_leaves
    for ours, theirs in zip(got, expected, strict=True):
        assert jax.typeof(ours) == jax.typeof(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"while_loop"}))
def test_derivative_for_an_argument_that_is_one(name):
    value = jnp.array([1.0, 4.0, 2.0])

    def total(x):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(CALLS[name](x)) if leaf.dtype != int)

    gradient = bm.grad(total)(bm.Array(value))
    assert type(gradient) is bm.Array
    np.testing.assert_allclose(gradient, jax.grad(total)(value), rtol=1e-5)


def test_derivative_for_a_variable_read_in_a_loop_body():
    w = bm.TrainVar([2.0, 3.0])

    def loss():
        return jax.lax.scan(lambda c, _: (jax.lax.mul(c, w), None), jnp.ones(2), None, 3)[0].sum()

    np.testing.assert_allclose(bm.grad(loss, grad_vars=w)(), [12.0, 27.0])


def test_index_of_a_jax_array_is_refused_with_a_way_out():
    # JAX asks an index for its class alone, so here `.value` is needed.
    index = bm.array([1, 2])
    with pytest.raises(IndexError, match="arrays are valid indices"):
        jnp.arange(5)[index]
    assert jnp.arange(5)[index.value].tolist() == [1, 2]
    assert bm.arange(5)[index].tolist() == [1, 2]
