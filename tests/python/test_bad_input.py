"""Bad input: each error says what came, what was expected and what to do; no variable moves."""

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad
import bmgrad.math as bm
import bmgrad.runtime

X = jnp.ones(3)


@pytest.fixture(autouse=True)
def state():
    """A variable that every function below assigns before it fails."""
    variable = bm.Variable([1.0, 2.0])
    yield variable
    assert not isinstance(variable._value, jax.core.Tracer)
    np.testing.assert_array_equal(variable, [1, 2])


def fails(state, transform, fun, *args, **options):
    def assigns(*args):
        state.value = state + 1
        return fun(*args)

    return lambda: transform(assigns, **options)(*args)


def raises(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert type(error.value) is kind or issubclass(error.type, kind)
    for part in message if isinstance(message, tuple) else (message,):
        assert part in str(error.value)
    return str(error.value)


SCALAR = "Gradient only defined for scalar-output functions. Output "
ONLY_REAL = (
    "requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
)
NO_DERIVATIVE = "requires real- or complex-valued inputs"

OUTPUTS = [
    (lambda x: x, SCALAR + "had shape: (3,)."),
    (lambda x: x[:1], SCALAR + "had shape: (1,)."),
    (lambda x: x[None], SCALAR + "had shape: (1, 3)."),
    (lambda x: bm.Array(x), SCALAR + "had shape: (3,)."),
    (lambda x: (x.sum(), x), (SCALAR + "was a tuple", "has_aux=True", "bm.vector_grad")),
    (lambda x: {"loss": x.sum()}, SCALAR + "was a dict"),
    (lambda x: None, SCALAR + "was a NoneType"),
    (lambda x: 3, "grad " + ONLY_REAL + "int32"),
    (lambda x: (x > 0).all(), "grad " + ONLY_REAL + "bool"),
    (lambda x: (x * 1j).sum(), (ONLY_REAL + "complex64", "pass holomorphic=True")),
    (lambda x: "loss", "returned 'loss' of type str; results must be arrays, numbers"),
]


@pytest.mark.parametrize(("fun", "message"), OUTPUTS)
def test_what_a_loss_may_not_return(state, fun, message):
    raises(fails(state, bm.grad, fun, X), TypeError, message)
    raises(fails(state, bm.value_and_grad, fun, X), TypeError, message)


@pytest.mark.parametrize(
    ("arg", "what"),
    [
        (jnp.arange(3), "but got int32 for argument 0"),
        (3, "but got int32 for argument 0"),
        (True, "but got bool for argument 0"),
        (np.arange(3, dtype=np.uint8), "but got uint8 for argument 0"),
        ({"w": X, "n": jnp.arange(2)}, "but got int32 for argument 0"),
        (jax.random.key(0), "but got key<fry> for argument 0"),
    ],
)
@pytest.mark.parametrize("transform", [bm.grad, bm.vector_grad, bm.jacrev, bm.jacfwd, bm.hessian])
def test_inputs_without_a_derivative(state, transform, arg, what):
    call = fails(state, transform, lambda x: jnp.zeros(()), arg)
    raises(call, TypeError, (NO_DERIVATIVE, what, "allow_int=True"))


def test_variables_without_a_derivative(state):
    steps = bm.Variable(jnp.arange(3))
    call = fails(state, bm.grad, lambda: 1.0, grad_vars=[state, steps])
    raises(call, TypeError, (NO_DERIVATIVE, "but got int32 for grad_vars entry 1 (Variable)"))


def test_holomorphic_functions_of_real_inputs(state):
    call = fails(state, bm.grad, lambda x: x.sum(), X, holomorphic=True)
    raises(call, TypeError, "requires inputs with complex dtype, but got float32 for argument 0")
    call = fails(state, bm.grad, lambda z: z.real.sum(), X * 1j, holomorphic=True)
    raises(call, TypeError, "requires outputs with complex dtype, but got float32")


@pytest.mark.parametrize(
    ("fun", "came"),
    [
        (lambda x: x.sum(), "it returned an array of shape ()"),
        (lambda x: bm.Array(x), "it returned an array of shape (3,)"),
        (lambda x: (x.sum(), 1, 2), "it returned a tuple of length 3"),
        (lambda x: {"loss": x.sum()}, "it returned a dict"),
    ],
)
@pytest.mark.parametrize("transform", [bm.grad, bm.jacrev, bm.jacfwd, bm.hessian])
def test_wrong_aux(state, transform, fun, came):
    call = fails(state, transform, fun, X, has_aux=True)
    raises(call, TypeError, ("has_aux=True expects", "to return a pair (value, aux)", came))


def test_argnums(state):
    call = fails(state, bm.grad, lambda x, y: x, 1.0, 2.0, argnums=2)
    raises(call, TypeError, "argnums=2 requires at least 3 positional arguments")
    call = fails(state, bm.grad, lambda x, y: x, 1.0, 2.0, argnums=-3)
    raises(call, ValueError, "argnums=-3 requires at least 3 positional arguments")
    call = fails(state, bm.grad, lambda: 1.0)
    raises(call, TypeError, ("argnums=0 requires at least 1", "got only 0 positional arguments"))


@pytest.mark.parametrize("name", ["grad_vars", "dyn_vars"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, "must be a bm.Array or Variable, or a list, tuple, dict or Collector"),
        (X, "must be a bm.Array or Variable, or a list, tuple, dict or Collector"),
        ([X], "[0] must be a bm.Array or Variable, got ArrayImpl; to differentiate for an arg"),
        ({"w": 1.0}, "['w'] must be a bm.Array or Variable, got float"),
    ],
)
def test_variables_that_are_none(name, value, message):
    raises(lambda: bm.grad(lambda: 1.0, **{name: value}), TypeError, (name, message))


