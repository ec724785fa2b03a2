import contextlib
import copy
import operator
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm
from bmgrad import _tracing_state


class Recorder:
    """A trace context that keeps values of its own, as a tracer does."""

    def __init__(self):
        self.values = {}
        self.owned = set()

    def read(self, array):
        return self.values.get(id(array), array._value)

    def write(self, array, value):
        self.values[id(array)] = value

    def own(self, array):
        self.owned.add(id(array))


def assert_kind(computed):
    """What has axes comes as a bm.Array, a scalar as a jax array."""
    assert isinstance(computed, bm.Array if computed.shape else jax.Array)


# ---- making arrays


@pytest.mark.parametrize(
    "given", [3.0, [1, 2], np.arange(3), jnp.ones(2), bm.ones(2), (1.0, 2.0), [[1], [2]], True]
)
def test_values_and_dtype_are_those_of_jax(given):
    expected = jnp.array(bm.as_jax(given))
    array = bm.Array(given)
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def test_dtype_is_honoured():
    assert bm.Array([1, 2], dtype=bm.float32).dtype == np.float32
    assert bm.Array(jnp.ones(2), dtype="int32").dtype == np.int32


def test_lists_may_contain_arrays():
    x = bm.array(2.0)
    for made in (bm.Array([x, 3.0]), bm.array([x, 3.0]), bm.asarray([[x], [3.0]]).ravel()):
        np.testing.assert_array_equal(made, [2.0, 3.0])


def test_changing_the_numpy_source_does_not_change_the_array():
    source = np.zeros(1 << 12, dtype=np.float32)
    array = bm.Array(source)
    source[:] = 1
    assert float(array.max()) == 0


# ---- operators

BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
    operator.matmul,
]
BITWISE = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("kind", ["array", "variable", "numpy", "scalar", "numpy scalar"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_binary_operators(op, kind, side):
    x, y = np.array([1.5, 2.0, 3.0], np.float32), np.array([2.0, 2.0, 0.5], np.float32)
    if "scalar" in kind:
        if op is operator.matmul:
            pytest.skip("not defined for scalars")
        y = np.float32(2.0)
    others = {"array": bm.Array, "variable": bm.Variable, "scalar": float}
    other = others.get(kind, lambda v: v)(y)
    ours = op(bm.Array(x), other) if side == "left" else op(other, bm.Array(x))
    plain = op(jnp.asarray(x), y) if side == "left" else op(jnp.asarray(y), x)
    assert_kind(ours)
    assert ours.dtype == plain.dtype
    np.testing.assert_allclose(ours, plain, rtol=1e-6)


@pytest.mark.parametrize("op", BITWISE)
def test_bitwise_operators(op):
    x, y = np.array([1, 2, 7]), np.array([1, 1, 2])
    expected = op(x, y)
    np.testing.assert_array_equal(op(bm.Array(x), bm.Array(y)), expected)
    np.testing.assert_array_equal(op(x, bm.Array(y)), expected)
    changed = bm.Array(x)
    getattr(changed, f"__i{op.__name__.strip('_')}__")(y)
    np.testing.assert_array_equal(changed, expected)


def test_divmod_and_unary():
    x = bm.Array([5.0, -7.0])
    quotient, rest = divmod(x, 3)
    np.testing.assert_array_equal(quotient, [1, -3])
    np.testing.assert_array_equal(rest, [2, 2])
    assert divmod(9, bm.array(4))[0] == 2
    np.testing.assert_array_equal(-x, [-5, 7])
    np.testing.assert_array_equal(+x, [5, -7])
    np.testing.assert_array_equal(abs(x), [5, 7])
    np.testing.assert_array_equal(~bm.Array([True, False]), [False, True])
    np.testing.assert_allclose(round(bm.Array([1.26]), 1), [1.3], rtol=1e-6)


def test_a_jax_array_on_the_left_computes_the_same():
    # jax converts the right operand itself, so the result is a jax array.
    np.testing.assert_array_equal(jnp.ones(2) + bm.Array([1.0, 2.0]), [2.0, 3.0])


def test_operands_that_do_not_fit_raise():
    with pytest.raises(TypeError):
        bm.ones(2) + "a"
    assert (bm.ones(2) == None) is False  # noqa: E711


# ---- writing


def test_value_keeps_shape_and_dtype():
    x = bm.zeros(3)
    x.value = np.ones(3, np.float32)
    x.update(bm.ones(3) * 2)
    np.testing.assert_array_equal(x, [2, 2, 2])
    with pytest.raises(ValueError, match=r"shape \(3,\).*shape \(2,\)"):
        x.value = bm.ones(2)
    with pytest.raises(TypeError, match=r"float32.*int32.*astype"):
        x.value = bm.ones(3, dtype=int)
    np.testing.assert_array_equal(x, [2, 2, 2])


def test_a_python_number_is_a_value_of_a_scalar():
    x = bm.array(1.0)
    x.value = 3
    assert (float(x), x.dtype) == (3.0, np.float32)
    with pytest.raises(TypeError, match="lose"):
        bm.array(1).value = 2.5


def test_messages_name_the_variable():
    import bmgrad as bp

    class Layer(bp.Base):
        def __init__(self):
            super().__init__()
            self.w = bm.TrainVar(bm.ones(2))

    layer = Layer()
    with pytest.raises(ValueError, match=rf"TrainVar '{layer.name}\.w'"):
        layer.w.value = bm.ones(3)


def test_weak_types_do_not_get_in():
    v = bm.Variable(jnp.asarray(1.0))
    assert not v.weak_type
    v.value = jnp.asarray(2.0)
    assert not v.weak_type
    x = bm.zeros(())
    x *= 2.0
    assert not x.weak_type


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 5),
        (-1, 5.0),
        (slice(1, None), 7),
        (slice(None), [1, 2, 3]),
        (Ellipsis, 0),
        ([0, 2], 9),
        (np.array([True, False, True]), 4),
        (bm.array([0, 1]), bm.array([8.0, 9.0])),
        (bm.array(2), 1),
        (np.int64(1), 1),
    ],
)
def test_item_assignment_is_numpys(index, value):
    x, plain = bm.Array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0], np.float32)
    same = x
    x[index] = value
    plain[np.asarray(index) if isinstance(index, bm.Array) else index] = value
    assert same is x
    np.testing.assert_array_equal(x, plain)


