"""What backward rules log (`jax.custom_vjp.defvjp_with_logs`); the oracle is JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad.math as bm

pytestmark = pytest.mark.skipif(
    not hasattr(jax.custom_vjp, "defvjp_with_logs"), reason="this JAX has no logs"
)
X = np.float32([0.5, -1.2, 2.0])


def logging(key, factor=3.0, logs=lambda x, ct: {"x": x, "ct": ct}):
    """The sine, whose gradient is not the true one, and which logs what `logs` says."""

    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x)

    if hasattr(fun, "defvjp_with_logs"):
        fun.defvjp_with_logs(
            lambda x: (fun(x), x), lambda x, ct: ((factor * ct * x,), {key: logs(x, ct)})
        )
    return fun


one, two, three = (logging(key) for key in ("one", "two", "three"))


def straight(x):
    return two(one(x) * x) + three(x)


def in_loops(x):
    def inner(c, x):
        return one(c * x), two(jnp.stack([x, c]))

    def step(c, x):
        c, ys = lax.scan(inner, c, jnp.stack([x, 2 * x]), reverse=True)
        return jnp.cos(three(c)), ys.sum()

    c, ys = lax.scan(step, x, X)
    return c + ys.sum()


def in_branches(x):
    def positive(x):
        return lax.switch(jnp.int32(x), [one, lambda x: 2 * x, lambda x: two(x) + 1], x)

    return lax.cond(x > 0, positive, lambda x: two(jnp.stack([x, x])).sum(), x) * x


def in_calls(x):
    inner = jax.jit(lambda x: jnp.cos(one(x)) * x * x)
    kept = jax.checkpoint(lambda x: two(inner(x) * x) ** 2)
    return three(kept(x))


def mapped(x):
    return jax.vmap(lambda y: one(x * y) + two(y))(jnp.asarray(X)).sum() + three(x)


def in_rules(x):
    """Of what a rule calls nothing is logged but where the rule is differentiated."""
    outer = jax.custom_vjp(lambda x: two(x) * 2)
    outer.defvjp_with_logs(lambda x: (two(x) * 2, x), lambda x, ct: ((ct,), {"outer": one(ct)}))
    return outer(x) * x


def shared_with_rules(x):
    """A function that a rule calls too, where what it logs is not wanted."""
    called = jax.jit(lambda x: jnp.sin(one(x)) * x * x)
    outer = jax.custom_vjp(lambda x: called(x) * 2)
    outer.defvjp(lambda x: (called(x) * 2, x), lambda x, ct: (ct * x,))
    return outer(x) + called(x)


def asking(x):
    """A rule that is told what is perturbed."""
    fun = jax.custom_vjp(lambda x, y: x * y)
    fun.defvjp_with_logs(
        lambda x, y: (x.value * y.value, (x.value, y.perturbed)),
        lambda kept, ct: ((ct, None), {"asking": (kept[0], jnp.float32(kept[1]))}),
        symbolic_zeros=True,
    )
    return fun(x, 2.0) + one(x)


def in_solves(x):
    """The functions that solve have no derivative of their own."""
    b = x * jnp.ones(2)
    solve = lambda _, b: one(b) / x  # noqa: E731
    transposed = lambda _, b: b / x  # noqa: E731
    return lax.custom_linear_solve(lambda v: x * v, one(b * x), solve, transposed).sum()


def shared_in_a_batch(x):
    """What the elements share is logged for each."""
    return jax.vmap(lambda y: one(x) * y)(jnp.asarray(X)).sum() + two(x)


def with_a_target(x):
    """Only one of the calls has a cotangent, so the key is that of one."""
    return (one(x) - lax.stop_gradient(one(2 * x))) ** 2


FUNCTIONS = [
    shared_in_a_batch,
    with_a_target,
    straight,
    in_loops,
    in_branches,
    in_calls,
    mapped,
    in_rules,
    shared_with_rules,
    asking,
    in_solves,
]


def same(found, expected):
    found, expected = map(jax.tree.flatten, (found, expected))
    assert found[1] == expected[1]
    for a, b in zip(found[0], expected[0], strict=True):
        assert jnp.asarray(a).dtype == jnp.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
@pytest.mark.parametrize("fun", FUNCTIONS)
def test_as_in_jax(fun, wrap):
    for x in (0.7, 2.3, -0.4):
        run = lambda t, x=x: t.vjp(wrap(fun), x)[1].with_logs(0.5)  # noqa: E731
        same(run(bm), run(jax))
        # Nothing else changes.
        same(bm.vjp(wrap(fun), x)[1](0.5), run(jax)[0])
        same(bm.grad(wrap(fun))(x), jax.grad(wrap(fun))(x))


@pytest.mark.parametrize("fun", FUNCTIONS)
def test_under_other_transforms(fun):
    def logs(t):
        return lambda x, ct: t.vjp(fun, x)[1].with_logs(ct)

    for wrap in (jax.jit, bm.jit):
        same(wrap(logs(bm))(0.7, 0.5), logs(jax)(0.7, 0.5))
    cts = np.float32([1.0, 2.0, 3.0])
    for vmap in (jax.vmap, bm.vmap):
        same(vmap(logs(bm))(X, cts), jax.vmap(logs(jax))(X, cts))
    # What is logged has a derivative.
    total = lambda t: lambda x: sum(map(jnp.sum, jax.tree.leaves(logs(t)(x, x)[1])))  # noqa: E731
    for grad in (bm.grad, jax.grad):
        # The one logs integers, of the other JAX says that keys occur twice.
        if fun not in (in_branches, in_calls):
            same(grad(total(bm))(0.7), jax.grad(total(jax))(0.7))


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "int32", "uint32", "bfloat16"])
def test_dtypes(dtype):
    values = np.array([0, 1, 100, -7, 65535, 65536, -(2**31), 2**31 - 1]).astype(jnp.dtype(dtype))
    fun = logging("values", logs=lambda x, ct: {"all": values + jnp.zeros_like(values), "one": 1})
    stacked = lambda x: lax.scan(lambda c, _: (fun(c), None), x, None, length=2)[0]  # noqa: E731
    for f in (fun, stacked, jax.jit(fun)):
        run = lambda t, f=f: t.vjp(f, 0.7)[1].with_logs(1.0)[1]["values"]["all"]  # noqa: E731
        assert run(bm).dtype == values.dtype
        np.testing.assert_array_equal(run(bm), run(jax))


def test_with_references():
    gradient = jax.new_ref(0.0)
    given = gradient, jax.ad.DontWant()
    vjp_fn = bm.vjp(lambda x, y: one(x) * y, 0.7, 2.0)[1]
    (of_x, of_y), logs = vjp_fn.with_logs.with_refs(*given)(1.0)
    assert (type(of_x), type(of_y)) == (jax.ad.GradRef, jax.ad.DidntWant)
    same((gradient[...], logs), (np.float32(3 * 2.0 * 0.7), {"one": {"x": 0.7, "ct": 2.0}}))


def test_it_is_a_pytree():
    leaves, tree = jax.tree.flatten(bm.vjp(straight, 0.7)[1].with_logs)
    same(jax.tree.unflatten(tree, leaves)(0.5), jax.vjp(straight, 0.7)[1].with_logs(0.5))
    assert bm.vjp(bm.sin, 0.7)[1].with_logs(1.0)[1] == {}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, bm.jit])
def test_what_nothing_perturbs_until_the_next_derivative(wrap):
    def slope(t):
        def fun(y):
            cts, logs = t.vjp(lambda x: one(x * x) * two(y) * x, 0.7)[1].with_logs(1.0)
            return cts[0] * logs["one"]["ct"]

        return fun

    expected = jax.grad(slope(jax))(0.3)
    for grad in (bm.grad, jax.grad):
        same(grad(wrap(slope(bm)))(0.3), expected)


def test_keys_are_unique():
    called = jax.jit(lambda x: one(x) * x * x * x)
    for fun in (lambda x: one(one(x)), lambda x: called(called(x))):
        for transforms in (bm, jax):
            with pytest.raises(ValueError, match="unique within a"):
                transforms.vjp(fun, 0.7)[1].with_logs(1.0)
        # It matters to who asks.
        same(bm.vjp(fun, 0.7)[1](1.0), (bm.grad(fun)(0.7),))


def test_what_cannot_be_logged():
    for value in (jax.random.key(0), "text", 10**20, np.int64(2**40)):
        fun = logging("value", logs=lambda x, ct, value=value: value)
        vjp_fn = bm.vjp(lambda x, fun=fun: fun(x) * x, 0.7)[1]
        same(vjp_fn(1.0), (jax.grad(lambda x, fun=fun: fun(x) * x)(0.7),))
        with pytest.raises(ValueError, match="logs what cannot be logged"):
            vjp_fn.with_logs(1.0)
