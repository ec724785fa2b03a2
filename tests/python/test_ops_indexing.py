"""Slices, gathers and scatters: values, derivatives and batching are those of JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

X = np.linspace(-1.5, 2.0, 20).reshape(5, 4)
V = X[:, 1]
S = np.float64(0.7)
HIGH = np.int32(9)
LOW = np.int32(-9)
ONE = np.int32(1)


def check(fun, *args, **options):
    """Derivatives with respect to the float arguments; the others are indices."""

    def of_floats(*xs):
        rest = iter(xs)
        return fun(*(next(rest) if x.dtype.kind == "f" else x for x in args))

    check_derivatives(of_floats, *(x for x in args if x.dtype.kind == "f"), **options)


def check_runs(fun, *args):
    """The value, for any types."""
    got, want = bm.jit(fun)(*args), fun(*args)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))


def curved(x):
    """So that second derivatives of linear ops are not zero."""
    return x * x * x


# Slices


def sliced(start, limit, strides=None):
    return lambda x: curved(lax.slice(x, start, limit, strides))


def read(sizes):
    return lambda x, *starts: curved(lax.dynamic_slice(x, starts, sizes))


def write(x, u, *starts):
    return curved(lax.dynamic_update_slice(x, u, starts))


SLICES = {
    "rows": (sliced((1, 0), (4, 4)), X),
    "strides": (sliced((0, 1), (5, 4), (2, 3)), X),
    "stride up to the end": (sliced((1,), (5,), (3,)), V),
    "no rows": (sliced((2, 0), (2, 4), (2, 1)), X),
    "of size 1": (sliced((0, 3), (1, 4), (1, 5)), X[:1]),
    "of nothing": (sliced((0, 1), (0, 3), (1, 2)), X[:0]),
    "of a scalar": (sliced((), ()), S),
    "read": (read((2, 3)), X, ONE, ONE),
    "read too far up": (read((2, 3)), X, HIGH, HIGH),
    "read too far down": (read((2, 3)), X, LOW, ONE),
    "read nothing": (read((0,)), V, ONE),
    "read a scalar": (read(()), S),
    "write": (write, X, X[3:, 1:], ONE, ONE),
    "write too far up": (write, X, X[3:, 1:], HIGH, HIGH),
    "write too far down": (write, X, X[3:, 1:], LOW, ONE),
    "write nothing": (write, V, V[:0], ONE),
    "write a scalar": (write, S, S),
}


@pytest.mark.parametrize("name", SLICES)
def test_slices(name):
    fun, *args = SLICES[name]
    check(fun, *args)
    check_batching(fun, *args)


def test_derivatives_of_batched_dynamic_slices():
    def fun(x, u):
        starts = jnp.asarray([0, 2, 7])
        written = jax.vmap(lambda x, u, i: write(x, u, i))(x, u, starts)
        return jax.vmap(lambda x, i: read((2,))(x, i))(written, starts + 1)

    check(fun, X[:3], X[2:, 1:3])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int64])
def test_index_types_of_dynamic_slices(dtype):
    with jax.enable_x64(True):
        for start in (0, 3, 100):
            check_runs(lambda x, i: lax.dynamic_slice(x, (i,), (2,)), V, dtype(start))
            check_runs(lambda x, i: lax.dynamic_update_slice(x, V[:2], (i,)), V, dtype(start))


# Gather

MODES = ["clip", "fill", "promise_in_bounds"]
ROWS = lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
# Name: dimension numbers, slice sizes, indices inside, indices not all inside.
WINDOWS = {
    "rows": (ROWS, (1, 4), [[0], [2], [2]], [[0], [2], [2], [7], [-1]]),
    "windows": (
        lax.GatherDimensionNumbers(
            offset_dims=(0, 2), collapsed_slice_dims=(), start_index_map=(1, 0)
        ),
        (2, 3),
        [[0, 0], [1, 3], [0, 2]],
        [[0, 0], [1, 3], [0, 2], [2, 1], [-1, 0]],
    ),
    "elements": (
        lax.GatherDimensionNumbers(
            offset_dims=(), collapsed_slice_dims=(0, 1), start_index_map=(0, 1)
        ),
        (1, 1),
        [[0, 0], [1, 3], [1, 3]],
        [[0, 0], [1, 3], [1, 3], [5, 3], [0, -1]],
    ),
    "one window a row": (
        lax.GatherDimensionNumbers(
            offset_dims=(1,),
            collapsed_slice_dims=(),
            start_index_map=(1,),
            operand_batching_dims=(0,),
            start_indices_batching_dims=(0,),
        ),
        (1, 2),
        [[0], [2], [1], [0], [2]],
        [[0], [2], [1], [3], [-1]],
    ),
}
ELEMENT = lax.GatherDimensionNumbers((), (0,), (0,))


def indices_of(name, mode):
    return np.asarray(WINDOWS[name][2 if mode == "promise_in_bounds" else 3], np.int32)


def gather(name, mode, **options):
    numbers, sizes, *_ = WINDOWS[name]
    return lambda x, i: lax.gather(x, i, numbers, sizes, mode=mode, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WINDOWS)
def test_gather(name, mode):
    gathered = gather(name, mode, fill_value=7.0)
    indices = indices_of(name, mode)
    check(lambda x, i: gathered(curved(x), i), X, indices)
    if mode == "promise_in_bounds":
        check_batching(lambda x: gathered(x, indices), X)
    else:
        check_batching(gathered, X, indices)


@pytest.mark.parametrize("mode", ["clip", "fill"])
def test_derivatives_of_batched_gather(mode):
    indices = jnp.asarray([[[0], [3]], [[4], [4]], [[9], [-2]]])
    gathered = jax.vmap(gather("rows", mode, fill_value=7.0))
    check(lambda x: gathered(curved(x), indices), np.stack([X, X + 1, X * X]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("mode", ["clip", "fill"])
@pytest.mark.parametrize("size", [100, 300])
def test_index_types_of_gather(mode, dtype, size):
    """Also where the type cannot hold the size of the array."""
    with jax.enable_x64(True):
        indices = [0, 100, np.iinfo(dtype).max]
        result = bm.jit(lambda x, i: lax.gather(x, i, ELEMENT, (1,), mode=mode, fill_value=-1))(
            jnp.arange(size), jnp.asarray(indices, dtype)[:, None]
        )
        outside = [size - 1 if mode == "clip" else -1] * 3
        want = [i if i < size else o for i, o in zip(indices, outside, strict=True)]
        assert result.tolist() == want


@pytest.mark.parametrize(
    "dtype", [np.int32, np.uint8, np.bool_, np.float16, np.float32, np.complex64]
)
def test_default_fill_values(dtype):
    x, i = jnp.asarray([1, 0, 3], dtype), jnp.asarray([0, 5, 2])
    check_runs(lambda x, i: x.at[i].get(mode="fill"), x, i)


def test_numpy_indexing():
    i, j = np.asarray([0, 3, 3]), np.asarray([1, -1, 2])
    check(lambda x, i, j: curved(x)[i, j], X, i, j)
    check(lambda x, j: curved(x)[1:, j], X, j)
    check(lambda x, i: curved(x)[..., i, None], X, i)
    check(lambda x: curved(x)[::-2, 1], X)
    check(lambda x, j: jnp.take_along_axis(curved(x), j[None] % 4, axis=0), X[:, :3], j)


def test_gather_nothing():
    none = np.zeros((0, 1), np.int32)
    check(lambda x: gather("rows", "clip")(curved(x), none), X)
    check(lambda x: gather("rows", "fill")(curved(x), none), X[:0])
    check_batching(gather("rows", "clip"), X, none)


# Scatter

ELEMENTS = lax.ScatterDimensionNumbers((), (0,), (0,))


def scatter(op, name, mode, **options):
    numbers = WINDOWS[name][0]
    mirrored = lax.ScatterDimensionNumbers(
        update_window_dims=numbers.offset_dims,
        inserted_window_dims=numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=numbers.start_index_map,
        operand_batching_dims=numbers.operand_batching_dims,
        scatter_indices_batching_dims=numbers.start_indices_batching_dims,
    )
    return lambda x, i, u: op(x, i, u, mirrored, mode=mode, **options)


def updates_of(name, mode):
    shape = jax.eval_shape(gather(name, mode), X, indices_of(name, mode)).shape
    return np.random.default_rng(3).normal(size=shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("op", "name"),
    [*((lax.scatter, name) for name in WINDOWS), (lax.scatter_add, "rows"),
     (lax.scatter_add, "windows"), (lax.scatter_sub, "rows")],
)  # fmt: skip
def test_scatter(op, name, mode):
    scattered = scatter(op, name, mode)
    indices, updates = indices_of(name, mode), updates_of(name, mode)
    check(lambda x, i, u: curved(scattered(curved(x), i, curved(u))), X, indices, updates)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(("op", "mode"), [(lax.scatter, "clip"), (lax.scatter_add, "fill")])
def test_scatter_batching(op, name, mode):
    check_batching(scatter(op, name, mode), X, indices_of(name, mode), updates_of(name, mode))


@pytest.mark.parametrize("op", [lax.scatter_add, lax.scatter, lax.scatter_max])
def test_scatter_with_one_tangent(op):
    """The other's is a symbolic zero."""
    scattered = scatter(op, "rows", "fill")
    indices, updates = indices_of("rows", "fill"), updates_of("rows", "fill")
    check(lambda x: curved(scattered(curved(x), indices, updates)), X)
    check(lambda u: curved(scattered(X, indices, curved(u))), updates)


