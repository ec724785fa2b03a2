"""`jax_debug_key_reuse` sees which PRNG keys a program uses twice."""

import jax
import jax.numpy as jnp
import pytest
from jax.errors import KeyReuseError

import bmgrad.math as bm

TRANSFORMS = {
    "jit": bm.jit,
    "grad": bm.grad,
    "grad of grad": lambda f: bm.grad(bm.grad(f)),
    "vjp": lambda f: lambda x, key: bm.vjp(lambda x: f(x, key), x)[1](1.0),
    "jvp": lambda f: lambda x, key: bm.jvp(lambda x: f(x, key), (x,), (x,)),
    "jacfwd": bm.jacfwd,
    "vmap": lambda f: lambda x, key: bm.vmap(f, (0, None))(jnp.stack([x, x]), key),
    "jax.grad": lambda f: jax.grad(bm.jit(f)),
}


def once(x, key):
    first, second = jax.random.split(key)
    return x * jax.random.uniform(first) + jax.random.normal(second)


def twice(x, key):
    return x * jax.random.uniform(key) + jax.random.normal(key)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_reuse_in_a_program(transform):
    with jax.debug_key_reuse(True):
        jax.jit(TRANSFORMS[transform](once))(1.0, jax.random.key(0))
        with pytest.raises(KeyReuseError):
            jax.jit(TRANSFORMS[transform](twice))(1.0, jax.random.key(0))


def test_reuse_after_a_program():
    split = bm.jit(lambda key: jax.random.split(key)[0])

    @jax.jit
    def again(key):
        return jax.random.uniform(split(key)) + bm.grad(once)(1.0, key)

    with jax.debug_key_reuse(True):
        jax.jit(lambda key: jax.random.uniform(split(key)))(jax.random.key(0))
        with pytest.raises(KeyReuseError):
            again(jax.random.key(0))
