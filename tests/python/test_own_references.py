"""References (`jax.new_ref`) that a function makes, and what it does with others beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_references import X, same, stash

import bmgrad as bp
import bmgrad.math as bm


def test_references_of_the_function_are_differentiated():
    def in_place(x):
        ref = jax.new_ref(x)
        ref[0] = 2.0 * x[1]
        ref[1] += x[2]
        return ref[...] ** 2

    def in_loops(x):
        total, seen = jax.new_ref(jnp.zeros(())), jax.new_ref(jnp.zeros(3))

        def count(i, state):
            total[...] = jnp.sin(total[...] + x[i])
            return state

        def step(c, i):
            seen[i] = c
            return c * x[i], None

        lax.fori_loop(0, 3, count, 0)
        c, _ = lax.scan(step, 1.0, jnp.arange(3))
        return seen[...] * c + total[...]

    for fun in (in_place, in_loops):
        loss = lambda x, fun=fun: jnp.sum(fun(x) * x)  # noqa: E731
        np.testing.assert_allclose(bm.grad(loss)(X), jax.grad(loss)(X), rtol=1e-6)
        np.testing.assert_allclose(bm.jit(fun)(X), fun(X), rtol=1e-6)


def test_references_of_the_function_beside_others():
    def fun(ref, x):
        inner = jax.new_ref(x)

        @jax.jit
        def swap():
            inner[...] = jnp.sin(inner[...]) * ref[0]
            ref[0] += 1.0

        def step(c, _):
            swap()
            inner.addupdate(ref[2])
            return c + 1, inner[...]

        swap()
        return lax.scan(step, 0, None, length=3)[1].sum() + stash(ref, inner[...] * X)[0]

    same(lambda t, ref: t.grad(lambda x: fun(ref, x))(0.7), X)
    same(lambda t, ref: t.grad(jax.jit(lambda x: fun(ref, x)))(0.7), X)


def test_references_in_a_checkpoint():
    """JAX has no reverse mode where one that the function makes is used in it."""

    def run(transforms, ref):
        wrap = jax.checkpoint if transforms is bm else lambda fun: fun

        @wrap
        def fun(x):
            inner = jax.new_ref(x)

            @wrap
            def block(x):
                inner[...] = jnp.sin(inner[...] * x)
                return stash(ref, inner[...] * X)[0] * ref[1]

            return block(x * ref[0]) * inner[...]

        return transforms.grad(fun)(0.7)

    same(run, X)


@jax.custom_vjp
def five(x):
    return jax.nn.relu(x)


five.defvjp(lambda x: (x, None), lambda _, ct: (5 * ct,))


@jax.custom_jvp
def seven(x):
    return five(x)


seven.defjvp(lambda primals, tangents: (primals[0], 7 * tangents[0]))


def test_rules_beside_references_of_the_function_are_kept():
    """JAX forgets them when it puts values in the place of references."""

    def straight(x):
        ref = jax.new_ref(seven(x))
        ref[...] = five(ref[...])
        return five(ref[...])

    def inside(x):
        ref = jax.new_ref(x)

        @jax.jit
        def scale():
            ref[...] = five(ref[...])

        scale()
        lax.cond(x > 0, lambda: ref.__setitem__(..., seven(ref[...])), lambda: None)
        step = lambda c, _: (five(c), ref.__setitem__(..., jnp.sin(five(ref[...]))))  # noqa: E731
        c, _ = lax.scan(step, x, None, length=2)
        return c * ref[...]

    for fun in (straight, inside, jax.jit(straight), jax.jit(inside)):
        same(lambda t, fun=fun: t.grad(fun)(0.7))
    same(lambda t: t.jvp(lambda x: jax.new_ref(seven(x))[...], (0.7,), (1.0,)))


@jax.custom_vjp
def scaled(ref, y):
    return ref[...] * y


# Not what the derivative is.
scaled.defvjp(
    lambda ref, y: (scaled(ref, y), (ref[...], y)),
    lambda kept, ct: (7 * ct * kept[1], 3 * ct * kept[0]),
)


def test_rules_that_read_references_of_the_function():
    def straight(x):
        ref = jax.new_ref(x)
        ref[...] = jnp.sin(ref[...])
        product = scaled(ref, 2 * x)
        ref[...] *= 2
        return product * ref[...]

    def in_a_loop(x):
        ref = jax.new_ref(x)
        c, _ = lax.scan(lambda c, _: (jax.jit(scaled)(ref, c), None), x, None, length=3)
        return c * ref[...]

    for fun in (straight, jax.jit(straight), in_a_loop):
        same(lambda t, fun=fun: t.grad(fun)(0.7))
        same(lambda t, fun=fun: t.vmap(t.grad(fun))(X))

    # JAX has no second derivatives of these.
    of_values = jax.custom_vjp(lambda held, y: held * y)
    of_values.defvjp(
        lambda held, y: (of_values(held, y), (held, y)),
        lambda kept, ct: (7 * ct * kept[1], 3 * ct * kept[0]),
    )
    plain = lambda x: of_values(jnp.sin(x), 2 * x) * 2 * jnp.sin(x)  # noqa: E731
    np.testing.assert_allclose(
        bm.grad(bm.grad(straight))(0.7), jax.grad(jax.grad(plain))(0.7), rtol=1e-6
    )


@jax.custom_vjp
def tripled_into(ref, x):
    ref[...] = 3 * x + ref[...]
    return 2 * x


tripled_into.defvjp(
    lambda ref, x: (tripled_into(ref, x), x),
    lambda x, ct: (None, ct * jnp.cos(x)),
)


@jax.custom_vjp
def doubled_into(ref, x):
    ref[...] *= 2
    return x * x


# The reference too has a cotangent.
doubled_into.defvjp(lambda ref, x: (doubled_into(ref, x), x), lambda x, ct: (ct * x, 5 * ct * x))


def test_rules_that_write_to_references_of_the_function():
    """What they write has no derivative, and leaves that of what was there."""

    def straight(x):
        ref = jax.new_ref(x * x)
        y = tripled_into(ref, x)
        ref[...] = ref[...] * y
        return doubled_into(ref, y) + ref[...]

    def in_a_loop(x):
        ref = jax.new_ref(x)
        c, _ = lax.scan(lambda c, _: (jax.jit(tripled_into)(ref, c), None), x, None, length=3)
        return c * ref[...]

    for fun in (straight, jax.jit(straight), in_a_loop):
        np.testing.assert_allclose(bm.jit(fun)(0.7), fun(0.7), rtol=1e-6)
        same(lambda t, fun=fun: t.grad(fun)(0.7))
        same(lambda t, fun=fun: t.vmap(t.grad(fun))(X))

    # JAX has no second derivatives of these.
    tripled = jax.custom_vjp(lambda held, x: (3 * x + held, 2 * x))
    tripled.defvjp(
        lambda held, x: (tripled(held, x), x),
        lambda x, cts: (cts[0], cts[1] * jnp.cos(x)),
    )
    doubled = jax.custom_vjp(lambda held, x: (held * 2, x * x))
    doubled.defvjp(
        lambda held, x: (doubled(held, x), x),
        lambda x, cts: (cts[0] + cts[1] * x, 5 * cts[1] * x),
    )

    def of_values(x):
        held, y = tripled(x * x, x)
        held, result = doubled(held * y, y)
        return result + held

    np.testing.assert_allclose(
        bm.grad(bm.grad(straight))(0.7), jax.grad(jax.grad(of_values))(0.7), rtol=1e-6
    )


def test_rules_that_keep_references_of_the_function():
    def straight(x):
        ref = jax.new_ref(jnp.zeros_like(x))
        return jnp.sin(stash(ref, jnp.sin(x))) + ref[...]

    def in_a_loop(x):
        ref = jax.new_ref(jnp.zeros(()))
        step = lambda c, _: (jnp.sin(stash(ref, jnp.sin(c))), None)  # noqa: E731
        return lax.scan(step, x, None, length=3)[0]

    # JAX has none inside jit, and 0.12 none inside jax.checkpoint.
    for call in (jax.jit, jax.checkpoint):
        slope, slopes = bm.grad(call(straight)), bm.vmap(bm.grad(call(straight)))
        np.testing.assert_allclose(slope(0.7), jax.grad(straight)(0.7), rtol=1e-6)
        np.testing.assert_allclose(slopes(X), jax.vmap(jax.grad(straight))(X), rtol=1e-6)
        np.testing.assert_allclose(bm.jit(call(straight))(0.7), straight(0.7), rtol=1e-6)
    for fun in (straight, in_a_loop):
        np.testing.assert_allclose(bm.jit(fun)(0.7), fun(0.7), rtol=1e-6)
        same(lambda t, fun=fun: t.grad(fun)(0.7))
        same(lambda t, fun=fun: t.vmap(t.grad(fun))(X))


def test_rules_whose_cotangents_depend_on_a_reference_that_they_keep():
    reading = jax.custom_vjp(lambda ref, x: 2 * x)
    reading.defvjp(lambda ref, x: (2 * x, ref), lambda ref, ct: (None, ct * ref[...]))
    with pytest.raises(NotImplementedError, match=r"for a reference(.|\n)*make it outside"):
        bm.grad(lambda x: reading(jax.new_ref(3.0), x))(0.7)


@pytest.mark.parametrize("kind", ["asks", "holds a value", "remat"])
def test_rules_for_references_that_need_more(kind):
    def loss(x):
        factor = jnp.float32(3.0) * 2 if kind == "holds a value" else 6.0

        @jax.custom_vjp
        def fun(ref, y):
            return ref[...] * y

        fun.defvjp(
            lambda ref, y: (fun(ref, y), (1.0, 2.0)) if kind != "asks" else (y.value, (1.0, 2.0)),
            lambda kept, ct: (kept[0], factor * ct if kind == "holds a value" else ct),
            symbolic_zeros=kind == "asks",
            optimize_remat=kind == "remat",
        )
        return fun(jax.new_ref(x), 2.0 * x)

    with pytest.raises(NotImplementedError, match="is for a reference"):
        bm.grad(loss)(0.7)


def test_references_that_keep_gradients_out():
    """In forward mode JAX differentiates the first value, and in reverse it adds nothing."""

    def make(x):
        return jax.new_ref(x, kind="no_grad_no_remat")

    def in_place(x):
        ref = make(jnp.stack([x, x, x]))
        ref[1] += x
        ref.addupdate(jnp.full(3, x))
        return (ref[...] * x).sum()

    def inside(x):
        ref = make(x)

        @jax.jit
        def scale(y):
            ref[...] *= y
            return y * ref[...]

        step = lambda c, _: (jnp.sin(scale(c)), jax.ref.swap(ref, ..., c))  # noqa: E731
        c, ys = lax.scan(step, x, None, length=3)
        lax.cond(x > 0, lambda: ref.__setitem__(..., x), lambda: None)
        return c * ref[...] + x * ys.sum()

    # It holds x, 2x, x and x more of each, all of which count as constant.
    np.testing.assert_allclose(bm.value_and_grad(in_place)(0.7), (7 * 0.7**2, 7 * 0.7), rtol=1e-6)
    for fun in (inside, jax.jit(inside)):
        np.testing.assert_allclose(bm.grad(fun)(0.7), jax.grad(fun)(0.7), rtol=1e-6)
        moved = bm.jvp(fun, (0.7,), (1.0,))[1]
        np.testing.assert_allclose(moved, jax.grad(fun)(0.7), rtol=1e-6)


@pytest.mark.parametrize("inner", [bm.grad, jax.grad, lambda f: bm.jacfwd(bm.jit(f))])
def test_derivatives_inside_that_use_references_of_the_function(inner):
    def reading(x):
        ref = jax.new_ref(jnp.sin(x))
        return inner(lambda y: y * y * ref[...] * x)(x) * ref[...]

    def writing(x):
        log = jax.new_ref(jnp.zeros(3))

        def loss(w, i):
            log[i] = lax.stop_gradient(w)
            return w**2 * log[0]

        step = lambda x, i: (x - 0.1 * inner(lambda w: loss(w, i))(x), None)  # noqa: E731
        x, _ = lax.scan(step, x, jnp.arange(2))
        x, _ = step(x, 2)
        return x + (log[...] ** 2).sum()

    def writing_of_values(x):
        seen = []
        for _ in range(3):
            seen.append(lax.stop_gradient(x))
            x = x - 0.1 * 2 * x * seen[0]
        return x + sum(w**2 for w in seen)

    reading_of_values = lambda x: 2 * x * x * jnp.sin(x) ** 2  # noqa: E731
    for fun, of_values in ((reading, reading_of_values), (writing, writing_of_values)):
        np.testing.assert_allclose(bm.jit(fun)(0.7), of_values(0.7), rtol=1e-6)
        slope = jax.grad(of_values)
        for wrap in (lambda f: f, jax.jit, jax.checkpoint):
            np.testing.assert_allclose(bm.grad(wrap(fun))(0.7), slope(0.7), rtol=1e-6)
            moved = bm.jvp(wrap(fun), (0.7,), (1.0,))[1]
            np.testing.assert_allclose(moved, slope(0.7), rtol=1e-6)
        again = bm.grad(bm.grad(fun))(0.7)
        np.testing.assert_allclose(again, jax.grad(slope)(0.7), rtol=1e-5)
        if inner is bm.grad:  # Of the others JAX 0.10.2 has none for the one that writes.
            np.testing.assert_allclose(jax.grad(fun)(0.7), slope(0.7), rtol=1e-6)


def test_compiled_methods_inside_that_read_references_of_the_function():
    class Model(bp.Base):
        def __init__(self):
            super().__init__()
            self.factor = bm.Variable(jnp.float32(2.0))
            self.ref = None

        def read(self, y):
            return y * self.ref[...] * self.factor.value

    model = Model()
    for call in (lambda f: f, jax.vmap):
        read = call(bm.jit(model.read))

        def fun(x, read=read):
            model.ref = jax.new_ref(x.sum())
            return (read(x) * model.ref[...]).sum()

        # The same transforms, for another reference each time.
        for x in (np.float32([0.5, 0.7]), np.float32([1.5, 0.2])):
            for grad in (bm.grad, jax.grad, lambda f: jax.grad(jax.jit(f))):
                expected = 6 * x.sum() ** 2
                np.testing.assert_allclose(grad(fun)(x), [expected, expected], rtol=1e-6)


@pytest.mark.parametrize("compiled", [lambda f: f, jax.jit, bm.jit, lambda f: bm.jit(jax.jit(f))])
def test_compiled_functions_that_are_given_references_of_the_function(compiled):
    @compiled
    def grow(ref, x):
        ref[...] += jnp.sin(x) * ref[...]
        return ref[...] * x

    def fun(x):
        ref = jax.new_ref(x * 2)
        return grow(ref, grow(ref, x)) + ref[...]

    def of_values(x):
        first = x * 2 * (1 + jnp.sin(x))
        second = first * (1 + jnp.sin(first * x))
        return second * first * x + second

    ref = jax.new_ref(jnp.float32(2.0))
    assert grow(ref, 0.0) == 0  # Not the same there.
    want = jax.grad(of_values)(0.7)
    for grad in (bm.grad, jax.grad, lambda f: jax.grad(jax.jit(f)), lambda f: bm.jit(jax.grad(f))):
        np.testing.assert_allclose(grad(fun)(0.7), want, rtol=1e-5)
    np.testing.assert_allclose(fun(0.7), of_values(0.7), rtol=1e-6)
