"""References (`jax.new_ref`) as primals of vjp, jvp, linearize: what they hold is differentiated.

The oracle is JAX, given the same functions of values instead of references.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_references import stash

import bmgrad.math as bm

X = np.float32([0.5, -1.2, 2.0])


def reads(ref, x):
    return jnp.sin(ref[...]) * x + ref[0]


def writes(ref, x):
    ref[...] = ref[...] * x
    ref[1] = jnp.sin(x)
    ref.addupdate(jnp.full(3, x * x))
    return (ref[...] ** 2).sum() * x


def in_a_loop(ref, x):
    def step(c, i):
        ref[i] = jnp.sin(ref[i] * c)
        return c * ref[i], ref[0]

    c, ys = lax.scan(step, x, jnp.arange(3))
    return lax.cond(x > 0, lambda: c * ref[2], lambda: c) + ys.sum()


def uses_a_rule(ref, x):
    ref[...] = jax.nn.relu(ref[...]) * x
    return jax.jit(jax.nn.silu)(ref[...]).sum()


def on_values(fun):
    """The function of what the reference holds before, and what it holds afterwards."""

    def run(value, x):
        ref = jax.new_ref(value)
        out = fun(ref, x)
        return out, ref[...]

    return run


def transforms_inside(ref, x):
    slope = bm.grad(lambda y: (jnp.sin(ref[...]) * y**3).sum())(x)
    ref[...] = bm.vmap(lambda r: r * slope + ref[0])(ref[...])
    return bm.jit(lambda y: reads(ref, y))(x) + scale[...]


def reads_another(ref, x):
    ref[...] *= scale[...]
    return reads(ref, x)


scale = jax.new_ref(np.float32(3.0))
FUNCTIONS = [reads, writes, in_a_loop, uses_a_rule, transforms_inside, reads_another]


def close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6), found, expected
    )


@pytest.mark.parametrize("fun", FUNCTIONS)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_forward(fun, wrap):
    tangents = np.float32([1.0, 2.0, -1.0]), np.float32(0.5)
    expected = jax.jvp(on_values(fun), (X, np.float32(0.7)), tangents)
    for linearized in (False, True):
        ref, tangent = jax.new_ref(X), jax.new_ref(tangents[0])
        if linearized:
            out, jvp_fn = bm.linearize(wrap(fun), ref, np.float32(0.7))
            moved = jvp_fn(tangent, tangents[1])
        else:
            out, moved = bm.jvp(wrap(fun), (ref, np.float32(0.7)), (tangent, tangents[1]))
        close(((out, ref[...]), (moved, tangent[...])), expected)


@pytest.mark.parametrize("fun", FUNCTIONS)
def test_reverse(fun):
    (out, after), vjp_fn = jax.vjp(on_values(fun), X, np.float32(0.7))
    ct = jnp.cos(out)
    # What the reference holds afterwards has a cotangent too, where the function changes it; if
    # not, that of what it holds is added to what is there.
    later = np.float32([0.3, 0.0, 1.0])
    expected, of_x = vjp_fn((ct, later))
    ref, gradient = jax.new_ref(X), jax.new_ref(later)
    found, ours = bm.vjp(fun, ref, np.float32(0.7))
    of_ref, ours_of_x = ours.with_refs(gradient, jax.ad.GradValue())(ct)
    assert isinstance(of_ref, jax.ad.GradRef)
    close((found, ref[...]), (out, after))
    close((gradient[...], ours_of_x), (expected, of_x))


def test_reverse_without_the_reference():
    ref = jax.new_ref(X)
    out, vjp_fn = bm.vjp(writes, ref, np.float32(0.7))
    expected = jax.vjp(lambda x: on_values(writes)(X, x)[0], np.float32(0.7))[1](out)
    said, of_x = vjp_fn.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(out)
    assert isinstance(said, jax.ad.DidntWant)
    close(of_x, *expected)
    said, of_x = vjp_fn.with_refs(jax.new_ref(np.zeros_like(X)), jax.ad.DontWant())(out)
    assert (type(said), type(of_x)) == (jax.ad.GradRef, jax.ad.DidntWant)


def test_several_in_a_tree():
    def fun(refs, x):
        refs["b"][...] *= x
        refs["count"][...] += 1
        return (refs["a"][...] * refs["b"][...]).sum()

    def make():
        return {"a": jax.new_ref(X), "b": jax.new_ref(2 * X), "count": jax.new_ref(0)}

    refs, gradients = make(), {"a": jax.new_ref(X), "b": jax.new_ref(0 * X)}
    out, vjp_fn = bm.vjp(fun, refs, 3.0)
    _, of_x = vjp_fn.with_refs(gradients | {"count": jax.ad.DontWant()}, jax.ad.GradValue())(1.0)
    close((out, of_x, refs["count"][...]), ((6 * X * X).sum(), (2 * X * X).sum(), 1))
    close((gradients["a"][...], gradients["b"][...]), (X + 6 * X, 3 * X))


def test_under_other_transforms():
    def slope(value, x):
        ref, gradient = jax.new_ref(value), jax.new_ref(jnp.zeros_like(value))
        out, vjp_fn = bm.vjp(in_a_loop, ref, x)
        vjp_fn.with_refs(gradient, jax.ad.DontWant())(jnp.ones_like(out))
        return gradient[...]

    expected = jax.grad(lambda value, x: on_values(in_a_loop)(value, x)[0])
    for wrap in (lambda f: f, jax.jit, bm.jit):
        close(wrap(slope)(X, 0.7), expected(X, 0.7))
    xs = jnp.arange(1.0, 4.0)
    # JAX has no batch of branches that read a reference.
    close(bm.vmap(slope, (None, 0))(X, xs), jnp.stack([expected(X, x) for x in xs]))

    def of_values(value, x):
        def step(state, i):
            value, c = state
            value = value.at[i].set(jnp.sin(value[i] * c))
            return (value, c * value[i]), value[0]

        (value, c), ys = lax.scan(step, (value, x), jnp.arange(3))
        return jnp.where(x > 0, c * value[2], c) + ys.sum()

    again = jax.grad(lambda value, x: jax.grad(of_values)(value, x).sum())(X, 0.7)
    for grad in (bm.grad, jax.grad):
        close(grad(lambda value, x: slope(value, x).sum())(X, 0.7), again)


def test_what_cannot_be():
    ref = jax.new_ref(X)
    for given, match in ((X, "give a reference"), (jax.new_ref(1.0), r"shape \(3,\)")):
        with pytest.raises(TypeError, match=match):
            bm.jvp(reads, (ref, 1.0), (given, 1.0))
        with pytest.raises(TypeError, match=match):
            bm.linearize(reads, ref, 1.0)[1](given, 1.0)
    vjp_fn, value = bm.vjp(reads, ref, 1.0)[1], jax.ad.GradValue()
    for given, match in (
        ((X, value), "give a reference"),
        ((value, value), "can't be returned as a value"),
        ((jax.new_ref(1.0), value), r"shape \(\) .*requires a ref of type float32\[3\]"),
        ((jax.ad.DontWant(), jax.new_ref(1)), r"int32.*requires a ref of type float32\[\]"),
        ((jax.ad.DontWant(), None), "None is an empty tree"),
    ):
        with pytest.raises(ValueError, match=match):
            vjp_fn.with_refs(*given)
    both = jax.new_ref(X)
    with pytest.raises(ValueError, match="give each its own"):
        bm.vjp(lambda a, b: writes(a, 2.0) + b[0], ref, jax.new_ref(X))[1].with_refs(both, both)
    ref[...] = X
    # The backward rule writes the cotangent of `x` there.
    with pytest.raises(TypeError, match="a derivative rule is given"):
        bm.jvp(stash, (ref, X), (jax.new_ref(X), X))
    with pytest.raises(TypeError, match="a derivative rule is given"):
        bm.linearize(stash, ref, X)
    vjp_fn = bm.vjp(stash, ref, X)[1]
    with pytest.raises(TypeError, match="a derivative rule is given"):
        vjp_fn.with_refs(jax.new_ref(X), jax.ad.GradValue())
    assert vjp_fn.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(X)[1] is not None
    np.testing.assert_array_equal(ref[...], X)
