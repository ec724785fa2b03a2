"""Batches whose elements have a reference each: `jax.new_ref` as a mapped argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm

XS = jnp.arange(1.0, 4.0)


def grow(ref, x):
    ref[...] += x
    return ref[...] * x


def new(*shape):
    return jax.new_ref(jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape))


def each_its_own(m):
    ref = new(3)
    return m.vmap(grow)(ref, XS), m.vmap(grow)(ref, XS), ref[...]


def along_another_axis(m):
    ref = new(2, 3)

    def fun(ref, x):
        ref[0] = x
        return ref[...].sum() * x

    return m.vmap(fun, in_axes=(1, 0))(ref, XS), m.vmap(fun, in_axes=(-1, 0))(ref, XS), ref[...]


def beside_a_shared_one(m):
    mapped, shared = new(3), jax.new_ref(jnp.float32(5.0))

    def fun(refs, x, *, more):
        refs["mapped"][...] += refs["shared"][...] * x + more[...]
        more[...] = x
        return x

    more = new(3)
    refs = {"mapped": mapped, "shared": shared}
    axes = ({"mapped": 0, "shared": None}, 0)
    return m.vmap(fun, in_axes=axes)(refs, XS, more=more), mapped[...], shared[...], more[...]


def of_batches(m):
    ref = new(3, 2)
    ys = m.vmap(m.vmap(grow, in_axes=(0, None)))(ref, XS)
    return ys, ref[...]


def made_in_the_function_around(m):
    def fun(x):
        ref = jax.new_ref(x * 2)
        y = m.vmap(grow)(ref, x)
        return (y * ref[...]).sum()

    return m.grad(fun)(XS), m.jvp(fun, (XS,), (XS,))


def in_a_gradient(m):
    ref = new(3)

    def fun(x):
        return m.vmap(grow)(ref, jax.lax.stop_gradient(x)).sum() + (x**2).sum()

    return m.grad(fun)(XS), ref[...]


def of_a_gradient(m):
    ref = new(3)

    def read(ref, x):
        ref[...] += 1.0
        return ref[...] * x**2

    return m.vmap(m.grad(read, argnums=1))(ref, XS), ref[...]


@pytest.mark.parametrize(
    "program",
    [
        each_its_own,
        along_another_axis,
        beside_a_shared_one,
        of_batches,
        made_in_the_function_around,
        in_a_gradient,
        of_a_gradient,
    ],
)
def test_mapped_references(program):
    ours, wanted = program(bm), program(jax)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), ours, wanted)


@pytest.mark.parametrize("transform", [bm.jit, lambda f: bm.grad(f, argnums=1)])
def test_in_batches_of_jax(transform):
    def fun(ref, x):
        ref[...] += 1.0
        return ref[...] * x**2

    ref, elements = new(3), [jax.new_ref(x) for x in new(3)[...]]
    one_by_one = [transform(fun)(element, x) for element, x in zip(elements, XS, strict=True)]
    np.testing.assert_allclose(jax.vmap(transform(fun))(ref, XS), one_by_one, rtol=1e-6)
    np.testing.assert_allclose(ref[...], [element[...] for element in elements])


def test_variables_and_compiled_batches():
    class Model(bp.Base):
        def __init__(self):
            super().__init__()
            self.scale = bm.Variable(jnp.float32(2.0))

        def __call__(self, ref, x):
            return grow(ref, self.scale.value * x)

    model, ref = Model(), new(3)
    batch = bm.jit(bm.vmap(model))
    for scale in (2.0, 3.0):
        model.scale.value = jnp.float32(scale)
        before = ref[...]
        np.testing.assert_allclose(batch(ref, XS), (before + scale * XS) * scale * XS)
        np.testing.assert_allclose(ref[...], before + scale * XS)


def test_axes_that_references_do_not_have():
    with pytest.raises(ValueError, match="axis 1 of ref, which has rank 1"):
        bm.vmap(grow, in_axes=(1, 0))(new(3), XS)
    with pytest.raises(ValueError, match=r"inconsistent batch sizes: .*'ref': 4"):
        bm.vmap(grow)(new(4), XS)
