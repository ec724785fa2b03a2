"""`jax.shard_map` inside a differentiated function, over a mesh of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

import bmgrad.math as bm
from bmgrad.runtime._errors import UnsupportedError

X = jnp.arange(6.0).reshape(2, 3) / 7
W = jnp.ones(3)
ROWS, WHOLE = PartitionSpec("x"), PartitionSpec()
checked = pytest.mark.parametrize("check_vma", [False, True], ids=["unchecked", "checked"])


def sharded(body, check_vma=True, in_specs=ROWS, out_specs=ROWS):
    mesh = jax.make_mesh((1, 1), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    return jax.shard_map(
        body, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=check_vma
    )


def agree(fun, *args, transforms=("grad", "hessian", "jacfwd")):
    for name in transforms:
        got, want = (getattr(lib, name)(fun)(*args) for lib in (bm, jax))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def collectives(x, w):
    total = lax.psum((x @ w).sum(), "x")
    gathered = lax.all_gather(x, "x", tiled=True).sum() + (lax.all_gather(x, "x") ** 2).sum()
    parts = lax.psum_scatter(x * x, "x", tiled=True) * lax.all_to_all(x, "x", 0, 1, tiled=True)
    moved = jnp.exp(lax.ppermute(x, "x", [(0, 0)])) + lax.ppermute(x, "x", [])
    inner = jax.jit(lambda z: lax.psum(z**3, "x") * z + z**2 + z)(x)
    rows = jnp.sin(x) + total + lax.axis_index("x") + gathered + parts + moved + inner
    return rows, lax.pmean(jnp.cos(w) * x, "x")


@checked
def test_collectives(check_vma):
    mapped = sharded(collectives, check_vma, (ROWS, WHOLE), (ROWS, WHOLE))

    def loss(x, w):
        return sum(jnp.sum(jnp.sin(part)) for part in mapped(x, w))

    agree(loss, X, W)
    np.testing.assert_allclose(bm.jit(loss)(X, W), loss(X, W), rtol=1e-5)


@jax.custom_jvp
def summed_sine(x):
    return lax.psum(jnp.sin(x), "x")


@summed_sine.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return summed_sine(x), lax.psum(jnp.cos(x) * dx, "x")


@jax.custom_vjp
def twice_sloped_sine(x):
    return jnp.sin(x)


def _backward(x, ct):
    return (2 * lax.axis_index("x") * ct + 2 * jnp.cos(x) * ct,)


twice_sloped_sine.defvjp(lambda x: (twice_sloped_sine(x), x), _backward)


@checked
def test_derivative_rules(check_vma):
    """They are traced on the mesh, where its axes are bound."""
    agree(lambda x: jnp.sum(sharded(summed_sine, check_vma, out_specs=WHOLE)(x) ** 2), X)
    mapped = sharded(twice_sloped_sine, check_vma)
    agree(lambda x: jnp.sum(mapped(x) * x), X, transforms=("grad", "jacrev"))
    stack = jnp.stack([X, X + 1])
    got = bm.vmap(bm.grad(lambda x: mapped(x).sum()))(stack)
    np.testing.assert_allclose(got, 2 * jnp.cos(stack), rtol=1e-5)
    saved = sharded(jax.checkpoint(lambda x: jnp.sin(twice_sloped_sine(x))), check_vma)
    agree(lambda x: saved(x).sum(), X, transforms=("grad",))


@checked
def test_rules_that_wait(check_vma):
    """In the rule of another function, and put off until a derivative asks for them."""

    @jax.custom_jvp
    def outer(x):
        return jnp.cos(x)

    outer.defjvp(lambda p, t: (outer(*p), -summed_sine(*p) * t[0]))
    mapped = sharded(outer, check_vma)
    loss = jax.jit(lambda x: mapped(x).sum())
    got = bm.jit(bm.grad(lambda x: bm.grad(loss)(x).sum()))(X)
    np.testing.assert_allclose(got, -jnp.cos(X), rtol=1e-5)


@checked
def test_variables_and_programs_inside(check_vma):
    scale = bm.Variable(jnp.full((2, 3), 2.0))
    mapped = sharded(lambda x: x**2 * scale.value, check_vma)
    got = bm.grad(lambda x: mapped(x).sum(), grad_vars=scale, argnums=0)(X)
    np.testing.assert_allclose(got[0], X**2, rtol=1e-6)
    np.testing.assert_allclose(got[1], 4 * X, rtol=1e-6)
    slopes = sharded(bm.vector_grad(lambda x: x**3), check_vma)
    np.testing.assert_allclose(bm.grad(lambda x: slopes(x).sum())(X), 6 * X, rtol=1e-6)


def test_more_devices_are_refused():
    mesh = jax.sharding.AbstractMesh((2,), ("x",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(jnp.sin, mesh=mesh, in_specs=ROWS, out_specs=ROWS)
    with pytest.raises(UnsupportedError, match=r"between 2 devices(.|\n)*test_shard_map.py:"):
        bm.grad(lambda x: mapped(x).sum())(X)
