import doctest
import importlib
import inspect

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm
from bmgrad.math import _functions

UNARY = """
    abs arccos arcsinh arctan cbrt ceil cos cosh cumsum deg2rad exp exp2 expm1 fabs flip floor
    isfinite isnan log1p log_softmax logsumexp max mean median min nan_to_num negative ones_like
    prod ravel reciprocal relu rint round sigmoid sign sin sinc sinh softmax softplus sort sqrt
    square std sum tan tanh transpose trunc var zeros_like
"""


def plain(x):
    return x.value if isinstance(x, bm.Array) else x


@pytest.mark.parametrize("name", UNARY.split())
def test_functions_are_jaxs(name):
    x = jnp.array([[0.1, 0.5], [0.9, 0.3]])
    expected = getattr(jnp, name, None) or getattr(jax.nn, name)
    for given in (bm.Array(x), bm.Variable(x), x, np.asarray(x)):
        ours = getattr(bm, name)(given)
        assert isinstance(ours, bm.Array if ours.shape else jax.Array)
        assert ours.dtype == expected(x).dtype
        np.testing.assert_array_equal(ours, expected(x))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: bm.concatenate([x, x]), [1, 2, 1, 2]),
        (lambda x: bm.stack((x, bm.array([3.0, 4.0]))), [[1, 2], [3, 4]]),
        (lambda x: bm.where(x > 1, x, 0), [0, 2]),
        (lambda x: bm.dot(x, x), 5),
        (lambda x: bm.einsum("i,i->", x, x), 5),
        (lambda x: bm.clip(x, min=bm.array(1.5)), [1.5, 2]),
        (lambda x: bm.sum(x, where=bm.array([True, False])), 1),
        (lambda x: bm.linalg.norm(x), 5**0.5),
        (lambda x: bm.linalg.inv(bm.diag(x)), [[1, 0], [0, 0.5]]),
        (lambda x: bm.fft.ifft(bm.fft.fft(x)).real, [1, 2]),
        (lambda x: bm.one_hot(bm.array(1), 2), [0, 1]),
        (lambda x: bm.mgrid[0:2], [0, 1]),
        (lambda x: bm.r_[x, 5.0], [1, 2, 5]),
        (lambda x: bm.apply_along_axis(bm.sum, 0, x), 3),
        (lambda x: bm.array([[x[0], x[1]], [3.0, x[0]]]), [[1, 2], [3, 1]]),
        (lambda x: bm.full(2, x[1]), [2, 2]),
        (lambda x: bm.row_stack([x, x]), [[1, 2], [1, 2]]),
    ],
)
def test_arrays_anywhere_in_the_arguments(call, expected):
    result = call(bm.Array([1.0, 2.0]))
    assert isinstance(result, bm.Array if result.shape else jax.Array)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_results_in_containers():
    x = bm.Array([[2.0, 0.0], [0.0, 1.0]])
    for result in (bm.split(x, 2), bm.linalg.eigh(x), bm.meshgrid(x[0], x[1]), bm.nonzero(x)):
        assert all(type(part) is bm.Array for part in result)
    assert bm.linalg.eigh(x).eigenvalues.tolist() == [1.0, 2.0]


def test_results_that_are_no_arrays():
    x = bm.ones((2, 3))
    assert bm.shape(x) == (2, 3)
    assert bm.ndim(x) == 2
    assert bm.size(x) == 6
    assert bm.result_type(x, 1) == np.float32
    assert bm.iscomplexobj(x) is False
    assert bm.broadcast_shapes((2, 1), (3,)) == (2, 3)


def test_dtypes_and_constants():
    assert bm.float32(1.5).dtype == np.float32
    assert bm.zeros(2, dtype=bm.int8).dtype == np.int8
    assert bm.issubdtype(bm.float32, bm.floating)
    assert bm.finfo(bm.float32).bits == 32
    assert bm.pi == np.pi
    assert np.isnan(bm.nan)
    assert bm.inf == float("inf")
    assert bm.ones(3)[bm.newaxis].shape == (1, 3)


