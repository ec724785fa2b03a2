"""Functions with rules of their own under `jax.vmap`: where results and tangents have the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import bmgrad.math as bm

CUBE = jnp.sin(jnp.arange(27.0).reshape(3, 3, 3))
WEIGHTS = jnp.cos(jnp.arange(27.0).reshape(3, 3, 3))
X = jnp.array([0.3, 0.7, 1.1, -0.4])


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), got, want)


def straight(x):
    return jnp.sin(x)


def by_another_way(x):
    """The same; its batch comes first, wherever that of `x` is."""
    return jnp.sin(x.T).T


def with_jvp(primal, of_rule):
    fun = jax.custom_jvp(primal)
    fun.defjvp(lambda x, t: (of_rule(*x), by_another_way(x[0] + np.pi / 2) * t[0] * 2))
    return fun


def with_vjp(primal, of_rule):
    fun = jax.custom_vjp(primal)
    fun.defvjp(lambda x: (of_rule(x), x), lambda x, ct: ((2 * ct.T * jnp.cos(x.T)).T,))
    return fun


INSIDE = {
    "alone": lambda f: f,
    "jit": jax.jit,
    "bm.jit": bm.jit,
    "loop": lambda f: lambda x: lax.fori_loop(0, 1, lambda _, x: f(x), x),
    "branch": lambda f: lambda x: lax.cond(x.sum() > -100, f, lambda x: x, x),
    "checkpoint": jax.checkpoint,
}


@pytest.mark.parametrize("of_function", [straight, by_another_way])
@pytest.mark.parametrize("with_rule", [with_jvp, with_vjp])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("inside", INSIDE)
def test_rules_have_the_batch_where_their_functions_have_it(inside, axis, with_rule, of_function):
    """By JAX they have not in a jaxpr, so the oracle has no batch."""
    of_rule = by_another_way if of_function is straight else straight
    fun, place = with_rule(of_function, of_rule), INSIDE[inside]
    one_by_one = lambda x: jnp.stack(  # noqa: E731
        [fun(x_i[0]) for x_i in jnp.moveaxis(x, axis, 0)[:, None]], axis
    )

    def grads(batch, grad, jvp):
        of_loss = grad(lambda x: jnp.sum(batch(x) ** 2 * WEIGHTS))
        return of_loss(CUBE), jvp(of_loss, (CUBE,), (WEIGHTS,))[1]

    want = grads(one_by_one, jax.grad, jax.jvp)
    close(grads(place(jax.vmap(fun, axis, axis)), bm.grad, bm.jvp), want)
    close(grads(jax.vmap(place(fun), axis, axis), bm.grad, bm.jvp), want)


asked = []


@jax.custom_jvp
def flat(x, y):
    """What all elements of a batch share, though its derivative does not."""
    return jnp.zeros(x.shape, x.dtype), x * y


@flat.defjvp
def _(primals, tangents):
    asked.append(primals)
    (x, y), (dx, dy) = primals, tangents
    # Of rules that call their own function, what they call is not asked without end.
    swapped = flat(y, x)[1]
    mapped, _ = jax.vmap(flat)(jnp.stack([x, y]), jnp.stack([y, x]))
    return flat(x, y), (dx * jnp.cos(y) + dy * x + mapped.sum(), dx * swapped / x + x * dy)


BATCHES_OF_FLAT = {
    "one": lambda f, x, y: jax.vmap(f)(x, y),
    "of the first": lambda f, x, y: jax.vmap(f, (0, None))(x, y[1]),
    "two": lambda f, x, y: jax.vmap(lambda s: jax.vmap(f, (None, 0))(x[0] * s, y))(x),
    "in a rule": lambda f, x, y: in_a_rule(f)(x, y),
    "in a backward rule": lambda f, x, y: in_a_backward_rule(f)(x, y),
}


def in_a_rule(f):
    """A function whose rule maps `f`, whose own rule is needed for the second derivative."""
    mapped = jax.custom_jvp(lambda x, y: jax.vmap(f)(x, y))
    mapped.defjvp(lambda primals, tangents: jax.jvp(jax.vmap(f), primals, tangents))
    return mapped


def in_a_backward_rule(f):
    """The forward rule maps `f`, whose own rule is needed for the second derivative."""
    mapped = jax.custom_vjp(lambda x, y: jax.vmap(f)(x, y))
    mapped.defvjp(
        lambda x, y: (jax.vmap(f)(x, y), (jax.vmap(f)(x, y)[0], y)),
        lambda kept, cts: (jnp.cos(kept[0] + cts[0]), cts[1] * kept[1]),
    )
    return mapped


@pytest.mark.parametrize("place", BATCHES_OF_FLAT)
def test_a_batch_that_only_the_derivative_depends_on(place):
    y = X[::-1] * 2

    def loss(x, y):
        shared, product = BATCHES_OF_FLAT[place](flat, x, y)
        return jnp.sum(jnp.sin(shared + 1)) + jnp.sum(product**2)

    both = (0, 1)
    close(bm.jit(loss)(X, y), loss(X, y))
    close(bm.grad(loss, argnums=both)(X, y), jax.grad(loss, both)(X, y))
    if place != "in a backward rule":
        close(bm.jvp(loss, (X, y), (y, X)), jax.jvp(loss, (X, y), (y, X)))
    close(bm.hessian(loss, argnums=both)(X, y), jax.hessian(loss, both)(X, y))
    rows = jnp.stack([X, y])
    close(bm.vmap(bm.grad(loss))(rows, rows), jax.vmap(jax.grad(loss))(rows, rows))


@pytest.mark.parametrize("place", INSIDE)
def test_such_a_batch_in_an_inner_function(place):
    def loss(inside, x):
        shared, product = inside(lambda x: jnp.stack(jax.vmap(flat, (0, None))(x, X[1])))(x)
        return jnp.sum(jnp.sin(shared + 1)) + jnp.sum(product**2)

    want = jax.grad(lambda x: loss(lambda f: f, x))(X)
    if place not in ("loop", "branch"):
        close(bm.grad(lambda x: loss(INSIDE[place], x))(X), want)
        return
    # Their results are as large as their arguments.
    pick = INSIDE[place](lambda x: jax.vmap(flat)(x, x)[0] * x)
    want = jax.grad(lambda x: jnp.sum(jax.vmap(flat)(x, x)[0] * x))(X)
    close(bm.grad(lambda x: jnp.sum(pick(x)))(X), want)


def calling_flat(value):
    """A function whose derivative, but not its value, depends on values of `flat`."""
    fun = jax.custom_jvp(value)

    @fun.defjvp
    def _(primals, tangents):
        x, y = primals
        shared, product = flat(x, y)
        tangent = jnp.cos(y) * tangents[1] * (1 + shared)
        return value(x, y), (tangent, tangents[0] * product + tangents[1] * x)

    return fun


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_what_rules_call_is_asked_too(axes):
    fun = calling_flat(lambda x, y: (jnp.sin(y), x * y))
    x, y = (X if axis == 0 else jnp.array(0.7) for axis in axes)

    def loss(x, y):
        shared, product = jax.vmap(fun, axes)(x, y)
        return jnp.sum(jnp.sin(shared + 1)) + jnp.sum(product**2)

    close(bm.grad(loss, argnums=(0, 1))(x, y), jax.grad(loss, (0, 1))(x, y))
    close(bm.hessian(loss, argnums=(0, 1))(x, y), jax.hessian(loss, (0, 1))(x, y))


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
@pytest.mark.parametrize("symbolic_zeros", [False, True])
@pytest.mark.parametrize(
    "second", [bm.hessian, lambda f: bm.jacfwd(bm.jacrev(f)), lambda f: bm.jacrev(bm.jacrev(f))]
)
def test_second_derivatives_of_values_that_ignore_the_batch(second, symbolic_zeros, vmap):
    """The rule that the rule calls is not there yet when the first derivative is batched."""
    fun = jax.custom_jvp(lambda x, y: jnp.zeros(()))
    fun.defjvp(lambda p, t: (fun(*p), t[0] * p[0] * p[1]), symbolic_zeros=symbolic_zeros)
    loss = lambda of_all: lambda x: jnp.sum(jnp.sin(of_all(x, X) + 1) ** 2)  # noqa: E731
    one_by_one = lambda x, y: jnp.stack([fun(*each) for each in zip(x, y, strict=True)])  # noqa: E731
    want = jax.hessian(loss(one_by_one))(X[::-1])
    close(second(loss(vmap(fun)))(X[::-1]), want)


def test_batches_of_batches_in_an_inner_function():
    """The rule is needed as it is traced then, not as it was when it was asked."""
    fun = jax.custom_jvp(lambda x: jnp.ones(()))
    fun.defjvp(lambda p, t: (fun(*p), t[0] * jnp.cos(p[0])))
    square = lambda y: jnp.sum(y**2)  # noqa: E731
    loss = lambda x: square(jax.vmap(jax.jit(jax.vmap(lambda x: x * fun(x))))(x))  # noqa: E731
    one_by_one = lambda x: sum(square(x_i * fun(x_i)) for x_i in x.ravel())  # noqa: E731
    rows = CUBE[0]
    close(bm.grad(loss)(rows), jax.grad(one_by_one)(rows))
    close(bm.jvp(loss, (rows,), (rows.T,)), jax.jvp(one_by_one, (rows,), (rows.T,)))
    close(bm.hessian(loss)(rows), jax.hessian(one_by_one)(rows))


def test_rules_that_refuse_some_tangents_are_asked_about_the_others():
    fun = jax.custom_jvp(lambda x, y: jnp.zeros(()))

    def jvp(primals, tangents):
        if not isinstance(tangents[1], jax.custom_derivatives.SymbolicZero):
            raise NotImplementedError
        return fun(*primals), tangents[0] * primals[1]

    fun.defjvp(jvp, symbolic_zeros=True)
    loss = lambda x: jnp.sum(jnp.sin(jax.vmap(fun)(x, X[::-1]) + x))  # noqa: E731
    close(bm.grad(loss)(X), jax.grad(loss)(X))


def test_a_batch_that_the_primal_is_evaluated_in():
    """JAX's partial evaluation runs the function itself, so there is no call to ask about."""
    fun = jax.custom_jvp(lambda x, y: (jnp.sin(x), x * y))
    fun.defjvp(
        lambda p, t: (fun(*p), (jnp.cos(p[0]) * t[0], p[0] * t[1] + t[0] * p[1])),
    )

    def loss(x, y):
        product = lambda y: jax.vmap(fun, (None, 0), (None, 0))(x, y)[1]  # noqa: E731
        return jnp.sum(jax.linear_transpose(product, y)(jnp.sin(y))[0] ** 2)

    close(bm.grad(loss, argnums=(0, 1))(0.7, X), jax.grad(loss, (0, 1))(0.7, X))