def test_shapes_that_do_not_fit(state):
    call = fails(state, bm.grad, lambda x, y: (x + y).sum(), X, jnp.ones(4))
    raises(call, TypeError, "incompatible shapes for broadcasting: (3,), (4,)")


def test_arrays_of_objects_and_strings(state):
    for array, what in (
        (np.array([1, None], object), "a NumPy array of dtype object"),
        (np.array(["a"]), "a NumPy array of dtype <U1"),
        (np.array(["2020-01-01"], "datetime64[D]"), "a NumPy array of dtype datetime64[D]"),
    ):
        call = fails(state, bm.jit, lambda x, y: x, 1.0, array)
        raises(call, TypeError, ("argument", what, "neither an array nor hashable"))


def test_decisions_by_traced_values(state):
    call = fails(state, bm.jit, lambda x: x if x > 0 else -x, 1.0)
    raises(call, jax.errors.TracerBoolConversionError, "arg0")


# -- What cannot be imported or differentiated: named, with the user's line --------------------


def tridiagonal(x):
    matrix = jnp.outer(x, x)
    return jax.lax.linalg.tridiagonal(matrix)[1].sum()


def hessenberg(x):
    return jax.lax.linalg.hessenberg(jnp.outer(x, x))[0].sum()


def loop(x):
    start = x.sum()
    return jax.lax.while_loop(lambda c: c < 100.0, lambda c: c * 2.0, start)


def callback(x):
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(np.sin, shape, x).sum()


def line(fun, offset=2):
    return f"\n  at {__file__}:{fun.__code__.co_firstlineno + offset}"


@pytest.mark.parametrize("transform", [bm.grad, bm.vector_grad, bm.jacrev, bm.jacfwd, bm.hessian])
@pytest.mark.parametrize(
    ("fun", "offset", "primitive"), [(tridiagonal, 2, "tridiagonal"), (hessenberg, 1, "hessenberg")]
)
def test_no_derivative_rule(state, transform, fun, offset, primitive):
    text = raises(fails(state, transform, fun, X), NotImplementedError, "no derivative rule")
    assert f"primitive '{primitive}'" in text
    assert "jax.custom_jvp" in text
    assert text.endswith(line(fun, offset))


def test_without_a_derivative_it_runs(state):
    before = state.value
    np.testing.assert_allclose(bm.jit(tridiagonal)(X), X @ X, rtol=1e-5)
    np.testing.assert_allclose(bm.grad(lambda x: tridiagonal(X) * x)(2.0), X @ X, rtol=1e-5)
    state.value = before


