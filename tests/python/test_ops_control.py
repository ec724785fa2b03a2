"""Loops and branches: values, derivatives and batching against JAX."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm

XS = np.linspace(-1.5, 2.0, 12).reshape(4, 3)
V = np.array([0.3, -0.7, 1.1])
W = np.array([[0.5, -0.3, 0.2], [0.1, 0.4, -0.6], [-0.2, 0.3, 0.7]])
S = np.float64(0.7)
INDICES = jnp.arange(-1, 4, dtype=jnp.int32)


def rnn(w, h, xs, **options):
    def step(carry, x):
        i, h = carry
        h = jnp.tanh(w @ h + x * (i + 1.0))
        return (i + 1, h), (h, h * h)

    (_, h), ys = lax.scan(step, (0, h), xs, **options)
    return h, ys


def swapped_and_reset(a, b, xs):
    def step(carry, x):
        p, q = carry
        return (q, jnp.zeros_like(p)), (p * x, q, jnp.ones(2))

    return lax.scan(step, (a, b), xs)


def same_each_step(w, h):
    def step(h, _):
        k = jnp.exp(w) @ jnp.sin(w)
        return k @ h, (k, jnp.sum(h))

    return lax.scan(step, h, None, length=3)


def accumulated(w, x):
    return lax.scan(lambda c, _: (c + jnp.sum(jnp.sin(w * x)), None), 0.0, None, length=3)[0]


def pieces_of_constants(w, h, xs):
    """No more than there is of them, so that they are taken before the loop."""

    def step(h, x):
        y = jnp.tanh(w[1] * h) + lax.dynamic_slice(w, (2, 0), (1, 3))[0] * x
        return y, y * w[jnp.array([2, 0]), jnp.array([0, 1])][0]

    return lax.scan(step, h, xs)


def split_constant(w, h, xs):
    def step(h, x):
        above, below = jnp.split(w, [1])
        return jnp.tanh(above[0] * h) + jnp.sum(below) * x, h

    return lax.scan(step, h, xs)


def not_differentiated(h, xs):
    def step(h, x):
        held = lax.stop_gradient(h)
        return h * held + jnp.floor(x), held

    return lax.scan(step, h, xs)


def stacked_without_a_loop(w, h, xs):
    return lax.scan(lambda h, x: (h * w, (w, x, h, jnp.float64(3.0))), h, xs)


def in_three_loops(x):
    def outer(c, _):
        def middle(c, _):
            c, ys = lax.scan(lambda c, _: (jnp.sin(c) * 1.1, c), c, None, length=2)
            return c + jnp.sum(ys), c

        c, ys = lax.scan(middle, c, None, length=2)
        return lax.cond(c > 0.5, lambda c: c * c, lambda c: jnp.sum(ys) * c, c), ys

    return lax.scan(outer, x, None, length=3)


def branch_in_a_loop(h, xs):
    def step(h, x):
        h = lax.cond(x[0] > 0, lambda h: jnp.sin(h) * x, lambda h: h * jnp.exp(h) + x, h)
        return h, h * x

    return lax.scan(step, h, xs)


def loop_in_a_branch(i):
    def fun(h, xs):
        def step(h, x):
            return jnp.sin(h * x), h

        branches = [
            lambda h: lax.scan(step, h, xs),
            lambda h: (h * 2.0, xs * h),
            lambda h: lax.scan(step, h, xs, reverse=True),
        ]
        return lax.switch(i, branches, h)

    return fun


def switched(i):
    branches = [
        lambda x, y: (jnp.sin(x) * y, x),
        lambda x, y: (x * 2.0, jnp.zeros_like(x)),
        lambda x, y: (jnp.exp(y) * jnp.exp(x) * x, y),
    ]
    return lambda x, y: lax.switch(i, branches, x, y)


LOOPS = {
    "scan": (lambda h, xs: lax.scan(lambda h, x: (jnp.tanh(h * x), jnp.sin(h)), h, xs), V, XS),
    "recurrent network": (rnn, W, V, XS),
    "backwards": (lambda *args: rnn(*args, reverse=True), W, V, XS),
    "two steps a turn": (lambda *args: rnn(*args, unroll=2), W, V, XS),
    "three steps a turn": (lambda *args: rnn(*args, unroll=3), W, V, XS),
    "backwards, three a turn": (lambda *args: rnn(*args, reverse=True, unroll=3), W, V, XS),
    "all steps in one turn": (lambda *args: rnn(*args, unroll=True), W, V, XS),
    "more steps a turn than there are": (lambda *args: rnn(*args, unroll=9), W, V, XS),
    "no step, unrolled": (lambda *args: rnn(*args, unroll=True), W, V, XS[:0]),
    "carries swapped and reset": (swapped_and_reset, V, V[::-1].copy(), XS),
    "the same in each step": (same_each_step, W, V),
    "accumulation": (accumulated, V, XS[0]),
    "pieces of constants": (pieces_of_constants, W, V, XS),
    "split constant": (split_constant, W, V, XS),
    "pieces, no step": (pieces_of_constants, W, V, XS[:0]),
    "stop_gradient": (not_differentiated, V, XS),
    "results that need no loop": (stacked_without_a_loop, V, V, XS),
    "map": (lambda w, xs: lax.map(lambda x: jnp.tanh(w * x) ** 2, xs), V, XS),
    "sum of stacked results": (lambda w, xs: lax.map(lambda x: jnp.sin(w * x), xs).sum(), V, XS),
    "fori_loop": (lambda h: lax.fori_loop(0, 4, lambda i, h: jnp.sin(h) * i + h, h), V),
    "three loops": (in_three_loops, S),
    "branch in a loop": (branch_in_a_loop, V, XS),
    "loop in a branch": (loop_in_a_branch(2), V, XS),
    "one step": (lambda h, xs: lax.scan(lambda h, x: (jnp.sin(h * x), h), h, xs), V, XS[:1]),
    "no step": (lambda h, xs: lax.scan(lambda h, x: (jnp.sin(h * x), h), h, xs), V, XS[:0]),
    "empty slices": (lambda h, xs: lax.scan(lambda h, x: (h * x, h), h, xs), V[:0], XS[:, :0]),
    "slices of size 1": (lambda h, xs: lax.scan(lambda h, x: (h * x, h), h, xs), V[:1], XS[:, :1]),
}


@pytest.mark.parametrize("name", LOOPS)
def test_derivatives_of_loops(name):
    fun, *args = LOOPS[name]
    check_derivatives(fun, *args, differences=name != "stop_gradient")


@pytest.mark.parametrize("name", LOOPS)
def test_batching_of_loops(name):
    fun, *args = LOOPS[name]
    check_batching(fun, *args)


@pytest.mark.parametrize(("unroll", "loops"), [(1, 2), (3, 2), (4, 0), (True, 0)])
def test_unrolled_loops(unroll, loops):
    """As many steps a turn as asked for, forwards and backwards."""
    lowered = bm.grad(lambda w: jnp.sum(rnn(w, V, XS, unroll=unroll)[0])).lower(W)
    assert lowered.as_text().count("stablehlo.while") == loops
    steps = loops and int(unroll)
    assert lowered.as_text("optimized").count(f"unroll {steps}") == (loops if steps > 1 else 0)


@pytest.mark.parametrize("index", INDICES)
def test_derivatives_of_branches(index):
    """An index out of bounds is clamped."""
    check_derivatives(switched(index), V, XS[0])


def test_batching_of_branches():
    check_batching(lambda i, x, y: switched(i)(x, y), jnp.int32(1), V, XS[0], size=4)


def test_branch_of_a_traced_predicate():
    def fun(x):
        return lax.cond(jnp.sum(x) > 0, lambda x: x**2, lambda x: jnp.cos(x), x)

    check_derivatives(fun, V)
    check_derivatives(fun, -V)
    check_batching(fun, V)


def test_untaken_branch_does_not_poison_a_batch():
    """In a batch all branches run: what the one not taken makes of a point is masked."""

    def fun(x):
        return lax.cond(x == 0, lambda x: x * 2.0, lambda x: jnp.sin(x) / x, x)

    got = bm.vmap(bm.grad(fun))(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(got, jax.vmap(jax.grad(fun))(jnp.array([0.0, 1.0])), rtol=1e-6)
    assert np.isfinite(got).all()


def until_large(x, y):
    """Each element of a batch takes its own number of steps."""
    return lax.while_loop(
        lambda c: jnp.sum(c[0]) < 20.0,
        lambda c: (c[0] * 1.5 + jnp.abs(y), c[1] + 1, jnp.sin(c[2]) * y),
        (jnp.abs(x) + 0.1, 0, x),
    )


def count_down(n, x):
    return lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0] - 1, jnp.sin(c[1]) * x), (n, x))[1]


@pytest.mark.parametrize(
    ("fun", "args"), [(until_large, (V, XS[1])), (count_down, (jnp.int32(3), V))]
)
def test_while(fun, args):
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(arg) for arg in args)
        fixed, x = args[:-1], args[-1]
        tangent = jnp.cos(x)

        def forward(lib, x):
            out, dout = lib.jvp(lambda x: fun(*fixed, x), (x,), (tangent,))
            return out, [d for d in jax.tree.leaves(dout) if d.dtype != jax.dtypes.float0]

        def second(lib, x):
            return lib.jvp(lambda x: forward(lib, x)[1], (x,), (tangent,))

        for order in (forward, second):
            got, want = (jax.tree.leaves(order(lib, x)) for lib in (bm, jax))
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-9)
        stacked = [jnp.stack([arg, arg + 1, arg + 2]) for arg in args]
        for flags in ((0, 0), (0, None), (None, 0)):
            chosen = [
                arg if axis is None else stack
                for arg, stack, axis in zip(args, stacked, flags, strict=True)
            ]
            got, want = (jax.tree.leaves(lib.vmap(fun, flags)(*chosen)) for lib in (bm, jax))
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-9)


def test_reverse_of_while_says_what_to_do():
    with pytest.raises(Exception, match=re.escape("use scan or jax.lax.fori_loop")):
        bm.grad(lambda x: jnp.sum(count_down(jnp.int32(3), x)))(jnp.ones(3))


def test_reverse_past_a_while_without_tangents():
    def fun(x):
        steps = lax.while_loop(lambda n: n < 10, lambda n: n * 2 + 1, 0)
        big = lax.while_loop(lambda c: c.sum() < 5, lambda c: c * 2, lax.stop_gradient(x**2) + 1)
        return jnp.sin(x) * steps + big

    check_derivatives(fun, V, differences=False)


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [("float32", 1e-5), ("float16", 2e-2), ("bfloat16", 1e-1), ("complex64", 1e-5)],
)
def test_dtypes(dtype, rtol):
    def fun(h, xs):
        return lax.scan(lambda h, x: (jnp.sin(h * x) + h, h * x), h, xs)

    h, xs = jnp.asarray(V, dtype), jnp.asarray(XS, dtype)
    out, pull = bm.vjp(fun, h, xs)
    want, jax_pull = jax.vjp(fun, h, xs)
    cts = jax.tree.map(jnp.ones_like, want)
    for g, w in zip(
        jax.tree.leaves((out, pull(cts))), jax.tree.leaves((want, jax_pull(cts))), strict=True
    ):
        assert g.dtype == w.dtype
        np.testing.assert_allclose(
            np.asarray(g, "complex128"), np.asarray(w, "complex128"), rtol=rtol, atol=rtol
        )


def test_complex_loops():
    check_derivatives(
        lambda h, xs: lax.scan(lambda h, x: (jnp.sin(h * x) + h, h * x), h, xs), V + 1j, XS - 2j
    )


def test_loop_of_integers_and_booleans():
    def fun(flag, count, x):
        def step(carry, n):
            flag, x, count = carry
            return (~flag, x * count.astype(x.dtype), count + n), (flag, x)

        return lax.scan(step, (flag, x, count), jnp.arange(3, dtype=jnp.uint32))

    args = jnp.array(True), jnp.uint32(3), jnp.float32(0.5)
    (out, ys), (want, want_ys) = bm.jit(fun)(*args), fun(*args)
    for g, w in zip(jax.tree.leaves((out, ys)), jax.tree.leaves((want, want_ys)), strict=True):
        np.testing.assert_array_equal(g, w)
    grad = bm.grad(lambda x: fun(*args[:2], x)[0][1])(args[2])
    np.testing.assert_allclose(grad, 3.0 * 3.0 * 4.0)


def grown(x):
    """A loop whose number of steps depends on `x`."""
    return lax.while_loop(
        lambda c: c[1] < 50.0, lambda c: (jnp.sin(c[0]) * x, c[1] * (2.0 + x * x)), (x, 1 + x * x)
    )


def in_scan(x):
    return lax.scan(lambda c, k: (grown(c)[0] / 2 + k, c), x, jnp.arange(2.0))


def in_cond(x):
    return lax.cond(x > 0, lambda x: grown(x)[0], jnp.sin, x)


@pytest.mark.parametrize("fun", [grown, in_scan, in_cond])
def test_loops_of_unknown_length_are_linearized(fun):
    """Forward: the linear part is the loop once more. JAX's own forward mode needs it too."""
    with jax.enable_x64(True):
        x, dx = jnp.asarray(1.7), jnp.asarray(0.3)
        want = jax.jvp(fun, (x,), (dx,))
        out, linear = bm.linearize(fun, x)
        for got in ((out, linear(dx)), jax.jvp(bm.jit(fun), (x,), (dx,))):
            for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-12)
        second = bm.jvp(lambda x: bm.linearize(fun, x)[1](dx), (x,), (dx,))
        want = jax.jvp(lambda x: jax.jvp(fun, (x,), (dx,))[1], (x,), (dx,))
        for g, w in zip(jax.tree.leaves(second), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-10)
        # JAX raises ValueError.
        for error in (NotImplementedError, ValueError):
            with pytest.raises(error, match="reverse-mode derivative of a while loop"):
                bm.vjp(fun, x)[1](out)