def test_names_and_documentation_are_kept():
    assert bm.sin.__name__ == "sin"
    assert bm.sin.__doc__ == jnp.sin.__doc__
    assert bm.sin.__module__ == "bmgrad.math"
    assert bm.linalg.norm.__module__ == "bmgrad.math.linalg"
    assert str(inspect.signature(bm.sum)) == str(inspect.signature(jnp.sum))


@pytest.mark.parametrize("module", [bm, bm.linalg, bm.fft, bm.random], ids=lambda m: m.__name__)
def test_the_public_lists_hold(module):
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_name_of_the_tables_exists_in_this_jax():
    tables = [(_functions._NUMPY, jnp), (_functions._ACTIVATIONS, jax.nn)]
    missing = [n for table, source in tables for n in table.split() if not hasattr(source, n)]
    assert missing == []
    assert set(_functions._ALIASES) <= set(bm.__all__)
    for module, source in ((bm.linalg, jnp.linalg), (bm.fft, jnp.fft)):
        public = {n for n in dir(source) if n[0] != "_" and callable(getattr(source, n))}
        assert public <= set(module.__all__)


def test_functions_of_jax_numpy_are_not_forgotten():
    left_out = {
        # classes, and what numpy itself is for
        *("ComplexWarning", "array_repr", "character", "flexible", "fromfile", "frompyfunc"),
        *("generic", "load", "ndarray", "object_", "save", "savez", "ufunc", "vectorize"),
        *("bool", "int1", "int2", "uint1", "uint2"),
        *("linalg", "fft", "isdtype"),
        # of later versions of jax
        *("minmax", "top_k"),
    }
    public = {
        n for n in dir(jnp) if n[0] != "_" and not n.startswith(("float4", "float6", "float8"))
    }
    assert sorted(public - set(bm.__all__) - left_out) == []


def test_functions_that_change_their_argument():
    x = bm.zeros((2, 2))
    assert bm.fill_diagonal(x, bm.array(3.0)) is None
    np.testing.assert_array_equal(x, [[3, 0], [0, 3]])
    bm.put(x, 1, 7.0)
    bm.place(x, x == 0, bm.array([5.0]))
    np.testing.assert_array_equal(x, [[3, 7], [5, 3]])
    with pytest.raises(TypeError, match="in place"):
        bm.fill_diagonal(jnp.zeros((2, 2)), 3)


def test_conversions():
    x = bm.Array([1.0, 2.0])
    assert isinstance(bm.as_jax(x), jax.Array)
    assert bm.as_jax([x[0], 3], dtype=int).tolist() == [1, 3]
    assert isinstance(bm.as_numpy(x), np.ndarray)
    assert bm.as_device_array is bm.as_jax
    assert bm.as_ndarray is bm.as_numpy
    v = bm.as_variable(x)
    assert type(v) is bm.Variable
    v += 1
    assert x.tolist() == [1, 2]
    assert bm.as_variable([1, 2]).tolist() == [1, 2]


def test_under_jax_transforms():
    def f(x):
        y = bm.tanh(x) * bm.arange(2.0)
        y[0] = 5.0
        return bm.sum(y)

    x = bm.Array([0.5, 1.0])
    np.testing.assert_allclose(jax.jit(f)(x), 5 + np.tanh(1.0), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(bm.sin)(x), np.sin([0.5, 1.0]), rtol=1e-6)


def test_jax_names_the_users_line():
    def f(x):
        return bm.sin(x)

    (equation,) = jax.make_jaxpr(lambda x: f(x).value)(jnp.ones(1)).eqns
    assert "test_functions.py" in jax.extend.source_info_util.summarize(equation.source_info)


MODULES = """
    _array _base _collector _containers _naming _random _states_io _tracing_state _variable
    math._wrapping math.random
"""


@pytest.mark.parametrize("name", MODULES.split())
def test_examples_in_docstrings(name):
    bp.clear_name_cache()
    module = importlib.import_module(f"bmgrad.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