@pytest.mark.parametrize("transform", [bm.grad, bm.jacrev, bm.hessian])
def test_reverse_mode_through_a_loop_of_unknown_length(state, transform):
    text = raises(fails(state, transform, loop, X), NotImplementedError, "while loop")
    assert "bm.jacfwd" in text
    assert text.endswith(line(loop))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bm.vjp(loop, X)[1](1.0),
        lambda: bm.linearize(tridiagonal, X),
        lambda: bm.jvp(tridiagonal, (X,), (X,)),
        lambda: jax.grad(bm.jit(loop))(X),
        lambda: jax.jit(bm.grad(tridiagonal))(X),
        lambda: bm.grad(tridiagonal).trace(X).lower(),
    ],
)
def test_the_same_from_everywhere(call):
    raises(call, NotImplementedError, f"\n  at {__file__}:")


def test_callbacks(state):
    text = raises(fails(state, bm.grad, callback, X), NotImplementedError, "'pure_callback'")
    assert text.endswith(line(callback))


def test_a_variable_that_holds_a_value_of_a_trace():
    held = bm.Variable(jnp.zeros(3))
    before = held.value
    jax.jit(lambda x: setattr(held, "value", x) or x)(X)
    for _ in range(4):  # Functions made anew are called in another way from the third on.
        raises(
            lambda: bm.grad(lambda x: (x * held).sum())(X),
            jax.errors.UnexpectedTracerError,
            "reads a variable, Variable, that holds a value of a trace of JAX",
        )
    held.value = before
    np.testing.assert_array_equal(bm.grad(lambda x: (x * held).sum())(X), before)


@pytest.mark.parametrize("value", [None, "text", [[1], [1, 2]], object()])
def test_what_a_variable_cannot_be_given(value):
    node = bmgrad.Base()
    node.b = bm.Variable(jnp.zeros(3))
    with pytest.raises((TypeError, ValueError), match=r"Variable 'Base\d+.b' cannot be given"):
        node.b.value = value
    assert node.b.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "transform",
    [jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())],
    ids=["jit", "vmap", "grad"],
)
def test_what_is_left_in_a_variable_by_a_transform_of_jax(transform):
    held = bm.Variable(jnp.zeros(()))

    def assigns(x):
        held.value = held + x.sum()
        return x * held.value  # There it may be read.

    transform(assigns)(X)
    text = "what runs here reads a variable, Variable, that holds a value of a trace of JAX"
    raises(lambda: held + 1, jax.errors.UnexpectedTracerError, text)
    assert repr(held).startswith("Variable(")
    held.value = 2.0
    assert held + 1 == 3


def test_random_numbers_after_some_were_drawn_under_jax_jit():
    bm.random.seed(3)
    jax.jit(lambda x: x + bm.random.rand().value)(X)
    text = raises(bm.random.rand, jax.errors.UnexpectedTracerError, "'random.DEFAULT'")
    assert "seed()" in text
    bm.random.seed(3)
    bm.random.rand()


@pytest.mark.parametrize("other", ["text", object(), {1, 2}])
@pytest.mark.parametrize(
    "call",
    [
        lambda other: bm.vjp(lambda x, _: x, X, other),
        lambda other: bm.jvp(lambda x, _: x, (X, other), (X, other)),
        lambda other: bm.linearize(lambda x, _: x, X, other),
    ],
)
def test_primals_that_are_no_arrays(call, other):
    text = raises(lambda: call(other), TypeError, "which is not a valid JAX type")
    assert f"is {other!r} of type {type(other).__name__}" in text


def mismatched(x):
    return jnp.dot(x, jnp.ones(7))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bm.grad(mismatched)(X),
        lambda: bm.grad(mismatched).trace(X),
        lambda: bm.hessian(bm.jit(mismatched))(X),
        lambda: bm.jit(lambda x, _: mismatched(x), static_argnums=1)(X, "a"),
        lambda: bm.vjp(mismatched, X),
        lambda: bm.jvp(mismatched, (X,), (X,)),
        lambda: bm.linearize(mismatched, X),
        lambda: bm.vjp(jnp.sum, X)[1](X),
        lambda: bm.linearize(jnp.sum, X)[1](1.0),
        lambda: bm.grad(jnp.sum, argnums=0)(jnp.arange(3)),
    ],
)
def test_tracebacks_are_of_the_users_code(call):
    with pytest.raises((TypeError, ValueError)) as raised:
        call()
    files = [Path(frame.filename) for frame in traceback.extract_tb(raised.tb)]
    assert Path(__file__) in files
    ours = {Path(module.__file__).parent for module in (bmgrad, bmgrad.runtime)}
    assert [file for file in files if ours & {*file.parents}] == []
