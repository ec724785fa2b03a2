"""Draws are differentiable in their parameters: the derivatives of JAX, with the same key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, random

import bmgrad.math as bm

KEY = random.key(3)
A, B = jnp.array([0.4, 1.0, 3.5]), jnp.array([2.0, 0.7, 1.3])

DRAWS = {
    "cauchy": lambda k, a, b: a * random.cauchy(k, (3,)),
    "beta": lambda k, a, b: random.beta(k, a[0], b[0]),
    "dirichlet": lambda k, a, b: random.dirichlet(k, a) * b,
    "exponential": lambda k, a, b: random.exponential(k, (3,)) * a,
    "gamma": lambda k, a, b: random.gamma(k, a) * b,
    "gumbel": lambda k, a, b: a + b * random.gumbel(k, (3,)),
    "loggamma": lambda k, a, b: random.loggamma(k, a) * b,
    "lognormal": lambda k, a, b: random.lognormal(k, a, (3,)),
    "normal": lambda k, a, b: a + b * random.normal(k, (3,)),
    "pareto": lambda k, a, b: random.pareto(k, a),
    "t": lambda k, a, b: random.t(k, a),
    "truncated_normal": lambda k, a, b: random.truncated_normal(k, -a, b),
    "uniform": lambda k, a, b: random.uniform(k, (3,), minval=-a, maxval=b),
    # Counts and choices have no derivative, but what they scale has.
    "bernoulli": lambda k, a, b: random.bernoulli(k, a / 4) * b,
    "categorical": lambda k, a, b: a[random.categorical(k, b)],
    "choice": lambda k, a, b: random.choice(k, a, (4,), p=b / b.sum()),
    "permutation": lambda k, a, b: random.permutation(k, a) * b,
    "poisson": lambda k, a, b: random.poisson(k, a) * b,
    "randint": lambda k, a, b: random.randint(k, (3,), 0, 9) * a,
    "shuffled bits": lambda k, a, b: (random.bits(k, (3,)) % 7).astype(np.float32) * a,
    "rng_bit_generator": lambda k, a, b: (
        lax.rng_bit_generator(random.key_data(random.key(0)).repeat(2), (3,))[1] % 5 * a
    ),
}


def close(got, want):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", DRAWS)
def test_first_derivative(name):
    def value_and_grad(lib, key, a, b):
        loss = lambda a, b: jnp.sum(jnp.sin(DRAWS[name](key, a, b)))  # noqa: E731
        grads = lib.grad(loss, argnums=(0, 1))(a, b)
        return DRAWS[name](key, a, b), grads

    got, want = (jax.jit(lambda *x, lib=lib: value_and_grad(lib, *x)) for lib in (bm, jax))
    close(got(KEY, A, B), want(KEY, A, B))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("draw", [random.gamma, random.loggamma], ids=lambda f: f.__name__)
def test_narrow_floats(draw, dtype):
    def value_and_grad(lib, a):
        loss = lambda a: jnp.sum(draw(KEY, a, (3,), dtype).astype("float32"))  # noqa: E731
        return loss(a), lib.grad(loss)(a).astype("float32")

    a = A.astype(dtype)
    got, want = (jax.jit(lambda a, lib=lib: value_and_grad(lib, a))(a) for lib in (bm, jax))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=2e-2)


def test_batches_and_forward_mode():
    def grads(lib, keys, a):
        loss = lambda a, k: jnp.sum(jnp.sin(random.loggamma(k, a)))  # noqa: E731
        over_both = lib.vmap(lib.grad(loss), (0, 0))(jnp.stack([a, 2 * a]), keys)
        return over_both, lib.jvp(lambda a: loss(a, keys[0]), (a,), (a,))

    keys = random.split(KEY, 2)
    got, want = (jax.jit(lambda *x, lib=lib: grads(lib, *x)) for lib in (bm, jax))
    close(got(keys, A), want(keys, A))


@pytest.mark.parametrize("draw", [random.gamma, random.loggamma])
def test_second_derivative_is_forward_mode(draw):
    """The first one comes from loops of unknown length."""

    def gradient(lib, a):
        return lib.grad(lambda a: jnp.sum(jnp.sin(draw(KEY, a))))(a)

    def hessian(lib):
        return jax.jit(lib.jacfwd(lambda a: gradient(lib, a)))(A)

    close(hessian(bm), hessian(jax))
    with pytest.raises(NotImplementedError, match="while loop"):
        bm.grad(lambda a: jnp.sum(gradient(bm, a)))(A)


@pytest.mark.parametrize("around", [False, True])
def test_bits_are_those_of_the_setting_at_the_draw(around):
    def loss(x):
        draws = []
        for setting in (False, True, False):
            with jax.threefry_partitionable(setting):
                draws.append(random.normal(KEY, (3,)))
                draws.append(jax.vmap(random.uniform)(random.split(KEY, 3)))
        return sum((k * x * draw).sum() for k, draw in enumerate(draws))

    gradient = bm.grad(loss)
    want = jax.grad(loss)(A)
    close(gradient(A), want)
    with jax.threefry_partitionable(around):
        close(gradient(A), want)


def test_keys_are_values():
    """In loops and branches, split and folded; old keys, which are arrays, as well."""

    def walk(key, x):
        def step(state, i):
            key, x = state
            key, draw = random.split(key)
            draw = random.fold_in(draw, i)
            x = lax.cond(
                random.bernoulli(draw),
                lambda x, k: x * random.normal(k),
                lambda x, k: x + random.uniform(k) * x * x,
                x,
                draw,
            )
            return (key, x), random.key_data(random.clone(draw)).sum() % 3 * x

        (key, x), xs = lax.scan(step, (key, x), jnp.arange(4))
        again = lambda s: (random.split(s[0])[0], s[1] * random.uniform(s[0]))  # noqa: E731
        _, y = lax.fori_loop(0, 2, lambda _, s: again(s), (key, x))
        return y + jnp.sum(xs)

    def grads(lib, keys, *others):
        grad = lambda key: lib.grad(lambda x: walk(key, x))(0.5)  # noqa: E731
        return [lib.vmap(grad)(keys), *map(grad, others)]

    others = random.PRNGKey(3), random.key(1, impl="rbg")
    got, want = (jax.jit(lambda *x, lib=lib: grads(lib, *x)) for lib in (bm, jax))
    close(got(random.split(KEY, 3), *others), want(random.split(KEY, 3), *others))