@pytest.mark.parametrize("mode", ["clip", "fill"])
@pytest.mark.parametrize("op", [lax.scatter, lax.scatter_mul, lax.scatter_add])
def test_scatter_unique(op, mode):
    scattered = scatter(op, "rows", mode, unique_indices=True)
    indices = np.asarray([[3], [0], [1]])
    check(lambda x, u: scattered(curved(x), indices, curved(u)), X, X[2:])
    if mode == "clip":
        check_batching(lambda x, u: scattered(x, indices, u), X, X[2:])


def test_scatter_mul():
    """Of the updates it has a derivative only if they are known not to meet."""
    scattered = scatter(lax.scatter_mul, "rows", "clip")
    indices, updates = indices_of("rows", "clip"), updates_of("rows", "clip")
    check(lambda x: curved(scattered(x, indices, updates)), X)
    check_batching(lambda x, i: scattered(x, i, updates), X, indices)
    with pytest.raises(NotImplementedError, match=r"unique_indices(?s:.*)test_ops_indexing"):
        bm.grad(lambda u: scattered(X, indices, u).sum())(updates)


def test_one_factor_does_not_meet_another():
    def product(u):
        return bm.grad(lambda u: jnp.sum(jnp.asarray(V).at[2].multiply(u) ** 2))(u)

    np.testing.assert_allclose(product(3.0), 2 * 3 * V[2] ** 2, rtol=1e-5)