@pytest.mark.parametrize("index", [3, -4, (0, 2), (Ellipsis, 2), (None, 5), (slice(None), -3)])
def test_integers_out_of_bounds_raise(index):
    x = bm.zeros((3, 2))
    with pytest.raises(IndexError, match="out of bounds"):
        x[index]
    with pytest.raises(IndexError, match="out of bounds"):
        x[index] = 1


@pytest.mark.parametrize(
    "index", [(Ellipsis, 1), (None, 2, 1), (True, 2), (np.ones((3, 2), bool),)]
)
def test_indices_that_are_in_bounds(index):
    plain = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(bm.Array(plain)[index], plain[index])


def test_items_must_fit():
    x = bm.zeros(3, dtype=int)
    with pytest.raises(TypeError, match="lose"):
        x[0] = 1.5
    with pytest.raises(TypeError, match="lose"):
        x[:] = bm.ones(3)
    with pytest.raises(ValueError, match="broadcast"):
        x[:2] = bm.ones(3, dtype=int)
    y = bm.zeros(3)
    y[0] = bm.ones((), dtype=int)
    np.testing.assert_array_equal(y, [1, 0, 0])


@pytest.mark.parametrize(
    "op", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul"]
)
def test_in_place_operators_change_the_object(op):
    values, other = np.array([[4.0, 2.0], [1.0, 3.0]], np.float32), np.eye(2, dtype=np.float32) + 1
    x = bm.Array(values)
    result = getattr(operator, op)(x, other)
    assert result is x
    np.testing.assert_allclose(x, getattr(operator, op)(values.copy(), other), rtol=1e-6)


def test_in_place_operators_keep_shape_and_dtype():
    x = bm.zeros(3)
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 3\)"):
        x += bm.ones((2, 3))
    i = bm.zeros(3, dtype=int)
    with pytest.raises(TypeError, match="lose"):
        i += 0.5
    with pytest.raises(TypeError, match="lose"):
        i /= 2
    h = bm.zeros(3, dtype=bm.float16)
    h += bm.ones(3)
    assert h.dtype == np.float16
    np.testing.assert_array_equal(h, [1, 1, 1])
    np.testing.assert_array_equal(i, [0, 0, 0])


def test_fill_and_sort_in_place():
    x = bm.Array([[3, 1], [2, 5]])
    assert x.sort() is None
    np.testing.assert_array_equal(x, [[1, 3], [2, 5]])
    x.sort(axis=0, descending=True)
    np.testing.assert_array_equal(x, [[2, 5], [1, 3]])
    x.fill(4)
    np.testing.assert_array_equal(x, np.full((2, 2), 4))
    with pytest.raises(TypeError, match="lose"):
        x.fill(0.5)


def test_at_gives_copies():
    x = bm.zeros(3)
    y = x.at[bm.array([0, 1])].set(bm.array([1.0, 2.0])).at[0].add(5)
    assert type(y) is bm.Array
    np.testing.assert_array_equal(y, [6, 2, 0])
    np.testing.assert_array_equal(x, [0, 0, 0])


# ---- methods and protocols

