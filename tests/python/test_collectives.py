"""Named axes: collectives in functions that are differentiated, batched and compiled here.

The oracle is JAX with its own transforms in the same places.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad.math as bm
from bmgrad._import import UnsupportedError

X = jnp.array([[1.0, 2.0, 3.0], [0.4, -1.5, 0.6], [0.5, -1.0, 2.0], [0.3, 0.2, 0.1]])
TWICE = jnp.stack([X, jnp.sin(X)])
CYCLE = [(0, 1), (1, 2), (2, 3), (3, 0)]


def outer(n, x):
    return jnp.outer(jnp.arange(1.0, n + 1), x**2)


FUNCTIONS = {
    "psum": lambda x: lax.psum(x**2, "i") * x,
    "pmean": lambda x: (x - lax.pmean(jnp.sin(x), "i")) ** 3,
    "ppermute": lambda x: lax.ppermute(x**2, "i", CYCLE) * x,
    "all_gather": lambda x: lax.all_gather(x**2, "i", axis=1) * x[:, None] * jnp.arange(4.0),
    "all_gather tiled": lambda x: lax.all_gather(x**2, "i", tiled=True) * jnp.arange(12.0),
    "psum_scatter": lambda x: lax.psum_scatter(outer(4, x), "i") * x,
    "psum_scatter tiled": lambda x: lax.psum_scatter(outer(8, x), "i", tiled=True) * x,
    "all_to_all": lambda x: lax.all_to_all(outer(4, x), "i", 0, 0) * x,
    "all_to_all tiled": lambda x: lax.all_to_all(outer(8, x), "i", 0, 1, tiled=True) ** 2,
    "axis_index": lambda x: lax.axis_index("i") * lax.axis_size("i") * x**2,
    "pmax": lambda x: lax.pmax(lax.stop_gradient(x), "i") * x**2,
    "pmin of integers": lambda x: lax.pmin(jnp.int32(x), "i") * x**2,
    "what all share": lambda x: lax.psum(jnp.ones(3), "i") * lax.psum_scatter(jnp.ones(4), "i") * x,
    "in a scan": lambda x: lax.scan(
        lambda c, _: (c + lax.psum(jnp.sin(c), "i") * x, c * lax.axis_index("i")), x, length=3
    )[1],
    "in a while loop": lambda x: (
        lax.stop_gradient(
            lax.while_loop(lambda c: lax.psum(c.sum(), "i") < 99.0, lambda c: c * 1.5, x)
        )
        * x
    ),
    "in a branch": lambda x: lax.cond(
        lax.psum(x.sum(), "i") > 3, lambda x: lax.psum(x**2, "i") * x, lambda x: x, x
    ),
    "in jit and remat": lambda x: jax.checkpoint(
        jax.jit(lambda x: jnp.sin(lax.psum(jnp.sin(x) * x, "i")) * x * x)
    )(x),
    "an axis of its own inside": lambda x: jax.vmap(
        lambda e: lax.psum(e**2, "k") * lax.psum(e, ("i", "k")) * e, axis_name="k"
    )(x),
    "the same name inside": lambda x: (
        jax.vmap(lambda e: lax.psum(e**2, "i") * e, axis_name="i")(x) * lax.psum(x, "i")
    ),
}


def total(f):
    return lambda x: f(x).sum()


def jax_vmap(f, **options):
    return jax.vmap(f, axis_name="i", **options)


def bm_vmap(f, **options):
    return bm.vmap(f, axis_name="i", **options)


# With which library a function is differentiated; JAX alone is the oracle.
PLACES = {
    "jax.vmap of bm.grad": lambda f, lib: jax_vmap(lib.grad(total(f))),
    "bm.grad of bm.vmap": lambda f, lib: lib.grad(lambda x: lib.vmap(f, axis_name="i")(x).sum()),
    "bm.vmap of bm.grad": lambda f, lib: lib.vmap(lib.grad(total(f)), axis_name="i"),
    "jax.grad of jax.vmap of bm.jit": lambda f, lib: jax.grad(
        lambda x: jax_vmap(lib.jit(f))(x).sum()
    ),
    "other batches around": lambda f, lib: (
        lambda x: jax.vmap(jax_vmap(lib.grad(total(f))))(jnp.stack([x, jnp.sin(x)]))
    ),
    "other batches inside": lambda f, lib: (
        lambda x: jax_vmap(jax.vmap(lib.grad(total(f))), in_axes=1)(jnp.stack([x, jnp.sin(x)]))
    ),
}
SOME = ["psum", "all_gather", "in a scan"]


def agree(ours, theirs):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), ours, theirs)


def check(place, f):
    agree(PLACES[place](f, bm)(X), jax.jit(PLACES[place](f, jax))(X))


@functools.cache
def of_jax():
    """What JAX says of each function in each place, compiled at once."""

    def all_of_them(x):
        return {
            name: {
                place: make(f, jax)(x)
                for place, make in PLACES.items()
                if name in SOME or place in list(PLACES)[:2]
            }
            for name, f in FUNCTIONS.items()
        }

    return jax.jit(all_of_them)(X)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    for place, expected in of_jax()[name].items():
        agree(PLACES[place](FUNCTIONS[name], bm)(X), expected)


@pytest.mark.parametrize("name", ["psum_scatter", "in a scan"])
def test_second_derivatives_and_pieces(name):
    f = FUNCTIONS[name]
    for make in (
        lambda lib: lib.hessian(total(f)),
        lambda lib: lambda x: lib.jvp(f, (x,), (2 * x,)),
        lambda lib: lambda x: lib.linearize(f, x)[1](x),
    ):
        agree(jax_vmap(make(bm))(X), jax.jit(jax_vmap(make(jax)))(X))


def test_pbroadcast():
    # JAX's own batching rule of it raises.
    def f(x):
        return (lax.pbroadcast(x**2, "i", 2) * x).sum()

    np.testing.assert_allclose(bm_vmap(f)(X), (X[2] ** 2 * X).sum(1), rtol=1e-6)
    expected = jnp.tile(X[2] ** 2, (4, 1)).at[2].add(2 * X[2] * X.sum(0))
    np.testing.assert_allclose(bm_vmap(bm.grad(f))(X), expected, rtol=1e-5)


def test_values_that_are_sent_to_some_only():
    def f(x):
        return (lax.ppermute(x, "i", [(0, 1), (2, 0)]) * x).sum()

    sent = jnp.array([X[2], X[0], 0 * X[0], 0 * X[0]])
    received = jnp.array([X[1], 0 * X[0], X[0], 0 * X[0]])
    np.testing.assert_allclose(bm_vmap(bm.grad(f))(X), sent + received, rtol=1e-6)


# -- Several axes --------------------------------------------------------------------------------

OF_TWO = {
    "psum": lambda x: lax.psum(x**2, ("i", "j")) * x,
    "each": lambda x: lax.psum(x**2, "i") * lax.psum(jnp.sin(x), "j") * x,
    "index": lambda x: lax.axis_index(("i", "j")) * x**2,
    "all_to_all": lambda x: (
        lax.all_to_all(outer(16, x), ("j", "i"), 0, 1, tiled=True) ** 2 * jnp.arange(24.0)
    ),
    "a dimension": lambda x: lax.psum(x**2, ("i", 0)) * x,
}


def mapped_twice(vmap, f):
    return vmap(vmap(f, axis_name="j"), axis_name="i")


@pytest.mark.parametrize("name", OF_TWO)
def test_two_axes(name):
    f = total(OF_TWO[name])
    expected = jax.jit(mapped_twice(jax.vmap, jax.grad(f)))(TWICE)
    agree(mapped_twice(jax.vmap, bm.grad(f))(TWICE), expected)
    agree(mapped_twice(bm.vmap, bm.grad(f))(TWICE), expected)


def test_one_axis_inside_what_is_differentiated_and_one_around():
    def make(lib):
        f = total(OF_TWO["each"])
        return jax_vmap(lib.grad(lambda x: jax.vmap(f, axis_name="j")(x).sum()))

    agree(make(bm)(TWICE), jax.jit(make(jax))(TWICE))


def test_two_axes_of_gather_and_scatter():
    """JAX maps these over one axis only: so over one of the joint size."""
    joint = TWICE.reshape(8, 3)

    def gather(axes, x):
        return (lax.all_gather(x**2, axes) * x * jnp.arange(8.0)[:, None]).sum()

    def scatter(axes, x):
        return (lax.psum_scatter(outer(8, x), axes) * x).sum()

    for f in (gather, scatter):
        expected = jax.vmap(jax.grad(functools.partial(f, "k")), axis_name="k")(joint)
        ours = mapped_twice(bm.vmap, bm.grad(functools.partial(f, ("i", "j"))))(TWICE)
        np.testing.assert_allclose(ours.reshape(8, 3), expected, rtol=1e-5)


# -- Rules ---------------------------------------------------------------------------------------


def ruled_vjp():
    f = jax.custom_vjp(lambda x: lax.psum(x**2, "i"))
    f.defvjp(lambda x: (f(x), x), lambda x, ct: (lax.psum(3 * x * ct, "i") + lax.axis_index("i"),))
    return f


def ruled_in_bwd():
    f = jax.custom_vjp(lambda x: x**2)
    f.defvjp(lambda x: (x**2, x), lambda x, ct: (lax.psum(3 * x * ct, "i"),))
    return f


def ruled_jvp():
    f = jax.custom_jvp(lambda x: lax.psum(x**2, "i"))
    f.defjvp(lambda p, t: (f(*p), lax.psum(3 * p[0] * t[0], "i")))
    return f


@pytest.mark.parametrize("ruled", [ruled_vjp, ruled_in_bwd, ruled_jvp])
@pytest.mark.parametrize("place", list(PLACES)[:2])
def test_derivative_rules(ruled, place):
    f = ruled()
    check(place, lambda x: f(x) * x)


INSIDE = {
    "jit": jax.jit,
    "scan": lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, length=2)[0],
    "cond": lambda f: lambda x: lax.cond(x.sum() > 0, f, lambda x: x, x),
    "checkpoint": jax.checkpoint,
    "map": lambda f: lambda x: lax.map(lambda k: f(k * x), jnp.arange(3.0)).sum(),
}


@pytest.mark.parametrize("ruled", [ruled_vjp, ruled_in_bwd, ruled_jvp])
@pytest.mark.parametrize("inside", INSIDE)
def test_derivative_rules_in_a_batch_of_what_has_been_traced(ruled, inside):
    """Their functions are traced before JAX batches them, their rules when that has ended."""
    f = ruled()

    def loss(x):
        return jnp.sum(jax.vmap(INSIDE[inside](f), axis_name="i")(x) * x[:, :1])

    agree(bm.grad(loss)(X), jax.grad(loss)(X))


def test_an_extremum_has_no_derivative_before_it_is_batched():
    def f(x):
        return lax.pmax(x, "i")

    with pytest.raises(UnsupportedError, match=r"'pmax' of a named axis(.|\n)*test_collectives"):
        bm_vmap(bm.grad(f))(X[:, 0])
    gradient = bm.grad(lambda x: bm_vmap(f)(x).sum())(X[:, 0])
    np.testing.assert_array_equal(gradient, [4.0, 0.0, 0.0, 0.0])


# -- What is batched -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda x: lax.psum(x**2, "i"),
        lambda x: lax.scan(lambda c, _: (lax.psum(c, "i"), c), lax.pmax(x, "i"), length=3),
        lambda x: lax.while_loop(lambda c: c.sum() < 99, lambda c: c * 2, lax.psum(x**2, "i")),
        lambda x: ruled_vjp()(x),
    ],
)
def test_what_all_have_has_no_batch_axis(f):
    expected = jax.jit(jax_vmap(f, out_axes=None))(X)
    agree(jax_vmap(bm.jit(f), out_axes=None)(X), expected)
    agree(bm_vmap(f, out_axes=None)(X), expected)


def test_variables_may_be_assigned_what_all_have():
    count = bm.Variable(jnp.zeros(3))

    def f(x):
        count.value = count.value + lax.psum(x, "i")
        return x

    bm_vmap(f)(X)
    np.testing.assert_allclose(count.value, X.sum(0), rtol=1e-6)


def test_without_arguments():
    def f():
        return lax.axis_index("i")

    positional = bm.vmap(f, 0, 0, "i", 3, None)
    for vmap in (positional, bm_vmap(f, axis_size=3), jax_vmap(bm.jit(f), axis_size=3)):
        np.testing.assert_array_equal(vmap(), [0, 1, 2])


# -- Names and caches ----------------------------------------------------------------------------


def test_the_size_of_an_axis_is_no_part_of_what_is_cached():
    f = bm.grad(lambda x: x * lax.axis_size("i") + lax.psum(x, "i"))
    for size in (2, 3, 2):
        for vmap in (jax_vmap, bm_vmap):
            np.testing.assert_array_equal(vmap(f)(jnp.arange(float(size))), [2.0 * size] * size)


def test_names_are_any_objects():
    name, other = object(), 3.5

    def f(x):
        return lax.psum(x**2, name) * lax.psum(x, other)

    ours = bm.vmap(bm.vmap(bm.grad(f), axis_name=name), axis_name=other)(X)
    theirs = jax.jit(jax.vmap(jax.vmap(jax.grad(f), axis_name=name), axis_name=other))(X)
    agree(ours, theirs)


def test_names_that_are_not_bound():
    with pytest.raises(NameError, match="unbound axis name: nowhere"):
        bm.grad(lambda x: lax.psum(x, "nowhere"))(1.0)


def test_groups_are_refused():
    with pytest.raises(UnsupportedError, match=r"`psum`: axis_index_groups(.|\n)*test_collectives"):
        bm_vmap(lambda x: lax.psum(x, "i", axis_index_groups=[[0, 1], [2, 3]]))(X)


# -- Devices -------------------------------------------------------------------------------------


def on_devices(f, **options):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec, **options))


@pytest.mark.parametrize("name", ["psum", "pmean", "axis_index"])
def test_axes_of_devices(name):
    f = total(FUNCTIONS[name])
    agree(on_devices(bm.grad(f), check_vma=False)(X), on_devices(jax.grad(f), check_vma=False)(X))


def test_values_that_are_said_to_vary_between_devices():
    with pytest.raises(UnsupportedError, match=r"`axis_index`: (.|\n)*check_vma=False"):
        on_devices(bm.jit(lambda x: x * lax.axis_index("i")))(X)


@pytest.mark.parametrize("perm", [[(0, 1), (1, 1)], [(0, 1), (0, 2)]])
def test_permutations_are_unique(perm):
    f = bm.vmap(lambda x: lax.ppermute(x, "i", perm), axis_name="i")
    with pytest.raises(NotImplementedError, match=r"must be unique, got perm=\[\(0, 1\)") as info:
        f(jnp.ones(3))
    assert f"\n  at {__file__}:" in str(info.value)