@pytest.mark.parametrize("op", [lax.scatter_min, lax.scatter_max])
@pytest.mark.parametrize("name", ["rows", "windows"])
def test_scatter_extrema(name, op):
    scattered = scatter(op, name, "fill")
    indices, updates = indices_of(name, "fill"), updates_of(name, "fill")
    check(lambda x, i, u: curved(scattered(curved(x), i, curved(u))), X, indices, updates)


@pytest.mark.parametrize("op", [lax.scatter_min, lax.scatter_max])
def test_extrema_that_tie(op):
    """Equal candidates share the derivative in equal parts."""
    x = np.asarray([1.0, 1.0, 5.0, -5.0])
    indices = np.asarray([[0], [0], [1], [2], [2], [3], [3], [9]])
    updates = np.asarray([1.0, 1.0, 1.0, 2.0, 2.0, 0.0, 3.0, 1.0])
    check(lambda x, u: curved(op(x, indices, u, ELEMENTS)), x, updates, differences=False)


def test_extrema_of_clipped_indices():
    """JAX's derivative drops what its value clamps; here both clamp."""

    def largest(u):
        return lax.scatter_max(jnp.zeros(3), jnp.asarray([[9]]), u, ELEMENTS, mode="clip")

    _, pull = bm.vjp(largest, jnp.ones(1))
    assert pull(jnp.asarray([1.0, 2.0, 4.0]))[0].tolist() == [4.0]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize("name", ["add", "set", "multiply", "subtract"])
