"""References (`jax.new_ref`) that a function closes over or takes; JAX says what they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad as bp
import bmgrad.math as bm

X = jnp.arange(1.0, 4.0)
ZEROS = jnp.zeros(3)


def same(run, *initial, rtol=1e-6):
    """`run(transforms, *references)` gives the same values and contents with `bm` as with JAX."""
    found = []
    for transforms in (bm, jax):
        references = [jax.new_ref(jnp.asarray(value)) for value in initial]
        values = run(transforms, *references)
        found.append((values, [reference[...] for reference in references]))
    ours, theirs = found
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), ours, theirs)


@jax.custom_vjp
def stash(ref, x):
    """The identity, which keeps its cotangent in `ref`."""
    return x


stash.defvjp(lambda ref, x: (x, ref), lambda ref, ct: (ref.__setitem__(..., ct), (None, ct))[1])


@jax.custom_vjp
def history(ref, x):
    """The identity, which notes the sizes of its cotangents and divides by the largest."""
    return x


def history_bwd(ref, ct):
    ref[...] = jnp.roll(ref[...], 1).at[0].set(jnp.max(jnp.abs(ct)))
    return None, ct / jnp.max(ref[...])


history.defvjp(lambda ref, x: (x, ref), history_bwd)


# -- Reads and writes ------------------------------------------------------------------------------


def count(ref, x):
    ref[...] += 1.0
    y = x * ref[...]
    ref[0] = 10.0
    return jnp.sum(jnp.sin(y) * ref[...])


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("kind", ["grad", "value_and_grad", "jacrev"])
def test_reads_and_writes(wrap, kind):
    def closed_over(transforms, ref):
        return wrap(getattr(transforms, kind)(lambda x: count(ref, x)))(X)

    def argument(transforms, ref):
        return wrap(getattr(transforms, kind)(count, argnums=1))(ref, X)

    for run in (closed_over, argument):
        same(run, ZEROS)


@pytest.mark.parametrize("kind", ["jacfwd", "hessian"])
def test_forward_mode_runs_once(kind):
    """JAX maps over tangents, and so refuses the writes, though no tangent is in them."""
    ref = jax.new_ref(ZEROS)
    pure = lambda x: jnp.sum(jnp.sin(x) * jnp.array([10.0, 1.0, 1.0]))  # noqa: E731
    want = getattr(jax, kind)(pure)(X)
    np.testing.assert_allclose(getattr(bm, kind)(count, argnums=1)(ref, X), want, rtol=1e-6)
    np.testing.assert_allclose(ref[...], [10, 1, 1])


def test_functional_forms():
    def with_jvp(transforms, ref):
        return transforms.jvp(lambda x: count(ref, x), (X,), (jnp.ones(3),))

    def with_linearize(transforms, ref):
        value, linear = transforms.linearize(lambda x: count(ref, x), X)
        return value, linear(jnp.ones(3)), linear(X)

    def with_vjp(transforms, ref):
        value, pullback = transforms.vjp(lambda x: count(ref, x), X)
        return value, pullback(2.0)

    for run in (with_jvp, with_linearize, with_vjp):
        same(run, ZEROS)


def test_each_way_to_index():
    def fun(ref, i, x):
        ref[1, 2] = 1.0
        ref[i] = ref[i + 1] + 1.0
        ref[:, 1] += 2.0
        ref[jnp.array([0, 1]), jnp.array([3, 3])] = jnp.full(2, 7.0)
        old = jax.ref.swap(ref, (0, slice(None)), jnp.ones(4))
        return jnp.sum(x * ref[0:2, ::2]) + jnp.sum(x[0] * old[:2] * ref[i, jnp.array([2, 1])])

    def run(transforms, ref):
        return transforms.grad(fun, argnums=2)(ref, 0, jnp.ones((2, 2)))

    same(run, np.arange(12.0, dtype=np.float32).reshape(3, 4))


def test_addupdate():
    """JAX has no derivative with it for references from outside."""

    def fun(ref, x):
        ref.addupdate(jnp.ones((2, 2)), (slice(1, 3), slice(0, 4, 2)))
        ref.addupdate(jnp.ones(4), 0)
        return jnp.sum(x * ref[...])

    ours, theirs = (jax.new_ref(jnp.ones((3, 4))) for _ in range(2))
    fun(theirs, 1.0)
    np.testing.assert_allclose(bm.grad(fun, argnums=1)(ours, 1.0), jnp.sum(theirs[...]))
    np.testing.assert_allclose(ours[...], theirs[...])


@pytest.mark.parametrize("dtype", ["int32", "bool", "bfloat16", "complex64", "uint8"])
def test_dtypes(dtype):
    def run(transforms, ref):
        def fun(x):
            ref[1] = ref[0]
            return jnp.sum(x * jnp.real(ref[...]).astype(x.dtype))

        return transforms.grad(fun)(X)

    same(run, jnp.array([1, 0, 1], dtype))


def test_keys():
    def run(transforms):
        ref = jax.new_ref(jax.random.key(0))

        def fun(x):
            key, ref[...] = jax.random.split(ref[...])
            return jnp.sum(x * jax.random.normal(key, (3,)))

        grad = transforms.grad(fun)
        return grad(X), grad(X), jax.random.key_data(ref[...])

    same(run)


# -- Control flow ----------------------------------------------------------------------------------


def test_loops():
    def scanned(ref, x):
        def step(c, i):
            ref[i] = lax.stop_gradient(c)
            return jnp.sin(c * x) + ref[0], ref[i] * c

        c, ys = lax.scan(step, 1.0, jnp.arange(3))
        return c + jnp.sum(ys)

    def counted(ref, x):
        def step(i, c):
            ref[i] += i + 1.0
            return jnp.sin(c * x) * ref[i]

        return lax.fori_loop(0, 3, step, x)

    def until(ref, x):
        def step(c):
            ref[0] += 1.0
            return jnp.sin(c * x)

        return lax.while_loop(lambda c: ref[0] < 3.0, step, x)

    for fun in (scanned, counted):
        same(lambda t, ref, fun=fun: t.grad(fun, argnums=1)(ref, 0.7), ZEROS)
        same(lambda t, ref, fun=fun: jax.jit(t.grad(lambda x: fun(ref, x)))(0.7), ZEROS)
    ref = jax.new_ref(ZEROS)
    three = lambda x: jnp.sin(jnp.sin(jnp.sin(x * x) * x) * x)  # noqa: E731
    # JAX's loops cannot use one reference in both functions.
    got = bm.jvp(lambda x: until(ref, x), (0.7,), (1.0,))
    np.testing.assert_allclose(got, jax.jvp(three, (0.7,), (1.0,)), rtol=1e-6)
    assert ref[0] == 3


def test_scanned():
    """A loop over the rows of a reference; other references are indexed in it."""

    def scanned(ref, other, x):
        def step(c, given):
            row, i = given
            y = c * jnp.sum(row[...])
            row[...] += 1.0
            other[i] *= 2.0
            return y + x, jnp.sin(y) * other[i]

        c, ys = lax.scan(step, x, (ref, jnp.arange(3)))
        return c + jnp.sum(ys) + jnp.sum(ref[...])

    def read(ref, x):
        return lax.scan(lambda c, row: (jnp.sin(c) * row[0], None), x, ref, reverse=True)[0]

    rows = jnp.arange(1.0, 7.0).reshape(3, 2) / 4
    for wrap in (lambda f: f, jax.jit):

        def twice(t, ref, other, wrap=wrap):
            grad = wrap(t.grad(lambda x: scanned(ref, other, x)))
            return grad(0.7), grad(0.7)

        same(twice, rows, X, rtol=1e-5)
    same(lambda t, ref: t.grad(t.grad(read, argnums=1), argnums=1)(ref, 0.7), rows, rtol=1e-5)
    same(lambda t, ref: t.jvp(lambda x: read(ref, x), (0.7,), (1.0,)), rows)
    lanes = lambda ref, x: jnp.sum(jax.vmap(lambda x: read(ref, x))(x))  # noqa: E731
    same(lambda t, ref: t.grad(lanes, argnums=1)(ref, X), rows, rtol=1e-5)


def test_branches():
    def fun(ref, flag, x):
        def write(x):
            ref[0] = 5.0
            return x * ref[1]

        return lax.cond(flag, write, lambda x: x * ref[0], x) * ref[0]

    for flag in (True, False):
        same(lambda t, ref, flag=flag: t.grad(fun, argnums=2)(ref, flag, 2.0), X)


def test_called_functions_are_told_apart():
    @jax.jit
    def add(ref, x):
        ref[0] += 1.0
        ref[1] *= 2.0
        ref[2] += ref[0] + ref[1]
        return x * ref[2]

    def fun(a, b, x):
        return add(a, x) * add(b, x) * add(a, x)

    same(lambda t, a, b: t.grad(fun, argnums=2)(a, b, 2.0), X, 10 * X)


def test_checkpoint_runs_once():
    def fun(ref, x):
        ref[...] += 1.0
        return jnp.sin(jnp.sin(x * ref[...]))

    ref = jax.new_ref(jnp.float32(0))
    got = bm.grad(jax.checkpoint(fun), argnums=1)(ref, 0.5)
    np.testing.assert_allclose(got, jax.grad(lambda x: jnp.sin(jnp.sin(x)))(0.5), rtol=1e-6)
    assert ref[...] == 1


# -- Backward rules --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_stash(wrap):
    @wrap
    def fun(ref, x):
        return jnp.sin(stash(ref, jnp.sin(stash(ref, jnp.sin(x)))))

    def with_vjp(transforms, ref):
        _, pullback = transforms.vjp(lambda x: fun(ref, x), 0.7)
        before = ref[...]
        return before, pullback(1.0), ref[...], pullback(2.0)

    same(lambda t, ref: t.grad(fun, argnums=1)(ref, 0.7), 0.0)
    same(lambda t, ref: jax.jit(t.grad(fun, argnums=1))(ref, 0.7), 0.0)
    same(lambda t, ref: t.grad(lambda x: fun(ref, x))(0.7), 0.0)
    same(with_vjp, 0.0)


def test_equal_calls_are_two():
    def fun(ref, x):
        return stash(ref, x) * stash(ref, x) * 3.0 * stash(ref, x)

    same(lambda t, ref: t.grad(fun, argnums=1)(ref, 0.7), 0.0)


def test_history_in_a_loop():
    def fun(ref, x):
        step = lambda c, y: (history(ref, jnp.sin(c) * y), None)  # noqa: E731
        return lax.scan(step, 1.0, x)[0]

    def run(transforms, ref):
        grad = transforms.grad(fun, argnums=1)
        return grad(ref, X), grad(ref, 2 * X)

    same(run, jnp.zeros(5))
    same(lambda t, ref: jax.jit(t.grad(jax.checkpoint(fun), argnums=1))(ref, X), jnp.zeros(5))


def test_rules_that_close_over_a_reference():
    def run(transforms, ref):
        @jax.custom_vjp
        def noted(x):
            return x * ref[0]

        def fwd(x):
            ref[1] += 1.0
            return noted(x), x

        def bwd(x, ct):
            ref[2] = ct * x
            return (ct * ref[1],)

        noted.defvjp(fwd, bwd)
        fun = lambda x: jnp.sin(noted(jnp.sin(noted(x))))  # noqa: E731
        return fun(0.3), transforms.grad(fun)(0.3), transforms.grad(jax.jit(fun))(0.3)

    same(run, X)


def test_two_references_of_one_rule():
    def fun(a, b, x):
        return jnp.sin(stash(b, jnp.sin(stash(a, jnp.sin(x)))))

    same(lambda t, a, b: t.grad(fun, argnums=2)(a, b, 0.7), 0.0, 0.0)
    same(lambda t, a, b: t.grad(lambda b, x: fun(a, b, x), argnums=1)(b, 0.7), 0.0, 0.0)


def test_a_function_with_a_forward_rule():
    def run(transforms, ref):
        @jax.custom_jvp
        def fun(x):
            return x * ref[0]

        @fun.defjvp
        def _(primals, tangents):
            return fun(*primals), tangents[0] * ref[1]

        return transforms.grad(lambda x: jnp.sin(fun(x)))(0.3)

    same(run, X)


# -- Transforms of transforms ----------------------------------------------------------------------


def fourth(ref, x):
    ref[...] += 1.0
    return ref[...] * x**4


def test_derivatives_of_derivatives():
    same(lambda t, ref: t.grad(t.grad(lambda x: fourth(ref, x)))(2.0), 0.0)
    same(lambda t, ref: t.grad(t.grad(fourth, argnums=1), argnums=1)(ref, 2.0), 0.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, bm.jit], ids=["plain", "jax.jit", "bm.jit"])
def test_inside_jax_transforms(wrap):
    """What bmgrad compiled, differentiated by JAX."""

    def fun(ref, x):
        y = jnp.sin(stash(ref, jnp.sin(x)))
        return y * lax.stop_gradient(y)

    def of(transforms, ref):
        inner = bm.jit(fun) if transforms is bm else fun
        got = wrap(jax.grad(lambda x: jnp.exp(inner(ref, x))))(0.7)
        return got, jax.jit(jax.grad(inner, argnums=1))(ref, 0.8), ref[...]

    same(of, 0.0)

    def forward(transforms, ref):
        inner = bm.jit(fourth) if transforms is bm else fourth
        value = jax.jvp(wrap(lambda x: inner(ref, x)), (2.0,), (1.0,))
        return value, jax.linearize(lambda x: inner(ref, x), 2.0)[1](1.0)

    same(forward, 0.0)


def test_a_step_in_jit():
    """The usual training step: the stash is made and read around a gradient."""

    def run(transforms):
        def step(x):
            ref = jax.new_ref(0.0)
            got = transforms.grad(lambda x: jnp.sin(stash(ref, jnp.sin(x))))(x)
            return got, ref[...]

        return jax.jit(step)(0.7), lax.scan(lambda c, x: (c, step(x)), 0.0, X)

    same(run)


def test_a_reference_made_in_bm_jit():
    @bm.jit
    def step(x):
        ref = jax.new_ref(0.0)
        got = bm.grad(lambda x: jnp.sin(stash(ref, jnp.sin(x))))(x)
        return got, ref[...]

    got, kept = step(0.7)
    np.testing.assert_allclose(got, jnp.cos(jnp.sin(0.7)) * jnp.cos(0.7), rtol=1e-6)
    np.testing.assert_allclose(kept, jnp.cos(jnp.sin(0.7)), rtol=1e-6)


def test_programs_that_call_programs():
    inner = bm.jit(lambda a, b, x: (a.__setitem__(0, b[1]), x * a[0])[1])

    def fun(a, b, x):
        return inner(b, a, x) * inner(a, b, x)

    def run(transforms, a, b):
        return transforms.grad(bm.jit(fun) if transforms is bm else fun, argnums=2)(a, b, 2.0)

    def theirs(a, b, x):
        b[0] = a[1]
        y = x * b[0]
        a[0] = b[1]
        return y * (x * a[0])

    def compare(transforms, a, b):
        return transforms.grad(fun if transforms is bm else theirs, argnums=2)(a, b, 2.0)

    same(compare, X, 10 * X)


def test_pruned_results():
    @bm.jit
    def fun(ref, x, y):
        ref[...] += x
        return x * ref[...], y

    ref = jax.new_ref(1.0)
    assert jax.jit(lambda x, y: fun(ref, x, y)[1])(2.0, 3.0) == 3
    assert ref[...] == 3
    assert jax.jit(lambda x, y: fun(ref, x, y)[0])(2.0, 3.0) == 10


# -- Batches ---------------------------------------------------------------------------------------


def test_batches_read():
    fun = lambda ref, x: jnp.sin(x * ref[0]) * ref[jnp.int32(x)]  # noqa: E731
    for run in (
        lambda t, ref: t.vmap(t.grad(lambda x: fun(ref, x)))(X - 1),
        lambda t, ref: jax.vmap(t.grad(lambda x: fun(ref, x)))(X - 1),
        lambda t, ref: t.vmap(t.grad(fun, argnums=1), in_axes=(None, 0))(ref, X - 1),
    ):
        same(run, X)


def test_batches_do_not_write():
    ref = jax.new_ref(0.0)
    # Of this only the backward rule writes.
    for mapped in (bm.vmap(lambda x: stash(ref, x)), jax.vmap(bm.jit(lambda x: stash(ref, x)))):
        np.testing.assert_allclose(mapped(X), X)
    for write in (
        lambda x: ref.__setitem__(..., x),
        lambda x: ref.__setitem__(..., ref[...] + 1.0),
        lambda x: ref.addupdate(x),
        bm.grad(lambda x: stash(ref, x)),
    ):
        fun = lambda x, write=write: (write(x), x)[1]  # noqa: E731
        for mapped in (bm.vmap(fun), jax.vmap(bm.jit(fun))):
            with pytest.raises(NotImplementedError, match="unbatched array reference"):
                mapped(X)
    branch = lambda x: lax.cond(x > 2, lambda: ref[...], lambda: 0.0)  # noqa: E731
    with pytest.raises(NotImplementedError, match="not supported in vmap-of-cond"):
        bm.vmap(branch)(X)
    assert ref[...] == 0


def test_batches_do_not_write_in_rules():
    """Not even what does not depend on the batch: it would be written once."""
    ref = jax.new_ref(0.0)

    @jax.custom_vjp
    def counted(x):
        return x

    counted.defvjp(lambda x: (x, None), lambda _, ct: (ref.__setitem__(..., ref[...] + 1.0) or ct,))
    mapped = bm.vmap(lambda x: counted(x) * x)
    np.testing.assert_allclose(mapped(X), X * X)
    for derive in (
        bm.grad(lambda x: mapped(x).sum()),
        jax.grad(lambda x: mapped(x).sum()),
        bm.jacrev(lambda x: counted(x) * x),
        jax.vmap(bm.grad(lambda x: counted(x) * x)),
    ):
        with pytest.raises(NotImplementedError, match="unbatched array reference"):
            derive(X)
    assert ref[...] == 0


# -- Caching ---------------------------------------------------------------------------------------


def test_another_reference_is_not_another_program():
    traced = []

    def fun(ref, x):
        traced.append(1)
        ref[...] = stash(ref, jnp.float32(2.0))
        return jnp.sin(stash(ref, x))

    first, second = jax.new_ref(0.0), jax.new_ref(0.0)
    grad = bm.grad(fun, argnums=1)
    grad(first, 0.0)
    grad(second, 1.0)
    assert len(traced) == 1
    np.testing.assert_allclose([first[...], second[...]], [1, np.cos(1)], rtol=1e-6)


def test_a_reference_of_a_node_may_be_replaced():
    class Scale(bp.Base):
        def __init__(self):
            super().__init__()
            self.calls = jax.new_ref(0)

        def __call__(self, x):
            self.calls[...] += 1
            return x * self.calls[...]

    scale = Scale()
    grad = bm.grad(scale)
    assert (grad(1.0), grad(1.0)) == (1, 2)
    scale.calls = jax.new_ref(10)
    assert (grad(1.0), scale.calls[...]) == (11, 11)


def test_calls_do_not_compile_anew():
    def step(ref, x):
        _, pullback = bm.vjp(lambda x: jnp.sin(stash(ref, x)), x)
        return pullback(1.0)[0]

    step(jax.new_ref(0.0), 0.5)
    ref = jax.new_ref(0.0)
    compiled = []
    listen = lambda event, *_, **__: compiled.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        got = step(ref, 0.25)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not [event for event in compiled if "backend_compile" in event]
    np.testing.assert_allclose([got, ref[...]], jnp.cos(0.25), rtol=1e-6)
