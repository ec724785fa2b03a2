"""Arguments with places on explicit mesh axes: results and derivatives have those that JAX's have.

The mesh has one device here; with two in a process of its own the same functions run again.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import bmgrad.math as bm

DEVICES = min(2, jax.device_count())
MESH = jax.make_mesh((DEVICES,), ("i",), axis_types=(AxisType.Explicit,))


def placed(x, *axes):
    return jax.device_put(x, NamedSharding(MESH, P(*axes)))


ROWS = placed(jnp.arange(8.0).reshape(4, 2) / 8, "i")
COLUMNS = placed(jnp.arange(8.0).reshape(2, 4) / 8, None, "i")

FUNCTIONS = {
    "elementwise": lambda x, y: jnp.sin(x) * y.T,
    "matmul": lambda x, y: jnp.tanh(x @ jnp.ones((2, 3))) + jnp.sum(y),
    "sum over the axis": lambda x, y: jnp.sum(x, 0) + jnp.sum(y, 1),
    "reshard": lambda x, y: jax.reshard(x, NamedSharding(MESH, P(None, None))) * 2,
    "loop": lambda x, y: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, None, length=2),
    "vmap": lambda x, y: jax.vmap(jnp.dot)(x, y.T),
}


def types(results):
    return jax.tree.map(lambda x: str(jax.typeof(x)), results)


def close(got, want):
    assert types(got) == types(want)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6), got, want)


def derivatives(library, fun):
    def loss(x, y):
        return sum(jnp.sum(jnp.sin(z)) for z in jax.tree.leaves(fun(x, y)))

    both, tangents = (0, 1), (ROWS * 2, COLUMNS * 3)
    out, vjp_fn = library.vjp(fun, ROWS, COLUMNS)
    return [
        library.grad(loss, argnums=both)(ROWS, COLUMNS),
        library.value_and_grad(loss, argnums=both)(ROWS, COLUMNS),
        jax.jit(library.grad(loss, argnums=both))(ROWS, COLUMNS),
        library.jvp(fun, (ROWS, COLUMNS), tangents),
        library.jvp(library.grad(loss), (ROWS, COLUMNS), tangents),
        library.linearize(fun, ROWS, COLUMNS)[1](*tangents),
        out,
        vjp_fn(out),
        library.jit(fun)(ROWS, COLUMNS),
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_places_are_those_of_jax(name):
    with jax.set_mesh(MESH):
        close(derivatives(bm, FUNCTIONS[name]), derivatives(jax, FUNCTIONS[name]))


def test_of_variables():
    w = bm.TrainVar(COLUMNS)
    with jax.set_mesh(MESH):
        got = bm.grad(lambda x: jnp.sum(jnp.sin(w.value.T * x)), grad_vars=w)(ROWS)
        close(got, jax.grad(lambda w: jnp.sum(jnp.sin(w.T * ROWS)))(COLUMNS))


def test_each_place_is_traced_on_its_own():
    gradient = bm.grad(lambda x: jnp.sum(x**2))
    with jax.set_mesh(MESH):
        for x in (ROWS, placed(ROWS, None, "i"), ROWS):
            close(gradient(x), 2 * x)


@pytest.mark.skipif(DEVICES > 1, reason="a shard_map inside is of one device")
def test_shard_map_inside():
    def loss(x):
        return jnp.sum(jax.shard_map(jnp.sin, mesh=MESH, in_specs=P("i"), out_specs=P("i"))(x))

    with jax.set_mesh(MESH):
        close(bm.grad(loss)(ROWS), jax.grad(loss)(ROWS))


@pytest.mark.parametrize("name", ["elementwise", "vmap"])
def test_where_the_mesh_is_not_set_values_are_right(name):
    """JAX asks for the mesh, for some results are in no place."""
    loss = lambda x, y: jnp.sum(jnp.sin(FUNCTIONS[name](x, y)))  # noqa: E731
    want = jax.grad(loss, (0, 1))(np.asarray(ROWS), np.asarray(COLUMNS))
    got = bm.grad(loss, argnums=(0, 1))(ROWS, COLUMNS)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, 1e-5), got, want)


@pytest.mark.skipif(DEVICES > 1, reason="this is the process with two")
def test_on_two_devices():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