def test_types_of_scatter(name, dtype):
    x, u = jnp.asarray(V, dtype), jnp.asarray([2, -3, 0.5], dtype)

    def fun(x, u):
        return getattr(x.at[jnp.asarray([4, 0, 2])], name)(u, unique_indices=True)

    def pulled(lib):
        return lib.vjp(fun, x, u)[1](x + 1)

    check_runs(fun, x, u)
    for got, want in zip(pulled(bm), pulled(jax), strict=True):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(
            np.asarray(got, np.complex64), np.asarray(want, np.complex64), rtol=1e-2
        )


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_scatter_of_integers(dtype):
    x, u = jnp.asarray([1, 0, 3], dtype), jnp.asarray([1, 1, 2, 1], dtype)
    i = jnp.asarray([[0], [2], [2], [5]])
    ops = [lax.scatter, lax.scatter_min, lax.scatter_max]
    if dtype != np.bool_:
        ops += [lax.scatter_add, lax.scatter_sub, lax.scatter_mul]
    for op in ops:
        check_runs(lambda x, i, u, op=op: op(x, i, u, ELEMENTS), x, i, u)


def test_complex_scatter_add():
    x, i, u = X[0] + 1j * X[1], np.asarray([[0], [2], [2]]), X[2, :3] - 1j * X[3, :3]
    check_derivatives(lambda x, u: curved(lax.scatter_add(curved(x), i, u, ELEMENTS)), x, u)


def test_set_of_a_constant():
    """Which of overlapping updates stays does not matter to the operand."""
    i = np.asarray([0, 2, 2, 9])
    check(lambda x: curved(curved(x).at[i].set(1.0)), V)
    check(lambda x, c: curved(curved(x).at[i].set(c)), V, S)
    check(lambda x, c: curved(curved(x).at[2].set(c)), V, S)
    check(lambda x, c: curved(curved(x).at[1:3].set(c)), V, S)


def test_derivatives_of_batched_scatter():
    i = jnp.asarray([[[0], [2], [2]], [[1], [1], [9]]])
    each = jax.vmap(lambda x, i, u: lax.scatter(x, i, u, ELEMENTS))
    check(lambda x, u: curved(each(x, i, curved(u))), X[:2], X[2:4, :3])


def test_scatter_into_nothing():
    """With no place to go updates are dropped, and their derivative is zero."""
    i = jnp.asarray([[0], [1]])
    out, pull = bm.vjp(lambda x, u: lax.scatter_add(x, i, u, ELEMENTS), jnp.zeros(0), jnp.ones(2))
    assert out.shape == (0,)
    assert [g.tolist() for g in pull(out)] == [[], [0, 0]]
    none = np.zeros((0, 1), np.int32)
    check(lambda x, u: curved(lax.scatter(x, none, u, ELEMENTS)), V, V[:0])


def test_scatter_apply():
    """Another update function runs as JAX lowers it."""
    check_runs(lambda x: x.at[jnp.asarray([0, 2, 2])].apply(jnp.square), jnp.asarray(V))


@pytest.mark.parametrize("size", [5, 2])
@pytest.mark.parametrize("name", ["max", "min"])
def test_extrema_are_shared_by_few_updates_and_by_many(name, size):
    """Of more places than updates, and of fewer: ties are divided in other ways."""
    x = jnp.full(size, 2.0)
    index, updates = jnp.array([1, 1, 0]), jnp.array([2.0, 2.0, 9.0 if name == "max" else 1.0])

    def loss(m, *argnums):
        f = lambda x, u: (getattr(x.at[index], name)(u) * jnp.arange(1.0, size + 1)).sum()  # noqa: E731
        return m.grad(f, argnums=argnums)(x, updates)

    for argnums in ((0, 1), (0,), (1,)):
        got, want = (loss(m, *argnums) for m in (bm, jax))
        jax.tree.map(np.testing.assert_allclose, got, want)
