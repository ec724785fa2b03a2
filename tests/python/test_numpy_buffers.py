"""Arrays of NumPy that a function fills again: each use is of what was in them then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = jnp.array([0.1, 0.2, 0.3])


def refilled(x):
    buffer, out = np.zeros(3, np.float32), 0.0
    for k in (1, 2, 3):
        buffer[:] = k
        out = out + (jnp.sin(x) * buffer).sum() * 10**k
    return out


def with_new_arrays(x):
    return sum((jnp.sin(x) * np.full(3, k, np.float32)).sum() * 10**k for k in (1, 2, 3))


def refilled_behind_a_view(x):
    buffer, out = np.zeros(1, np.float32), 0.0
    view = np.broadcast_to(buffer, (3,))
    for k in (1, 2, 3):
        buffer[:] = k
        out = out + (jnp.sin(x) * view).sum() * 10**k
    return out


def in_a_loop(x):
    buffer = np.ones(3, np.float32)
    out = jax.lax.scan(lambda s, t: (s * t + jnp.asarray(buffer).sum(), None), x[0], X)[0]
    buffer[:] = 9
    return out * x[1]


def in_a_loop_of_its_own(x):
    return jax.lax.scan(lambda s, t: (s * t + 3.0, None), x[0], X)[0] * x[1]


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (refilled, with_new_arrays),
        (refilled_behind_a_view, with_new_arrays),
        (in_a_loop, in_a_loop_of_its_own),
    ],
)
@pytest.mark.parametrize("transform", ["grad", "value_and_grad", "jacfwd", "hessian"])
def test_what_is_in_buffers_is_that_of_the_use(transform, function, same):
    found, want = getattr(bm, transform)(function)(X), getattr(jax, transform)(same)(X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, want)


def test_what_is_compiled_later_has_what_was_traced():
    table = np.ones(32, np.float32)
    traced = bm.grad(lambda x: (x * table).sum()).trace(1.0)
    table[:] = 5
    assert traced.lower().compile()(1.0) == 32


@pytest.mark.parametrize("first", [0.0, np.nan])
def test_one_table_is_one_constant(first):
    table = np.array([first, 1, 2], np.float32)
    program = bm.grad(lambda x: sum((x**k * table).sum() for k in (1, 2, 3))).trace(X).program
    assert program.as_text("bm").partition("->")[0].count(": tensor<3xf32>") == 2


def test_zeros_have_signs():
    def loss(x):
        buffer, out = np.zeros(3, np.float32), 0.0
        for sign in (1, -1):
            buffer[:] = sign * np.float32(0)
            out = out + sign * (x * jnp.copysign(1.0, buffer)).sum()
        return out

    np.testing.assert_array_equal(bm.grad(loss)(X), [2.0] * 3)