def ones(x):
    return jnp.ones(())


@pytest.mark.parametrize("vmap", [bm.vmap, jax.vmap])
@pytest.mark.parametrize("of_rule", [ones, lambda x: 1 + 0 * x])
@pytest.mark.parametrize("value", [ones, lambda x: 1 + 0 * x])
def test_cotangents_of_values_that_ignore_the_batch(value, of_rule, vmap):
    fun = jax.custom_vjp(value)
    fun.defvjp(lambda x: (of_rule(x), x), lambda x, ct: (ct * jnp.cos(x),))
    weights = jnp.arange(1.0, 5.0)
    loss = lambda y: jnp.sum(jnp.sin(y) * weights)  # noqa: E731
    if vmap is jax.vmap and value is of_rule is ones:
        want = jax.grad(lambda x: loss(jax.vmap(fun)(x)))(X)
    else:
        want = jax.grad(lambda x: loss(jnp.stack([fun(x[i]) for i in range(4)])))(X)
    close(bm.grad(lambda x: loss(vmap(fun)(x)))(X), want)


def test_backward_rules_over_the_axis():
    fun = jax.custom_vjp(lambda x, y: lax.psum(y, "i"))
    fun.defvjp(
        lambda x, y: (lax.psum(y, "i"), None),
        lambda _, ct: (jnp.zeros(()), lax.psum(ct, "i")),
    )
    x, y = X, 0.7

    def loss(vmap, fun):
        return lambda x, y: jnp.sum(vmap(fun, in_axes=(0, None), axis_name="i")(x, y) * x * y)

    plain = loss(jax.vmap, lambda x, y: lax.psum(y, "i"))
    want = jax.grad(plain, (0, 1))(x, y)
    close(bm.grad(loss(jax.vmap, fun), argnums=(0, 1))(x, y), want)
    close(bm.grad(loss(bm.vmap, fun), argnums=(0, 1))(x, y), want)