METHODS = [
    ("sum", (0,)),
    ("mean", ()),
    ("std", ()),
    ("var", (1,)),
    ("max", ()),
    ("min", (0,)),
    ("prod", ()),
    ("any", ()),
    ("all", ()),
    ("argmax", ()),
    ("argmin", (1,)),
    ("argsort", ()),
    ("cumsum", (0,)),
    ("cumprod", (0,)),
    ("reshape", (3, 2)),
    ("ravel", ()),
    ("flatten", ()),
    ("transpose", ()),
    ("swapaxes", (0, 1)),
    ("squeeze", ()),
    ("repeat", (2,)),
    ("take", ([0, 3],)),
    ("clip", (1, 3)),
    ("round", ()),
    ("conj", ()),
    ("diagonal", ()),
    ("trace", ()),
    ("astype", (np.int32,)),
    ("dot", (np.ones((3, 2), np.float32),)),
    ("copy", ()),
]


@pytest.mark.parametrize(("name", "args"), METHODS)
def test_methods_are_numpys(name, args):
    plain = np.array([[1.0, 4.0, 2.0], [0.5, 3.0, 6.0]], np.float32)
    jax_args = tuple(bm.Array(a) if isinstance(a, (list, np.ndarray)) else a for a in args)
    ours, expected = getattr(bm.Array(plain), name)(*jax_args), getattr(plain, name)(*args)
    assert_kind(ours)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_properties():
    x = bm.Array([[1.0 + 2j, 3.0]])
    assert (x.ndim, x.size, x.nbytes, x.itemsize, len(x)) == (2, 2, 16, 8, 1)
    assert x.T.shape == (2, 1)
    assert x.mT.shape == (2, 1)
    np.testing.assert_array_equal(x.real, [[1.0, 3.0]])
    np.testing.assert_array_equal(x.imag, [[2.0, 0.0]])
    assert x.block_until_ready() is x
    assert x.devices() == x.value.devices()
    assert x.tolist() == [[1 + 2j, 3]]
    assert x.item(1) == 3
    assert isinstance(x.to_numpy(), np.ndarray)
    assert isinstance(x.to_jax(), jax.Array)
    assert bm.Array([1, 2]).tobytes() == np.array([1, 2], np.int32).tobytes()


def test_conversion_to_python():
    assert float(bm.array(1.5)) == 1.5
    assert int(bm.array(2)) == 2
    assert complex(bm.array(2)) == 2 + 0j
    assert bool(bm.array(0)) is False
    assert [10, 20, 30][bm.array(1)] == 20
    assert f"{bm.array(1.25):.1f}" == f"{np.float32(1.25):.1f}"
    with pytest.raises((TypeError, ValueError), match="ambiguous"):
        bool(bm.ones(2))
    with pytest.raises(TypeError):
        len(bm.array(1))
    with pytest.raises(TypeError):
        iter(bm.array(1))


def test_iteration_and_membership():
    rows = list(bm.Array([[1, 2], [3, 4]]))
    assert all(type(row) is bm.Array for row in rows)
    np.testing.assert_array_equal(rows[1], [3, 4])
    assert 3 in bm.Array([1, 3])
    assert 5 not in bm.Array([1, 3])


def test_hash_is_the_object():
    x, y = bm.ones(2), bm.ones(2)
    table = {x: "x", y: "y"}
    x += 1
    assert (table[x], table[y]) == ("x", "y")


def test_repr():
    assert repr(bm.Array([1.0, 2.0])) == "Array([1., 2.], dtype=float32)"
    assert repr(bm.TrainVar(bm.ones(1))) == "TrainVar([1.], dtype=float32)"
    assert repr(bm.Variable(bm.zeros((2, 1)))) == (
        "Variable([[0.],\n          [0.]], dtype=float32)"
    )
    assert str(bm.Array([1.0, 2.0])) == "[1. 2.]"
    shown = []
    jax.make_jaxpr(lambda x: shown.append(repr(bm.Array(x))) or x)(1.0)
    assert shown[0].startswith("Array(")
    assert "float32" in shown[0]


@pytest.mark.parametrize("kind", [bm.Array, bm.Variable, bm.TrainVar, bm.Parameter])
def test_copies_are_independent(kind):
    x = kind(bm.array([1.0, 2.0]))
    x._lifted = True
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(twin) is kind
        assert twin._lifted is False
        twin += 1
        np.testing.assert_array_equal(twin, [2.0, 3.0])
    np.testing.assert_array_equal(x, [1.0, 2.0])


# ---- with jax and numpy


def test_numpy_takes_arrays():
    x = bm.Array([1.0, 4.0])
    np.testing.assert_array_equal(np.sqrt(x), [1, 2])
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.from_dlpack(x), [1, 4])


