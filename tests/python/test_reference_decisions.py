"""Python code that decides by what references hold, outside jit as with JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import bmgrad.math as bm


def own(m):
    def fun(x):
        ref, steps = jax.new_ref(x), 0
        while ref[...] < 20 and steps < 10:
            ref[...] *= 2.0
            steps += 1
            if ref[...] > 8:
                ref[...] += x
        return ref[...] * x

    return m.grad(fun)(3.0), m.grad(fun)(0.3), m.jvp(fun, (1.0,), (1.0,))


def closed_over(m):
    ref = jax.new_ref(jnp.float32(2.0))

    def fun(x):
        ref[...] += 1
        return x * x * ref[...] if ref[...] > 4 else x * ref[...]

    gradient = m.grad(fun)
    return [gradient(3.0) for _ in range(4)], ref[...]


def given(m):
    def fun(ref, x):
        ref[...] += 1
        return x * x * ref[...] if ref[...] > 4 else x * ref[...]

    gradient = m.grad(fun, argnums=1)
    refs = [jax.new_ref(jnp.float32(x)) for x in (2, 4)]
    return [gradient(ref, 3.0) for _ in range(2) for ref in refs], [ref[...] for ref in refs]


def changed_in_functions(m):
    ref = jax.new_ref(jnp.float32(2.0))

    @jax.jit
    def grow(x):
        ref[...] += x
        return ref[...]

    def step(carry, _):
        ref[...] += 1.0
        return carry * ref[...], None

    def fun(x):
        grow(1.0)
        if ref[...] > 2.5:
            grow(2.0)
        y, _ = jax.lax.scan(step, x, None, length=3)
        return y**2 if ref[...] > 7.5 else y

    return m.grad(fun)(3.0), ref[...]


def in_transforms_inside(m):
    def fun(x):
        ref = jax.new_ref(jnp.float32(3.0))
        ref[...] += 1
        slope = m.grad(lambda y: y**2 if ref[...] > 3.5 else y)(x)
        ref[...] += 1
        return slope * m.grad(lambda y: y**3 if ref[...] > 4.5 else y)(x)

    return m.grad(fun)(3.0)


def shared_by_a_batch(m):
    ref = jax.new_ref(jnp.float32(2.0))

    def fun(x):
        return x**2 if ref[...] > 1.5 else x

    xs = jnp.arange(3.0)
    inside = jax.grad(lambda x: m.vmap(fun)(x * xs).sum())(3.0)
    return m.vmap(fun)(xs), m.grad(lambda x: m.vmap(fun)(x * xs).sum())(2.0), inside


def bounds_of_loops(m):
    ref = jax.new_ref(jnp.int32(2))

    def fun(x):
        return jax.lax.fori_loop(0, ref[...] + 1, lambda i, y: y * x, x)

    first = m.grad(fun)(3.0)
    ref[...] = 3
    return first, m.grad(fun)(3.0), m.vjp(fun, 3.0)[1](1.0), m.hessian(fun)(2.0)


def numbers_and_masks(m):
    ref = jax.new_ref(jnp.arange(4.0))

    def fun(x):
        ref[1] = 5.0
        return (x[ref[...] > 2.0] ** int(ref[2])).sum()

    return m.grad(fun)(jnp.arange(4.0)), ref[...]


def beside_prints(m):
    def fun(x):
        ref = jax.new_ref(x)
        ref[...] += 1
        jax.debug.print("beside")
        return ref[...] * x if ref[...] > 2 else x

    return m.grad(fun)(3.0)


@pytest.mark.parametrize(
    "program",
    [
        own,
        closed_over,
        given,
        changed_in_functions,
        in_transforms_inside,
        shared_by_a_batch,
        bounds_of_loops,
        numbers_and_masks,
        beside_prints,
    ],
)
def test_decisions_by_what_references_hold(program):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), program(bm), program(jax)
    )


def test_values_that_are_not_known_cannot_be_decided_by():
    def fun(x):
        ref = jax.new_ref(jnp.float32(0.0))
        ref[...] = x
        return x if ref[...] > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.vmap(fun)(jnp.arange(3.0))
    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.jit(fun)(1.0)

    def asks(x):
        ref = jax.new_ref(jnp.float32(0.0))
        # It would be called twice.
        ref[...] = io_callback(lambda: np.float32(1.0), jax.ShapeDtypeStruct((), jnp.float32))
        return x if ref[...] > 0 else -x

    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.grad(asks)(1.0)
