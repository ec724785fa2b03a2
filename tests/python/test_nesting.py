"""Transforms in each other, ours and JAX's, in every order; loops and custom rules inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm

X = jnp.array([0.3, -0.7, 1.1])


def f(x):
    return (jnp.sin(x) * x**2).sum()


def close(got, expected, rtol=1e-4):
    got, expected = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert jnp.shape(ours) == jnp.shape(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-5)


def sum_of(transform):
    return lambda fun: transform(lambda x: fun(x).sum())


OURS = {
    "grad": sum_of(bm.grad),
    "vector_grad": bm.vector_grad,
    "jit": bm.jit,
    "vmap": bm.vmap,
    "jvp": lambda fun: lambda x: bm.jvp(fun, (x,), (jnp.ones_like(x),))[1],
    "vjp": lambda fun: lambda x: (lambda y, back: back(y)[0])(*bm.vjp(fun, x)),
    "linearize": lambda fun: lambda x: bm.linearize(fun, x)[1](x),
    "jacfwd": lambda fun: lambda x: bm.jacfwd(fun)(x).sum(0) if x.ndim else bm.jacfwd(fun)(x),
    "jacrev": lambda fun: lambda x: bm.jacrev(fun)(x).sum(0) if x.ndim else bm.jacrev(fun)(x),
}
JAXS = {
    "grad": sum_of(jax.grad),
    "vector_grad": sum_of(jax.grad),
    "jit": jax.jit,
    "vmap": jax.vmap,
    "jvp": lambda fun: lambda x: jax.jvp(fun, (x,), (jnp.ones_like(x),))[1],
    "vjp": lambda fun: lambda x: (lambda y, back: back(y)[0])(*jax.vjp(fun, x)),
    "linearize": lambda fun: lambda x: jax.linearize(fun, x)[1](x),
    "jacfwd": lambda fun: lambda x: jax.jacfwd(fun)(x).sum(0) if x.ndim else jax.jacfwd(fun)(x),
    "jacrev": lambda fun: lambda x: jax.jacrev(fun)(x).sum(0) if x.ndim else jax.jacrev(fun)(x),
}


def elementwise(x):
    return jnp.sin(x) * jnp.exp(0.3 * x)


def compose(table, names):
    fun = elementwise
    for name in reversed(names):
        fun = table[name](fun)
    return fun


PAIRED = ["grad", "jit", "vmap", "jvp", "vjp", "jacfwd"]
PAIRS = [(a, b) for a in PAIRED for b in PAIRED if (a, b) != ("vmap", "vmap")]


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_two_of_ours(names):
    close(compose(OURS, names)(X), compose(JAXS, names)(X))


@pytest.mark.parametrize(
    "names",
    [
        ("grad", "vmap", "grad"),
        ("vmap", "grad", "jvp"),
        ("jit", "grad", "vector_grad"),
        ("vector_grad", "jacrev", "vmap"),
        ("linearize", "jacrev", "linearize"),
        ("jvp", "vjp", "linearize"),
        ("jacfwd", "jacrev", "grad"),
        ("grad", "grad", "grad"),
        ("jvp", "jvp", "jvp"),
    ],
    ids="-".join,
)
def test_three_of_ours(names):
    close(compose(OURS, names)(X), compose(JAXS, names)(X), rtol=1e-3)


@pytest.mark.parametrize("outer", JAXS)
@pytest.mark.parametrize("inner", ["vector_grad", "jvp", "vjp", "jit"])
def test_of_jax_around_ours(outer, inner):
    close(JAXS[outer](OURS[inner](elementwise))(X), JAXS[outer](JAXS[inner](elementwise))(X))


@pytest.mark.parametrize("inner", JAXS)
def test_ours_around_those_of_jax(inner):
    close(OURS["grad"](JAXS[inner](elementwise))(X), JAXS["grad"](JAXS[inner](elementwise))(X))


def test_hessians_in_four_ways():
    expected = jax.hessian(f)(X)
    close(bm.hessian(f)(X), expected)
    close(bm.jacfwd(bm.grad(f))(X), expected)
    close(bm.jacrev(bm.grad(f))(X), expected)
    close(bm.jacrev(bm.jacfwd(f))(X), expected)
    close(jax.hessian(bm.jit(f))(X), expected)
    close(jax.jacfwd(bm.grad(f))(X), expected)
    close(jax.jit(jax.vmap(bm.hessian(f)))(jnp.stack([X, X])), jnp.stack([expected] * 2))


def test_jax_transforms_with_keywords_of_theirs():
    g = bm.grad(lambda x, y: (x * y**2).sum(), argnums=(0, 1))
    xs, ys = jnp.ones((4, 3)), jnp.arange(3.0)
    close(
        jax.vmap(g, in_axes=(0, None))(xs, ys),
        jax.vmap(lambda x, y: (y**2, 2 * x * y), (0, None))(xs, ys),
    )
    close(jax.jit(g, static_argnums=())(X, X), (X**2, 2 * X**2))
    out, tangent = jax.jvp(lambda x: g(x, X)[1], (X,), (X,))
    close((out, tangent), (2 * X**2, 2 * X**2))
    close(jax.lax.map(lambda x: g(x, x)[0], xs), xs**2)


# -- Gradients inside loops ----------------------------------------------------------------------


def exponential_euler(derivative, transform, w, x0, n=5, dt=0.1):
    """Integrates dx/dt = -w * x**2 + c, with `transform` at each step; `l` may be zero."""

    def equation(x):
        return derivative(w, x)

    def step(x, _):
        slope, value = transform(equation)(x)
        z = dt * slope
        phi = jnp.where(slope == 0, 1.0, jnp.expm1(z) / jnp.where(slope == 0, 1.0, z))
        return x + dt * phi * value, None

    return jax.lax.scan(step, x0, None, length=n)[0].sum()


def ours(equation):
    return bm.vector_grad(equation, argnums=0, return_value=True)


def theirs(equation):
    return lambda x: (jax.grad(lambda x: equation(x).sum())(x), equation(x))


def quadratic(w, x):
    return -w * x**2 + 0.5


@pytest.mark.parametrize("start", [jnp.array([0.4, 1.0]), jnp.array([0.0, 1.0]), jnp.zeros(2)])
def test_exponential_euler(start):
    # At x == 0 the slope -2 * w * x is zero: the classic trap for 0 / 0 in a derivative.
    def loss(transform):
        return lambda w, x0: exponential_euler(quadratic, transform, w, x0)

    got = bm.grad(loss(ours), argnums=(0, 1))(0.7, start)
    assert all(np.isfinite(np.asarray(g)).all() for g in got)
    close(got, jax.grad(loss(theirs), argnums=(0, 1))(0.7, start))
    second = bm.grad(bm.grad(loss(ours)))(0.7, start)
    assert np.isfinite(second)
    close(second, jax.grad(jax.grad(loss(theirs)))(0.7, start), rtol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_the_where_trap_as_written_in_models(order):
    """`where(l == 0, 1, (exp(dt*l) - 1)/(dt*l))`, guarded as users guard it: finite at zero."""

    def phi(slope, dt=0.1):
        safe = jnp.where(slope == 0, 1.0, slope)
        return jnp.where(slope == 0, 1.0, (jnp.exp(dt * safe) - 1) / (dt * safe))

    derivative, oracle = phi, phi
    for _ in range(order):
        derivative, oracle = bm.grad(derivative), jax.grad(oracle)
    for at in (0.0, 0.5, -2.0):
        assert np.isfinite(derivative(at))
        np.testing.assert_allclose(derivative(at), oracle(at), rtol=1e-3, atol=1e-5)


def test_variables_at_three_levels():
    class Model(bp.Base):
        def __init__(self):
            super().__init__()
            self.w = bm.TrainVar(0.7)
            self.calls = bm.Variable(bm.zeros(()))

        def equation(self, x):
            return jnp.sin(self.w.value * x)

        def energy(self, x):
            self.calls += 1
            slope = bm.vector_grad(self.equation)(x)
            return (slope**2).sum()

    m = Model()

    def oracle(w):
        return ((w * jnp.cos(w * X)) ** 2).sum()

    outer = bm.grad(lambda: bm.grad(m.energy, grad_vars=m.w)(X), grad_vars=m.w)
    close(outer(), jax.grad(jax.grad(oracle))(0.7), rtol=1e-3)
    assert float(m.calls) == 1
    m.w.value = 0.2
    close(outer(), jax.grad(jax.grad(oracle))(0.2), rtol=1e-3)
    assert outer.cache_info().misses == 1


# -- JAX's control flow and wrappers inside ------------------------------------------------------

INNER = {
    "jit": lambda x: jax.jit(elementwise)(x),
    "vmap": lambda x: jax.vmap(lambda a: a * x)(x),
    "grad": lambda x: jax.grad(f)(x),
    "jvp": lambda x: jax.jvp(f, (x,), (x,))[1],
    "hessian": lambda x: jax.hessian(f)(x),
    "checkpoint": lambda x: jax.checkpoint(elementwise)(x),
    "checkpoint policy": lambda x: jax.checkpoint(
        lambda y: jnp.sin(jnp.sin(y)), policy=jax.checkpoint_policies.nothing_saveable
    )(x),
    "scan": lambda x: jax.lax.scan(lambda c, a: (jnp.sin(c) * a, c), x[0], x),
    "scan of scan": lambda x: jax.lax.scan(
        lambda c, _: (jax.lax.scan(lambda d, a: (d * a + 0.1, d), c, x)[0], c), 0.5, None, 3
    ),
    "scan reverse": lambda x: jax.lax.scan(lambda c, a: (c * a + a, c), 1.0, x, reverse=True),
    "map": lambda x: jax.lax.map(jnp.cos, x),
    "cond": lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
    "cond not taken": lambda x: jax.lax.cond(x[1] > 0, jnp.sin, jnp.cos, x),
    "switch": lambda x: jax.lax.switch(2, [jnp.sin, jnp.cos, jnp.exp], x),
    "switch traced": lambda x: jax.lax.switch(
        (x > 0).sum(), [jnp.sin, jnp.cos, jnp.exp, jnp.tanh], x
    ),
    "fori_loop": lambda x: jax.lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + i * x, x),
    "stop_gradient": lambda x: jax.lax.stop_gradient(x) * x,
    "relu": lambda x: jax.nn.relu(x),
    "softplus": lambda x: jax.nn.softplus(x),
    "logsumexp": lambda x: jax.nn.logsumexp(x),
    "associative_scan": lambda x: jax.lax.associative_scan(jnp.multiply, x),
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("order", [1, 2])
def test_gradient_of(name, order):
    def total(x):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(INNER[name](x)))

    if order == 1:
        close(bm.grad(total)(X), jax.grad(total)(X))
    else:
        close(bm.hessian(total)(X), jax.hessian(total)(X), rtol=1e-3)


@pytest.mark.parametrize("name", ["scan", "cond", "switch traced", "fori_loop", "relu"])
def test_batched_gradient_of(name):
    def total(x):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(INNER[name](x)))

    xs = jnp.stack([X, -X, X + 1])
    expected = jax.vmap(jax.grad(total))(xs)
    close(jax.vmap(bm.grad(total))(xs), expected)
    close(bm.vmap(bm.grad(total))(xs), expected)
    close(bm.grad(lambda xs: bm.vmap(total)(xs).sum())(xs), expected)


def test_while_loop_forward():
    def g(x):
        return jax.lax.while_loop(lambda c: c[0] < 50, lambda c: (c[0] * 2, c[1] * x), (x, x))[1]

    close(bm.jacfwd(g)(1.7), jax.jacfwd(g)(1.7))
    close(bm.jvp(g, (1.7,), (1.0,)), jax.jvp(g, (1.7,), (1.0,)))
    close(bm.jacfwd(bm.jacfwd(g))(1.7), jax.jacfwd(jax.jacfwd(g))(1.7))
    xs = jnp.array([1.5, 2.0, 9.0])
    close(jax.vmap(bm.jacfwd(g))(xs), jax.vmap(jax.jacfwd(g))(xs))


def test_jax_transposes_programs_that_are_linear():
    x, matrix = jnp.arange(1.0, 4.0), 3 * jnp.eye(3) + 0.1

    def looped(x):
        return jax.lax.scan(lambda c, a: (c * a, c + x), x, matrix[0])[1].sum(0)

    def masked(x):
        return jnp.where(matrix[0] > 1, x, jnp.sin(matrix) @ x)

    for fun in (looped, masked):
        got, want = (jax.linear_transpose(f, x)(x) for f in (bm.jit(fun), fun))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    in_one = jax.linear_transpose(lambda y: bm.jit(lambda x, y: jnp.exp(x) * y)(x, y), x)
    np.testing.assert_allclose(in_one(x)[0], jnp.exp(x) * x, rtol=1e-6)
    rows = jax.linear_transpose(bm.vmap(lambda row: row @ x), matrix)(x)
    np.testing.assert_allclose(rows[0], jnp.outer(x, x))


def test_transposes_are_of_what_functions_compute():
    """Not of their derivatives, which rules give or which are zero."""
    x = jnp.arange(1.0, 4.0)
    doubled = jax.custom_jvp(lambda x: 2 * x)
    doubled.defjvp(lambda primals, tangents: (doubled(*primals), 7 * tangents[0]))
    by_integers = lambda x: x.astype(int).astype(x.dtype) + x  # noqa: E731
    for fun in (doubled, by_integers):
        got, want = (jax.linear_transpose(f, x)(x) for f in (bm.jit(fun), fun))
        np.testing.assert_allclose(got[0], want[0])


def test_jax_solves_with_a_program():
    def solved(product):
        return lambda b: jax.scipy.sparse.linalg.cg(product, b)[0].sum()

    matrix = 3 * jnp.eye(3) + 0.1
    gradients = [jax.grad(solved(f))(jnp.ones(3)) for f in (bm.jit(matrix.dot), matrix.dot)]
    np.testing.assert_allclose(*gradients, rtol=1e-5)


_sine = jax.custom_jvp(jnp.sin)
_sine.defjvp(lambda primals, tangents: (_sine(*primals), 7 * tangents[0]))


@pytest.mark.parametrize(
    "fun",
    [
        jnp.sin,
        lambda x: x * x,
        lambda x: x @ x,
        lambda x: x / x[0],
        jnp.sign,
        lambda x: 2 * jax.lax.stop_gradient(x),
        _sine,
    ],
)
def test_programs_that_are_not_linear_have_no_transpose(fun):
    x = jnp.arange(1.0, 4.0)
    with pytest.raises(TypeError, match="transposed in x, in which it is not linear"):
        jax.linear_transpose(bm.jit(fun), x)(fun(x))
