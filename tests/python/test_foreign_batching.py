"""Batches of primitives of third parties: what their rules say that all elements share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_primitives import primitive
from jax import lax
from jax.custom_derivatives import linear_call
from jax.interpreters import ad, batching

import bmgrad.math as bm
from bmgrad.runtime import _kernels

any_p = primitive("any_of_batch", jnp.any, lambda x: jax.core.ShapedArray((), np.dtype(bool)))
batching.primitive_batchers[any_p] = lambda args, dims: (
    any_p.bind(jnp.any(args[0], axis=dims[0])),
    None,
)
GIVEN = jnp.arange(1.0, 4.0)


def guarded(called):
    """Asks Python about `x` where any of the batch is large."""

    def ask(x):
        called.append(x)
        return x

    def fun(x):
        @jax.custom_jvp
        def asked(x):
            return jax.pure_callback(ask, x, x, vmap_method="sequential")

        asked.defjvp(lambda p, t: (asked(*p), t[0]))
        return lax.cond(any_p.bind(x > 100.0), asked, lambda x: x, x) ** 2

    return fun


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (lambda fun: bm.vmap(fun)(GIVEN), GIVEN**2),
        (lambda fun: bm.vmap(bm.grad(fun))(GIVEN), 2 * GIVEN),
        (lambda fun: jax.vmap(bm.grad(fun))(GIVEN), 2 * GIVEN),
        (lambda fun: bm.grad(lambda x: bm.vmap(fun)(x).sum())(GIVEN), 2 * GIVEN),
        (lambda fun: bm.vmap(bm.vmap(bm.grad(fun)))(GIVEN[None]), 2 * GIVEN[None]),
        (lambda fun: bm.vmap(bm.vmap(fun), in_axes=1)(GIVEN[None]), GIVEN[:, None] ** 2),
    ],
)
def test_one_branch_for_the_whole_batch(call, want):
    called = []
    np.testing.assert_allclose(call(guarded(called)), want)
    jax.effects_barrier()
    assert called == []
    call(lambda x: guarded(called)(x * 100))
    jax.effects_barrier()
    assert called != []


def test_results_that_a_batch_shares_need_no_axis():
    large = lambda limit: lambda x: any_p.bind(x > limit)  # noqa: E731
    assert bm.vmap(large(2), out_axes=None)(GIVEN).shape == ()
    assert bool(bm.vmap(large(2), out_axes=None)(GIVEN))
    np.testing.assert_array_equal(bm.vmap(large(3))(GIVEN), [False] * 3)
    carried = bm.vmap(lambda x: lax.fori_loop(0, 3, lambda i, c: c | large(2)(x), False), 0, None)
    assert bool(carried(GIVEN))
    # A batch in which it differs is not shared with the batch around it.
    rows = jnp.stack([GIVEN, GIVEN + 9])
    got = bm.vmap(bm.vmap(large(11), out_axes=None), out_axes=None)(rows)
    assert got.shape == ()
    assert bool(got)


# The largest of the batch around it, of which its derivative knows nothing.
largest_p = primitive("largest_of_batch", lambda x: x, lambda x: x)
batching.primitive_batchers[largest_p] = lambda args, dims: (
    largest_p.bind(jnp.max(args[0], axis=dims[0])),
    None,
)
ad.primitive_jvps[largest_p] = lambda primals, tangents: (
    largest_p.bind(*primals),
    ad.Zero(jax.typeof(primals[0]).to_tangent_aval()),
)
# Twice the first operand, linear in that; the second does nothing.
twice_p = primitive("twice_the_first", lambda x, unused: 2 * x, lambda x, unused: x)
batching.primitive_batchers[twice_p] = lambda args, dims: (twice_p.bind(*args), dims[0])
ad.primitive_transposes[twice_p] = lambda ct, x, unused: (twice_p.bind(ct, unused), None)
ad.primitive_jvps[twice_p] = lambda primals, tangents: (
    twice_p.bind(*primals),
    twice_p.bind(ad.instantiate_zeros(tangents[0]), primals[1]),
)


def test_differentiable_results_that_a_batch_shares():
    assert bm.vmap(largest_p.bind, out_axes=None)(GIVEN) == 3.0
    assert jax.vmap(bm.jit(largest_p.bind), out_axes=None)(GIVEN) == 3.0
    scaled = lambda x: largest_p.bind(x) * x  # noqa: E731
    np.testing.assert_array_equal(bm.vmap(bm.grad(scaled))(GIVEN), [3.0] * 3)
    np.testing.assert_array_equal(jax.vmap(bm.grad(scaled))(GIVEN), [3.0] * 3)
    total = bm.grad(lambda x: (bm.vmap(largest_p.bind, out_axes=None)(x) * x).sum())
    np.testing.assert_array_equal(total(GIVEN), [3.0] * 3)


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
def test_linear_results_that_a_batch_shares(vmap):
    def shared(x, batch):
        return vmap(lambda unused: twice_p.bind(x, unused), out_axes=None)(batch)

    assert shared(3.0, GIVEN) == 6.0
    assert bm.grad(shared)(3.0, GIVEN) == 2.0
    assert bm.vmap(bm.grad(twice_p.bind), (None, 0), out_axes=None)(3.0, GIVEN) == 2.0
    rows = bm.grad(lambda x: vmap(shared, (0, None))(x, GIVEN).sum())(GIVEN)
    np.testing.assert_array_equal(rows, [2.0] * 3)


# Linear in both operands; the first result has the batch of the first operand only.
pair_p = primitive("pair", lambda x, y: [2 * x, x + y], lambda x, y: [x, x], True)
batching.primitive_batchers[pair_p] = lambda args, dims: (
    [2 * args[0], args[0] + args[1]],
    [dims[0], 0],
)
ad.primitive_jvps[pair_p] = lambda primals, tangents: (
    pair_p.bind(*primals),
    pair_p.bind(*map(ad.instantiate_zeros, tangents)),
)
ad.primitive_transposes[pair_p] = lambda cts, x, y: [
    2 * ad.instantiate_zeros(cts[0]) + ad.instantiate_zeros(cts[1]),
    ad.instantiate_zeros(cts[1]),
]


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
@pytest.mark.parametrize(("out_axis", "count"), [(None, 1), (0, 3)])
def test_cotangents_of_linear_results_that_a_batch_shares(vmap, out_axis, count):
    def loss(x, y):
        pairs = vmap(lambda x, y: tuple(pair_p.bind(x, y)), (None, 0), (out_axis, 0))
        doubled, sums = pairs(x, y)
        return doubled.sum() + 5 * sums.sum()

    of_x, of_y = bm.grad(loss, argnums=(0, 1))(1.5, GIVEN)
    assert of_x == 2 * count + 15
    np.testing.assert_array_equal(of_y, [5.0] * 3)
    assert bm.grad(loss)(1.5, GIVEN) == of_x
    assert bm.jvp(loss, (1.5, GIVEN), (1.0, 0 * GIVEN))[1] == of_x


def test_rules_that_nobody_batches_need_no_batching_rule():
    """`linear_call` has none: to look at what a batch reaches is no use of it."""

    def rule(primals, tangents):
        (x,), (dx,) = primals, tangents
        return f(x), linear_call(lambda c, t: c * t, lambda c, t: c * t, jnp.cos(x), dx)

    f = jax.custom_jvp(jnp.sin)
    f.defjvp(rule)
    for batch in (bm.vmap(f), bm.jit(bm.vmap(f)), jax.vmap(bm.jit(f))):
        np.testing.assert_allclose(batch(GIVEN), jnp.sin(GIVEN))
    np.testing.assert_allclose(bm.grad(f)(0.5), jnp.cos(0.5))
    with pytest.raises(NotImplementedError, match="no batching rule for primitive 'linear_call'"):
        bm.vmap(bm.grad(f))(GIVEN)


def test_a_branch_on_a_shared_float_is_taken_by_all():
    called = []

    def fun(x):
        def ask(x):
            called.append(x)
            return x

        asked = lambda x: jax.pure_callback(ask, x, x, vmap_method="sequential")  # noqa: E731
        is_large = largest_p.bind(x) > 100
        return lax.cond(is_large, lambda x: asked(lax.stop_gradient(x)), lambda x: x, x) ** 2

    np.testing.assert_allclose(bm.vmap(bm.grad(fun))(GIVEN), 2 * GIVEN)
    jax.effects_barrier()
    assert called == []
    bm.vmap(bm.grad(fun))(GIVEN * 100)
    jax.effects_barrier()
    assert called != []


def test_errors_of_batching_rules():
    for raised, text in ((ValueError, "not in twos"), (NotImplementedError, "not yet")):
        refusing_p = primitive(f"refusing_{raised.__name__}", lambda x: x, lambda x: x)

        def rule(args, dims, raised=raised, text=text):
            raise raised(text)

        batching.primitive_batchers[refusing_p] = rule
        with pytest.raises(raised, match=text):
            bm.vmap(lambda x, p=refusing_p: p.bind(x), in_axes=(0,))(GIVEN)
        # Passes are told in words: no exception may unwind them.
        number = _kernels.register(refusing_p, {}, [jax.typeof(GIVEN[0])])
        assert isinstance(_kernels.ask_batching_rule(f"bm_kernel_{number}_3x0"), str)


def product_over_batches(name, of_batch, out_axis=None):
    """`x * w`, linear in each, whose batches are what `of_batch` makes of all elements."""
    p = primitive(f"product_{name}", jnp.multiply, lambda x, w: x)

    def jvp(primals, tangents):
        (x, w), (dx, dw) = primals, map(ad.instantiate_zeros, tangents)
        return p.bind(x, w), p.bind(dx, w) + p.bind(x, dw)

    def transpose(ct, x, w):
        if ad.is_undefined_primal(x):
            return [p.bind(ct, w), None]
        return [None, p.bind(x, ct)]

    def batch(args, dims):
        (size,) = {x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None}
        whole = [
            jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
            for x, d in zip(args, dims, strict=True)
        ]
        return of_batch(p.bind(*whole)), out_axis

    ad.primitive_jvps[p] = jvp
    ad.primitive_transposes[p] = transpose
    batching.primitive_batchers[p] = batch
    return p


OF_BATCHES = {
    "sum": (lambda each: each.sum(0), None),
    "mean": (lambda each: each.mean(0), None),
    "max": (lambda each: each.max(0), None),
    "first": (lambda each: each[0], None),
    "centred": (lambda each: each - each.mean(0), 0),
    "sorted": (lambda each: jnp.sort(each, 0), 0),
    "moved": (lambda each: jnp.moveaxis(each.cumsum(0), 0, 1), 1),
}
OVER_BATCHES = {
    name: product_over_batches(name, *of_batch) for name, of_batch in OF_BATCHES.items()
}


def assert_close(got, want, atol=0):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-6, atol), got, want)


ROWS = jnp.array([[1.0, 2.0, 3.0], [4.0, 0.5, 6.0]])
WEIGHTS = jnp.array([2.0, 3.0, -1.0])


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap, lambda f, *axes: jax.vmap(bm.jit(f), *axes)])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("name", OVER_BATCHES)
def test_what_a_batching_rule_makes_of_all_elements_is_differentiated(name, axes, vmap):
    p, (of_batch, out_axis) = OVER_BATCHES[name], OF_BATCHES[name]
    x, w = (ROWS if axis == 0 else WEIGHTS for axis in axes)
    like = jnp.cos(of_batch(ROWS))

    def loss(x, w):
        return (vmap(lambda x, w: p.bind(jnp.sin(x), w), axes, out_axis)(x, w) ** 2 * like).sum()

    def plain(x, w):
        return (of_batch(jnp.sin(x) * w) ** 2 * like).sum()

    both = (0, 1)
    of_loss, of_plain = bm.grad(loss, argnums=both), jax.grad(plain, both)
    assert_close(of_loss(x, w), of_plain(x, w))
    tangents = (jnp.cos(x), w**2)
    assert_close(bm.jvp(loss, (x, w), tangents), jax.jvp(plain, (x, w), tangents))
    assert_close(bm.jvp(of_loss, (x, w), tangents), jax.jvp(of_plain, (x, w), tangents))


@pytest.mark.parametrize("p", OVER_BATCHES.values(), ids=OVER_BATCHES)
def test_batches_of_derivatives_mix_all_elements_too(p):
    """As under JAX, which asks the rule for the derivative's own calls of the primitive."""

    def loss(vmap):
        return lambda x, w: (vmap(p.bind, (0, None))(jnp.sin(x), w) * ROWS).sum()

    of_row = lambda vmap, grad: vmap(grad(loss(vmap), argnums=(0, 1)), (0, None))  # noqa: E731
    cube = jnp.stack([ROWS, ROWS * 2, ROWS**2])
    want = of_row(jax.vmap, jax.grad)(cube, WEIGHTS)
    assert_close(of_row(bm.vmap, bm.grad)(cube, WEIGHTS), want)
    assert_close(of_row(jax.vmap, bm.grad)(cube, WEIGHTS), want)
    assert_close(
        bm.hessian(loss(bm.vmap))(ROWS, WEIGHTS), jax.hessian(loss(jax.vmap))(ROWS, WEIGHTS)
    )


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("name", OVER_BATCHES)
def test_backward_rules_that_transpose_what_mixes_all_elements(name, axes, vmap):
    """A residual that does not depend on the batch is shared, so the rule is asked about one."""
    p, out_axis = OVER_BATCHES[name], OF_BATCHES[name][1]
    x, w = (ROWS if axis == 0 else WEIGHTS for axis in axes)

    def primal(x, w):
        return p.bind(jnp.sin(x), jnp.cos(w))

    def bwd(args, ct):
        return tuple(2 * ct for ct in jax.vjp(primal, *args)[1](ct))

    fun = jax.custom_vjp(primal)
    fun.defvjp(lambda *args: (primal(*args), args), bwd)

    like = jnp.cos(OF_BATCHES[name][0](ROWS))

    def loss(vmap):
        return lambda x, w: (jnp.sin(vmap(fun, axes, out_axis)(x, w)) * like).sum()

    of_loss, of_jax = bm.grad(loss(vmap), argnums=(0, 1)), jax.grad(loss(jax.vmap), (0, 1))
    # What is centred has cotangents that sum to zero.
    assert_close(of_loss(x, w), of_jax(x, w), atol=1e-6)
    tangents = (jnp.cos(x), w**2)
    got, want = bm.jvp(of_loss, (x, w), tangents), jax.jvp(of_jax, (x, w), tangents)
    assert_close(got, want, atol=1e-6)