@pytest.mark.parametrize("kind", [bm.Array, bm.TrainVar])
def test_jax_takes_arrays(kind):
    x, s = kind(bm.array([1.0, 2.0])), kind(bm.array(3.0))
    np.testing.assert_allclose(jnp.sin(x), np.sin([1.0, 2.0]), rtol=1e-6)
    np.testing.assert_array_equal(jnp.asarray([s, 2 * s, 1.0]), [3, 6, 1])
    np.testing.assert_array_equal(jnp.stack([x, x]).shape, (2, 2))
    np.testing.assert_array_equal(jnp.where(jnp.array([True, False]), x, s), [1, 3])
    np.testing.assert_array_equal(jax.vmap(lambda a: a * 2)(x), [2, 4])
    np.testing.assert_array_equal(jax.jit(lambda a: a + 1)(x), [2, 3])
    assert type(jax.jit(lambda a: a)(x)) is bm.Array


def test_scan_over_arrays():
    def step(carry, x):
        return carry + x, carry

    last, all_ = jax.lax.scan(step, bm.zeros(1), bm.arange(4.0))
    assert isinstance(last, bm.Array)
    assert last.tolist() == [6]
    np.testing.assert_array_equal(all_, [[0], [0], [1], [3]])
    # A scalar that was computed is a jax array, so a carry starts as one.
    last, _ = jax.lax.scan(step, 0.0, bm.arange(4.0))
    assert float(last) == 6


def test_a_variable_comes_out_of_a_pytree_as_a_plain_array():
    v = bm.TrainVar(bm.ones(2))
    leaves, tree = jax.tree.flatten({"v": v})
    assert isinstance(leaves[0], jax.Array)
    assert type(jax.tree.unflatten(tree, leaves)["v"]) is bm.Array
    assert type(jax.tree.unflatten(tree, [object()])["v"]) is bm.Array
    path, _ = jax.tree_util.tree_flatten_with_path(v)[0][0]
    assert jax.tree_util.keystr(path) == ".value"


def test_subclasses_are_pytrees_too():
    class Delay(bm.Variable):
        pass

    assert len(jax.tree.leaves(Delay(bm.ones(2)))) == 1


# ---- variables


def test_a_variable_from_a_shape():
    for shape in (3, (2, 3), (), np.int64(2)):
        v = bm.Variable(shape, dtype=bm.int32)
        np.testing.assert_array_equal(v, np.zeros(shape, np.int32))
        assert v.dtype == np.int32
    np.testing.assert_array_equal(bm.Variable([1, 2]), [1, 2])
    np.testing.assert_array_equal(bm.Variable(2.0), 2.0)


def test_kinds_of_variables():
    assert issubclass(bm.TrainVar, bm.Variable)
    assert issubclass(bm.Parameter, bm.Variable)
    assert not issubclass(bm.Parameter, bm.TrainVar)
    assert bm.JaxArray is bm.Array


# ---- the hook of the tracer


def test_reads_and_writes_go_to_the_context():
    x = bm.Variable(bm.zeros(2))
    context = Recorder()
    with _tracing_state.tracing(context):
        assert _tracing_state.current() is context
        x += 1
        x[0] = 5
        x.value = x + 1
        np.testing.assert_array_equal(x, [6, 2])
        made = x * 2
        assert id(made) in context.owned
        assert id(x) not in context.owned
        from_tree = jax.tree.map(lambda a: a, x)
        assert id(from_tree) in context.owned
        np.testing.assert_array_equal(from_tree, [6, 2])
        with pytest.raises(ValueError, match="shape"):
            x.value = bm.ones(3)
    assert _tracing_state.current() is None
    np.testing.assert_array_equal(x, [0, 0])


def test_contexts_nest_and_are_left_when_the_body_raises():
    outer, inner = Recorder(), Recorder()
    with _tracing_state.tracing(outer):
        with contextlib.suppress(RuntimeError), _tracing_state.tracing(inner):
            assert _tracing_state.current() is inner
            raise RuntimeError
        assert _tracing_state.current() is outer
        with _tracing_state.tracing(None):
            assert _tracing_state.current() is None


def test_contexts_belong_to_a_thread():
    seen = []
    with _tracing_state.tracing(Recorder()):
        thread = threading.Thread(target=lambda: seen.append(_tracing_state.current()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_scalars_that_are_made_are_arrays_and_those_computed_are_jaxs():
    made = bm.array(2.0), bm.zeros(()), bm.full((), 3), bm.asarray(1), bm.ones_like(jnp.zeros(()))
    assert all(type(x) is bm.Array for x in made)
    x = bm.arange(3.0)
    computed = x.sum(), x[1], bm.max(x), made[0] + 1, -made[0], x @ x, next(iter(x)), made[0].T
    assert all(isinstance(y, jax.Array) for y in computed)
    made[0].value = computed[0]
    assert float(made[0]) == 3
