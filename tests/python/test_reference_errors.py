"""What cannot be done with references (`jax.new_ref`), and what is said then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_references import X, stash

import bmgrad.math as bm


def test_perturbed_values_are_not_written():
    ref = jax.new_ref(0.0)
    line = r"test_reference_errors.py:\d+"
    for write in (lambda x: ref.__setitem__(..., x), lambda x: ref.addupdate(x)):
        fun = lambda x, write=write: (write(jnp.sin(x)), x)[1]  # noqa: E731
        assert bm.jit(fun)(0.0) == 0
        for derive in (bm.grad(fun), lambda x, fun=fun: bm.jvp(fun, (x,), (1.0,))):
            with pytest.raises(Exception, match=f"Move the array reference(.|\n)*{line}"):
                derive(1.0)
    assert bm.grad(lambda x: (ref.__setitem__(..., lax.stop_gradient(x)), x * x)[1])(3.0) == 6
    assert ref[...] == 3
    with pytest.raises(Exception, match="Move the array reference"):
        bm.grad(bm.grad(lambda x: stash(ref, x) ** 3))(2.0)


def test_references_that_keep_gradients_out():
    def fun(ref, x):
        ref[...] += jnp.sin(x)
        return x * ref[...] * jax.ref.swap(ref, ..., x)

    found = []
    for transforms in (bm, jax):
        ref = jax.new_ref(1.0, kind="no_grad_no_remat")
        found.append((transforms.grad(fun, argnums=1)(ref, 2.0), ref[...]))
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_scanned_references_that_keep_gradients_out():
    def run(transforms):
        ref = jax.new_ref(jnp.arange(1.0, 4.0), kind="no_grad_no_remat")

        def step(c, row):
            row[...] = c * 2.0
            return jnp.sin(c) * row[...], None

        grad = transforms.grad(lambda x: lax.scan(step, x, ref)[0])(1.0)
        return grad, ref[...]

    jax.tree.map(np.testing.assert_allclose, run(bm), run(jax))


def test_gradients_are_not_by_references():
    ref, fun = jax.new_ref(1.0), lambda ref, x: ref[...] * x
    for derive in (bm.grad, bm.value_and_grad, bm.jacrev, bm.jacfwd, bm.hessian):
        for argnums in (0, (0, 1)):
            with pytest.raises(TypeError, match=r"with respect to a Ref .* as argument 0 has one"):
                derive(fun, argnums=argnums)(ref, 2.0)
    value, pullback = bm.vjp(fun, ref, 3.0)
    with pytest.raises(ValueError, match=r"cannot be returned as a value.*with_refs"):
        pullback(2.0)
    assert (value, pullback.with_refs(jax.ad.DontWant(), jax.ad.GradValue())(2.0)[1]) == (3, 2)
    _, pullback = bm.vjp(lambda count, x: count[...] * x, jax.new_ref(2), 3.0)
    assert pullback(1.0) == (None, 2)


def test_one_reference_twice():
    ref = jax.new_ref(1.0)
    fun = lambda a, b, x: a[...] * b[...] * x  # noqa: E731
    with pytest.raises(ValueError, match="only one reference"):
        bm.grad(fun, argnums=2)(ref, ref, 1.0)
    with pytest.raises(ValueError, match=r"only one reference .* passed as a and b"):
        bm.vjp(fun, ref, ref, 1.0)


def test_one_reference_given_and_closed_over():
    first, second = jax.new_ref(1.0), jax.new_ref(10.0)
    fun = lambda ref, x: x * ref[...] * first[...]  # noqa: E731
    with jax.disable_jit():
        grad = bm.grad(fun, argnums=1)
        assert (grad(first, 1.0), grad(second, 1.0)) == (1, 10)
    with pytest.raises(ValueError, match="both closed over and passed"):
        bm.grad(lambda ref, x: fun(ref, x), argnums=1)(first, 1.0)


def test_scanned_references_and_rules():
    @jax.custom_vjp
    def noted(ref, x):
        return x

    def note(ref, ct):
        ref[...] = ct
        return None, ct

    noted.defvjp(lambda ref, x: (x, ref), note)
    ref = jax.new_ref(jnp.zeros(3))
    with pytest.raises(NotImplementedError, match="given to a function with a derivative rule"):
        bm.grad(lambda x: lax.scan(lambda c, r: (noted(r, c), None), x, ref)[0])(1.0)
    np.testing.assert_array_equal(ref[...], 0)


def test_what_cannot_be_done_with_a_reference():
    ref = jax.new_ref(jnp.float32(2.0))
    with pytest.raises(ValueError, match="returned a mutable array reference"):
        bm.jit(lambda ref: ref)(ref)
    with pytest.raises(NotImplementedError, match=r"jax.freeze .* of a reference from outside"):
        bm.grad(lambda x: x * jax.freeze(ref))(1.0)

    def step(x):
        inner = jax.new_ref(0.0)
        return bm.grad(lambda x: jnp.sin(stash(inner, x)))(x) + inner[...]

    for transform in (bm.grad, jax.grad):
        with pytest.raises(NotImplementedError, match="made inside a function"):
            transform(step)(1.0)
    with pytest.raises(NotImplementedError, match="made inside the function"):
        jax.vmap(step)(X)


def test_ahead_of_time():
    ref = jax.new_ref(1.0)
    for fun, args in ((lambda ref, x: ref[...] * x, (ref, 1.0)), (lambda x: ref[...] * x, (1.0,))):
        for transformed in (bm.jit(fun), bm.grad(fun, argnums=len(args) - 1)):
            with pytest.raises(TypeError, match=r"references \(jax.new_ref\).* ahead of time"):
                transformed.trace(*args)


def test_a_reference_in_a_batching_rule():
    ref = jax.new_ref(2.0)

    @jax.custom_batching.custom_vmap
    def fun(x):
        return x * x

    @fun.def_vmap
    def _(size, batched, x):
        return 2 * x * x, True

    got = bm.vmap(bm.grad(lambda x: fun(x) * ref[...]))(X)
    np.testing.assert_allclose(got, 2 * bm.vmap(bm.grad(fun))(X))