def test_rules_are_asked_a_few_times():
    loss = lambda x: sum(jnp.sum(y**2) for y in jax.vmap(flat)(x, x))  # noqa: E731
    asked.clear()
    bm.grad(loss)(X)
    assert len(asked) < 16


def test_a_result_that_neither_the_value_nor_the_derivative_batches_is_shared():
    @jax.custom_jvp
    def fun(x, y):
        return jnp.sin(y), x * y

    fun.defjvp(lambda p, t: (fun(*p), (jnp.cos(p[1]) * t[1], p[0] * t[1] + p[1] * t[0])))
    mapped = jax.vmap(fun, (0, None), (None, 0))
    close(bm.jit(mapped)(X, 2.0), mapped(X, 2.0))
    loss = lambda y: mapped(X, y)[0] + mapped(X, y)[1].sum()  # noqa: E731
    close(bm.grad(loss)(2.0), jax.grad(loss)(2.0))


def counted(with_rule, traced):
    """sin, twice its derivative, and a number that only the rule computes for each row."""
    fun = with_rule(lambda x: (jnp.sin(x), jnp.int32(3)))

    def of_rule(x):
        traced.append(x)
        return jnp.sin(x), jnp.int32(x * 0 + 3)

    if with_rule is jax.custom_vjp:
        fun.defvjp(lambda x: (of_rule(x), x), lambda x, cts: (2 * cts[0] * jnp.cos(x),))
    else:
        zero = np.zeros((), jax.dtypes.float0)
        fun.defjvp(lambda x, t: (of_rule(*x), (2 * jnp.cos(x[0]) * t[0], zero)))
    return fun


