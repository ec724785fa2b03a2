"""What cannot be imported: the message names primitive, line and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from import_helpers import imported

import bmgrad.math as bm
from bmgrad._import import UnsupportedError

X = jnp.arange(1.0, 4.0)


REF = jax.new_ref(X)


@jax.custom_vjp
def scaled(ref, x):
    return x * ref[...]


scaled.defvjp(lambda ref, x: (x * ref[...], ref), lambda ref, ct: (None, ct * ref[...]))


def scans(x):
    return x * jax.lax.scan(lambda c, ref: (scaled(ref, c), None), 1.0, REF)[0]


def float6(x):
    return x.astype(jnp.float6_e2m3fn).astype(jnp.float32)


def inside(fun):
    """`fun` in a jitted function and a loop: the innermost line is the one to name."""
    jitted = jax.jit(fun)
    return lambda x: jax.lax.scan(lambda c, _: (jitted(c), None), x, None, length=2)[0]


@pytest.mark.parametrize(
    ("fun", "primitive", "advice"),
    [
        (scans, "scan", "close over the reference"),
        (float6, "convert_element_type", "float6_e2m3fn[3]"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda fun: fun, inside])
def test_message(wrap, fun, primitive, advice):
    with pytest.raises(UnsupportedError) as error:
        imported(wrap(fun), X)
    message = str(error.value)
    assert message.startswith(f"`{primitive}")
    assert advice in message
    assert f"{__file__}:{fun.__code__.co_firstlineno + 1}" in message


def test_input_type():
    with pytest.raises(UnsupportedError, match="no values of type float6_e3m2fn"):
        imported(lambda x: x, jax.core.ShapedArray((3,), jnp.float6_e3m2fn))


def test_shapes_that_are_not_static():
    (n,) = jax.export.symbolic_shape("n")
    with pytest.raises(UnsupportedError, match=r"no values of type f(loat)?32\[n\]"):
        imported(jnp.sin, jax.core.ShapedArray((n,), np.float32))


def test_ops_of_a_function_of_jax_get_the_line_of_its_call():
    fun = lambda x: jax.scipy.linalg.hessenberg(x).sum()  # noqa: E731
    with pytest.raises(NotImplementedError, match="'hessenberg'") as error:
        bm.grad(fun)(jnp.eye(3))
    assert f"{__file__}:{fun.__code__.co_firstlineno}" in str(error.value)
