"""Backward rules that ask for the values of cotangents: in NumPy, or with an `if` of one."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm


@jax.custom_vjp
def clipped(x):
    """Its gradient has a norm of at most 1."""
    return x


def _clip(_, g):
    norm = jnp.linalg.norm(g)
    return (g / norm if norm > 1 else g,)


clipped.defvjp(lambda x: (x, None), _clip)


@jax.custom_vjp
def doubled_in_numpy(x):
    return jnp.asarray(2 * np.asarray(x))


doubled_in_numpy.defvjp(
    lambda x: (doubled_in_numpy(x), x),
    lambda x, g: (np.asarray(g) * (1 + np.ones_like(np.asarray(x))),),
)


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_a_rule_with_an_if(scale):
    x = jnp.arange(3.0)

    def fun(x):
        return jnp.sum(scale * clipped(jnp.sin(3 * clipped(x))) ** 2)

    for ours, theirs in [(bm.grad, jax.grad), (bm.value_and_grad, jax.value_and_grad)]:
        np.testing.assert_allclose(
            np.hstack(jax.tree.leaves(ours(fun)(x))), np.hstack(jax.tree.leaves(theirs(fun)(x)))
        )


def test_a_rule_in_numpy():
    def fun(x):
        return jnp.sum(doubled_in_numpy(x) ** 2)

    x = jnp.arange(3.0)
    np.testing.assert_array_equal(bm.grad(fun)(x), 8 * x)
    np.testing.assert_array_equal(bm.jacrev(doubled_in_numpy)(x), 2 * np.eye(3))


def test_cotangents_that_come_later():
    """`vjp` runs the rule for each cotangent that its function gets."""
    _, vjp_fn = bm.vjp(clipped, jnp.ones(2))
    np.testing.assert_allclose(vjp_fn(jnp.array([0.3, 0.4]))[0], [0.3, 0.4])
    np.testing.assert_allclose(vjp_fn(jnp.array([3.0, 4.0]))[0], [0.6, 0.8])


def test_other_values_are_not_compiled_again(caplog):
    def compiled(x):
        caplog.clear()
        with jax.log_compiles():
            gradient = grad(jnp.array(x))
        return gradient, "lambda.vjp) in" in caplog.text

    grad = bm.grad(lambda x: jnp.sum(clipped(x) ** 2))
    gradient, is_new = compiled([0.15, 0.2])
    np.testing.assert_allclose(gradient, [0.3, 0.4])
    assert is_new
    gradient, is_new = compiled([1.5, 2.0])
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    assert not is_new


def test_residuals_stay_what_they_are():
    @jax.custom_vjp
    def scaled(x, count, scale):
        return x * scale

    def fwd(x, count, scale):
        return x * scale, (x, {"count": count, "scale": scale, "power": 3})

    def bwd(residuals, g):
        x, others = residuals
        assert isinstance(others["power"], int)
        g = np.asarray(g)
        return g * float(others["scale"]), None, float(np.sum(np.asarray(x) * g))

    scaled.defvjp(fwd, bwd)

    def fun(x, scale):
        return jnp.sum(jnp.cos(scaled(x, 2, scale)))

    x = jnp.arange(3.0)
    ours, theirs = (t.grad(fun, argnums=(0, 1))(x, 2.0) for t in (bm, jax))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), ours, theirs)


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_keys_among_the_residuals(make):
    @jax.custom_vjp
    def noisy(x, key):
        return x + jax.random.normal(key, x.shape)

    def bwd(key, g):
        return (g if g.sum() > 1 else -g) * jax.random.normal(key, g.shape), None

    noisy.defvjp(lambda x, key: (noisy(x, key), key), bwd)
    x, key = jnp.arange(3.0), make(0)
    ours, theirs = (t.grad(lambda x: jnp.sum(noisy(x, key) ** 2))(x) for t in (bm, jax))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_static_arguments_are_not_mixed_up():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def scaled(x, scale):
        return x * scale

    scaled.defvjp(lambda x, scale: (x * scale, None), lambda scale, _, g: (np.asarray(g) * scale,))
    for scale in (2.0, 3.0):
        assert bm.grad(lambda x, scale=scale: scaled(x, scale))(1.0) == scale


def test_numbers_among_the_residuals_are_not_mixed_up():
    scales = []

    @jax.custom_vjp
    def scaled(x):
        return x * scales[-1]

    scaled.defvjp(lambda x: (scaled(x), scales[-1]), lambda scale, g: (scale * np.asarray(g),))
    for scale in (2.0, 3.0):
        scales.append(scale)
        # Another function: what is no variable is read once by each.
        assert bm.grad(lambda x, scale=scale: scaled(x))(1.0) == scale


def test_results_are_not_mixed_up():
    @jax.custom_vjp
    def twice_and_thrice(x):
        return 2 * x, 3 * x

    def bwd(_, cts):
        twice, thrice = map(np.asarray, cts)
        return (2 * twice + 3 * thrice,)

    twice_and_thrice.defvjp(lambda x: (twice_and_thrice(x), None), bwd)
    for i, want in enumerate((2, 3)):
        assert bm.grad(lambda x, i=i: twice_and_thrice(x)[i])(1.0) == want
    assert bm.grad(lambda x: sum(twice_and_thrice(x)))(1.0) == 5


def test_a_batch_of_it_is_another_rule():
    rows = jnp.array([[3.0, 4.0], [6.0, 8.0]])
    together = bm.grad(lambda x: jnp.sum(clipped(x) * rows))(jnp.ones((2, 2)))
    np.testing.assert_allclose(jnp.linalg.norm(together), 1, rtol=1e-6)
    with pytest.raises(jax.errors.TracerBoolConversionError):
        bm.grad(lambda x: jnp.sum(jax.vmap(clipped)(x) * rows))(jnp.ones((2, 2)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "complex64"])
def test_cotangents_have_the_dtype_of_the_argument(dtype):
    with jax.enable_x64(True):
        x = jnp.ones(2, dtype)
        gradient = bm.grad(lambda x: jnp.sum(clipped(x) * 3).real)(x)
        assert gradient.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(gradient, np.complex64), [2**-0.5] * 2, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_double_precision_in_a_thread_of_xla(dtype):
    """Which knows nothing of the context here, and in which JAX narrows what it calls back with."""

    @jax.custom_vjp
    def halved(x):
        return x

    halved.defvjp(lambda x: (x, x), lambda x, g: (np.asarray(g) / 2 + 0 * np.asarray(x),))
    with jax.enable_x64(True):
        x = jnp.linspace(0, 1, 1_000_000).astype(dtype)

        def fun(x):
            # Enough work for XLA to start a thread.
            return jnp.sum((halved(jnp.cos(x @ x) * x) ** 2).real)

        ours, theirs = (t.grad(fun)(x) for t in (bm, jax))
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_wider_cotangents_are_converted():
    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (2 * np.asarray(g, np.float64),))
    with jax.enable_x64(True):
        gradient = bm.grad(lambda x: jnp.sum(same(x)))(jnp.ones(2, np.float32))
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, [2, 2])


class TooLarge(Exception):
    pass


def test_what_the_rule_raises_is_raised():
    @jax.custom_vjp
    def limited(x):
        return x

    def bwd(_, g):
        if g > 3:
            raise TooLarge(f"{g} is too large")
        return (g,)

    limited.defvjp(lambda x: (x, None), bwd)
    grad = bm.grad(lambda x: limited(x) ** 2)
    assert grad(1.0) == 2
    with pytest.raises(TooLarge, match="is too large"):
        grad(2.0)
    assert grad(1.5) == 3


def test_a_cotangent_of_another_shape_is_refused():
    @jax.custom_vjp
    def same(x):
        return x

    same.defvjp(lambda x: (x, None), lambda _, g: (np.zeros(3) + float(g[0]),))
    with pytest.raises(ValueError, match="so the shapes do not match"):
        bm.grad(lambda x: jnp.sum(same(x)))(jnp.ones(2))


def test_refused_under_jit():
    grad = bm.grad(lambda x: jnp.sum(clipped(x) ** 3))
    for jit in (jax.jit, bm.jit):
        with pytest.raises(jax.errors.TracerBoolConversionError):
            jit(grad)(jnp.arange(3.0))


def test_what_the_first_call_was_given_is_not_kept():
    """Though the rule is, for the programs that are equal to the first."""

    def call(k):
        w = jnp.arange(3.0) + k
        bm.grad(lambda x: jnp.sum(clipped(x * w) ** 2))(jnp.ones(3))
        return weakref.ref(w)

    kept = [call(k) for k in range(3)]
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3


# -- Second derivatives ----------------------------------------------------------------------------


@jax.custom_vjp
def product(x, y, count):
    return count * x * y


def _bwd(residuals, g):
    x, y, count = residuals
    norm = jnp.linalg.norm(g)
    return (y**2 * g / norm, count * jnp.sin(x) * g, None) if norm > 1 else (g * y, x * g**2, None)


product.defvjp(lambda x, y, count: (count * x * y, (x, y, count)), _bwd)


def _of_product(scale):
    return lambda x, y: jnp.sum(jnp.sin(product(x, y**2, 2)) * scale)


def _twice(t, fun):
    return lambda x, y: sum(jnp.sum(jnp.cos(g)) for g in t.grad(fun, argnums=(0, 1))(x, y))


@pytest.mark.parametrize("scale", [0.3, 2.0])
@pytest.mark.parametrize(
    "derivative",
    [
        lambda t, fun, *point: t.grad(_twice(t, fun), argnums=(0, 1))(*point),
        lambda t, fun, *point: t.grad(_twice(t, _twice(t, fun)))(*point),
        lambda t, fun, *point: t.jvp(t.grad(fun, argnums=(0, 1)), point, point[::-1]),
        lambda t, fun, *point: t.linearize(t.grad(fun), *point)[1](*point),
        lambda t, fun, *point: t.jacrev(t.grad(fun), argnums=1)(*point),
        lambda t, fun, *point: t.jacfwd(t.grad(fun))(*point),
    ],
    ids=["reverse", "third", "forward", "linearize", "jacrev", "jacfwd"],
)
def test_derivatives_of_the_rule(derivative, scale):
    with jax.enable_x64(True):
        point = jnp.array([0.4, 1.3, -0.7]), jnp.array([1.1, 0.6, 0.9])
        ours, theirs = (derivative(t, _of_product(scale), *point) for t in (bm, jax))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), ours, theirs)


def test_forward_and_reverse_are_not_mixed_up():
    @jax.custom_vjp
    def skewed(x):
        return x

    skewed.defvjp(
        lambda x: (x, None),
        lambda _, g: (jnp.cumsum(g) * g if g.sum() > 0 else g,),
    )
    x = jnp.array([0.3, 1.2, 0.5])

    def grad(t):
        return t.grad(lambda x: jnp.sum(skewed(x) ** 2))

    forward, reverse = (jacobian(grad(bm))(x) for jacobian in (bm.jacfwd, bm.jacrev))
    np.testing.assert_allclose(forward, reverse, rtol=1e-6)
    np.testing.assert_allclose(reverse, jax.jacrev(grad(jax))(x), rtol=1e-6)


def test_derivatives_of_the_rule_in_a_batch():
    """Each element decides for itself, as JAX has it without a batch only."""
    points = jnp.array([[0.1, 0.2], [1.5, 2.0]])

    def second(t, x):
        return t.grad(_twice(t, _of_product(1.0)))(x, jnp.ones(2))

    ours = bm.vmap(lambda x: second(bm, x))(points)
    np.testing.assert_allclose(ours, [second(jax, x) for x in points], rtol=1e-4)


def test_a_rule_in_numpy_has_none():
    x = jnp.arange(3.0)
    for t in (jax, bm):
        grad = t.grad(lambda x: jnp.sum(doubled_in_numpy(jnp.sin(x))))
        with pytest.raises(jax.errors.TracerArrayConversionError):
            t.grad(lambda x, grad=grad: jnp.sum(grad(x)))(x)