@pytest.mark.parametrize("place", INSIDE)
@pytest.mark.parametrize("with_rule", [jax.custom_jvp, jax.custom_vjp])
def test_an_integer_that_the_function_computes_once_for_the_batch(with_rule, place):
    fun = counted(with_rule, [])

    def mapped(x):
        result, count = jax.vmap(fun)(x)
        return result * count

    # By JAX the result of the rule has another shape than that of the function in a jaxpr.
    want = 4 * 9 * jnp.sin(X) * jnp.cos(X)
    loss = lambda x: jnp.sum(INSIDE[place](mapped)(x) ** 2)  # noqa: E731
    close(bm.grad(loss)(X), want)
    empty = jnp.zeros((0,))
    close(bm.grad(loss)(empty), empty)


@pytest.mark.parametrize("with_rule", [jax.custom_jvp, jax.custom_vjp])
def test_rules_are_not_asked_about_integers(with_rule):
    traced = []
    fun = counted(with_rule, traced)
    bm.grad(lambda x: jnp.sum(jax.vmap(fun)(x)[0]))(X)
    assert len(traced) == 1


def test_rules_that_raise_do_so_where_they_are_needed():
    fun = jax.custom_jvp(lambda x: jnp.zeros(()))

    @fun.defjvp
    def _(primals, tangents):
        raise RuntimeError("no derivative")

    assert bm.jit(jax.vmap(fun))(X).shape == X.shape
    with pytest.raises(RuntimeError, match="no derivative"):
        bm.jvp(jax.vmap(fun), (X,), (X,))


def test_rules_that_refuse_some_tangents_leave_the_others():
    """A rule is asked for each argument alone, and JAX has kept what came of some of them."""
    scaled = jax.custom_vjp(lambda x, scale: (jnp.sin(x) * scale, scale * 2.0))

    def forward(x, scale):
        if scale.perturbed:
            raise ValueError("no derivative by the scale")
        return scaled(x.value, scale.value), (x.value, scale.value)

    def backward(kept, cts):
        x, scale = kept
        return cts[0] * jnp.cos(x) * scale, jnp.zeros_like(scale)

    scaled.defvjp(forward, backward, symbolic_zeros=True)
    traced = jax.make_jaxpr(scaled)(1.0, 3.0)
    run = lambda x: jax.core.eval_jaxpr(traced.jaxpr, traced.consts, x, 3.0)[0]  # noqa: E731
    fun = jax.custom_vjp(run)
    fun.defvjp(lambda x: (fun(x), x), lambda x, ct: jax.vjp(run, x)[1](ct))
    loss = lambda x: jnp.sum(jax.vmap(fun)(x))  # noqa: E731
    close(bm.grad(loss)(X), jax.grad(loss)(X))


def test_effects_happen_once(capfd):
    """A function that is traced again for its axes is not run again."""

    @jax.custom_jvp
    def fun(x):
        jax.debug.print("ran")
        return jnp.zeros(())

    fun.defjvp(lambda p, t: (fun(*p), t[0]))
    bm.jit(jax.vmap(fun, axis_size=4))(X)
    jax.effects_barrier()
    once = capfd.readouterr().out.count("ran")
    jax.jit(jax.vmap(fun, axis_size=4))(X)
    jax.effects_barrier()
    assert once == capfd.readouterr().out.count("ran")