def test_what_is_shared_does_not_ask_the_derivative_rule():
    """By that alone each element has a tangent of its own."""
    square_p = primitive("square", jnp.square, lambda x: x)
    ad.primitive_jvps[square_p] = lambda x, dx: (square_p.bind(*x), 2 * x[0] * dx[0])
    batching.primitive_batchers[square_p] = lambda args, dims: (
        jnp.square(args[0]).mean(dims[0]),
        None,
    )
    means = bm.vmap(square_p.bind, out_axes=None)
    of_rows = lambda x: (means(x) * WEIGHTS).sum()  # noqa: E731
    plain = lambda x: ((x**2).mean(0) * WEIGHTS).sum()  # noqa: E731
    assert_close(bm.grad(of_rows)(ROWS), jax.grad(plain)(ROWS))
    assert_close(bm.jvp(of_rows, (ROWS,), (ROWS,)), jax.jvp(plain, (ROWS,), (ROWS,)))


def test_batches_of_batches_of_all_elements():
    p, (of_batch, _) = OVER_BATCHES["mean"], OF_BATCHES["mean"]
    cube = jnp.stack([ROWS, ROWS * 2, ROWS**2])

    def loss(vmapped):
        return lambda x: (jnp.sin(vmapped(x)) * WEIGHTS).sum()

    means = bm.vmap(bm.vmap(lambda x: p.bind(x, x), 0, None), 0, None)
    # The outer batch is of the inner one's primitive, with the inner batch as a dimension.
    plain = lambda x: of_batch(of_batch(x * x))  # noqa: E731
    assert_close(bm.grad(loss(means))(cube), jax.grad(loss(plain))(cube))


def test_what_a_batching_rule_makes_is_made_once():
    asked = []
    p = product_over_batches("counted", lambda each: asked.append(1) or each.sum(0))
    loss = bm.grad(lambda w: bm.vmap(p.bind, (0, None), None)(ROWS, w).sum())
    loss(WEIGHTS)
    count = len(asked)
    loss(WEIGHTS + 1)
    assert len(asked) == count
