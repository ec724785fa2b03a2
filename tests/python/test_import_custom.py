"""Functions with derivative rules of their own: the rules are honoured, to any order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from import_helpers import imported, text
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, partial_eval

import bmgrad.math as bm
from bmgrad._import import UnsupportedError
from bmgrad.runtime._primitive import bind

X = np.linspace(-1.2, 1.5, 4, dtype=np.float32)
WIDE = jnp.linspace(1.0, 2.0, 20)


def close(got, want, rtol=1e-4):
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=1e-5)


def through_program(fun, *args):
    """`fun` by way of a program, which JAX's transforms then ask for its derivatives."""
    program, consts, *_ = imported(fun, *args)

    def call(*args):
        results = bind(program, *args, *consts)
        return results[0] if len(results) == 1 else tuple(results)

    return call


@jax.custom_jvp
def spike(x, width):
    """A step whose derivative is a bell; the rule calls the step, as rules do."""
    return jnp.where(x > 0, 1.0, 0.0) + 0 * width


@spike.defjvp
def _(primals, tangents):
    x, width = primals
    return spike(x, width), tangents[0] * WIDE[3] / (width * x * x + 1) ** 2


@jax.custom_vjp
def clipped(x, n):
    """The identity, with a gradient of its own making; an integer argument and result."""
    return x * jnp.sum(WIDE), n + 1


def _clipped_bwd(residuals, cts):
    x, n = residuals
    return jnp.clip(cts[0], -1, 1) * jnp.cos(x) * n * WIDE[2], None


clipped.defvjp(lambda x, n: (clipped(x, n), (x, n)), _clipped_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def scaled(x, factor):
    return jnp.sin(x) * factor


scaled.defvjp(
    lambda x, factor: (scaled(x, factor), jnp.cos(x)), lambda factor, cos, ct: (3 * ct * cos,)
)


@jax.custom_vjp
def with_zeros(x, y):
    return x * y


def _with_zeros_fwd(x, y):
    return x.value * y.value, (x.value, y.value)


with_zeros.defvjp(_with_zeros_fwd, lambda res, ct: (5 * ct * res[1], None), symbolic_zeros=True)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def applied(fun, x):
    return fun(x)


@applied.defjvp
def _(fun, primals, tangents):
    return applied(fun, *primals), 2 * tangents[0]


FUNCTIONS = {
    "custom_jvp": lambda x: jnp.sum(spike(x, 2.0) * x),
    "custom_jvp in scan": lambda x: jax.lax.scan(
        lambda c, _: (spike(jnp.sin(c), 2.0), None), x, None, length=1
    )[0].sum(),
    "custom_jvp in vmap": lambda x: jnp.sum(jax.vmap(spike, (0, None))(x, 2.0) * x),
    "static argument": lambda x: jnp.sum(applied(jnp.sin, x) * x),
    "defjvps": lambda x: jnp.sum(jax.nn.relu(x) ** 2 + jax.nn.silu(x) + jax.nn.relu6(x)),
    "custom_vjp": lambda x: jnp.sum(clipped(x, 3)[0] * x),
    "custom_vjp in scan": lambda x: jax.lax.scan(
        lambda c, _: (jnp.sin(clipped(c, 2)[0]), None), x, None, length=3
    )[0].sum(),
    "custom_vjp in vmap": lambda x: jnp.sum(jax.vmap(lambda x: clipped(x, 3)[0] * x)(x)),
    "custom_vjp in jit": lambda x: jnp.sum(jax.jit(lambda x: jnp.cos(clipped(x, 3)[0]))(x)),
    "nondiff_argnums": lambda x: jnp.sum(scaled(x, 2.0) * x),
    "symbolic_zeros": lambda x: jnp.sum(with_zeros(x, jnp.cos(x)) * x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_the_rule(name):
    fun = FUNCTIONS[name]
    call = through_program(fun, X)
    close(call(X), fun(X))
    close(jax.grad(call)(X), jax.grad(fun)(X))
    if name != "symbolic_zeros":  # JAX cannot differentiate it twice.
        again = lambda f: jax.grad(lambda x: jnp.sum(jnp.cos(jax.grad(f)(x))))  # noqa: E731
        close(again(call)(X), again(fun)(X))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "vmap" not in n])
def test_batches(name):
    fun, xs = FUNCTIONS[name], np.stack([X, 2 * X, -X])
    call = through_program(fun, X)
    close(jax.vmap(call)(xs), jax.vmap(fun)(xs))
    close(jax.vmap(jax.grad(call))(xs), jax.vmap(jax.grad(fun))(xs))


@pytest.mark.parametrize("name", ["custom_jvp", "static argument", "defjvps"])
def test_forward_mode(name):
    fun = FUNCTIONS[name]
    close(jax.jvp(through_program(fun, X), (X,), (X,)), jax.jvp(fun, (X,), (X,)))


def test_rules_that_call_their_function_are_written_once():
    ir = text(lambda x: spike(x, x) + clipped(x, 2)[0], X)
    assert ir.count("func.func private @spike.jvp(") == 1
    assert ir.count("func.func private @clipped.fwd(") == 1
    assert "@spike_1" not in ir
    assert "@clipped_1" not in ir


def product_with(y):
    """A function that closes over `y`, and its rule does so too."""

    @jax.custom_vjp
    def product(x):
        return x * y

    product.defvjp(lambda x: (product(x), y), lambda y, ct: (ct * y * jnp.cos(y),))
    return product


def test_rules_may_read_values_of_the_function_around():
    def fun(x, y):
        def body(c, x):
            return product_with(jnp.cos(y))(c), jax.jit(lambda x: product_with(y)(x))(x)

        return jnp.sum(product_with(jnp.sin(y))(x)), jax.lax.scan(body, y, jnp.stack([x, x]))[1]

    program, consts, *_ = imported(fun, X, X)
    assert consts == []
    call = lambda x: bind(program, x, X)  # noqa: E731
    close(call(X), fun(X, X))
    first = jax.grad(lambda x: call(x)[0])(X)
    close(first, np.sin(X) * np.cos(np.sin(X)))
    second = jax.grad(lambda x: jnp.sum(call(x)[1]))(X)
    close(second, 2 * X * np.cos(X))


def forward_product_with(y):
    product = jax.custom_jvp(lambda x: x * y)
    product.defjvp(lambda p, t: (product(*p), t[0] * y * jnp.cos(y)))
    return product


@pytest.mark.parametrize("make", [product_with, forward_product_with])
def test_values_closed_over_have_no_rule(make):
    """Of the others there is a derivative, and where no derivative of these is wanted."""
    program, *_ = imported(lambda x, y: jnp.sum(make(y)(x)), X, X)
    call = lambda x, y: bind(program, x, y)[0]  # noqa: E731
    with pytest.raises(NotImplementedError, match="closes over; pass the value to the function"):
        jax.grad(call, argnums=1)(X, X)
    close(jax.grad(call)(X, X), X * np.cos(X))
    close(jax.grad(lambda x: call(x, jax.lax.stop_gradient(2 * x)))(X), 2 * X * np.cos(2 * X))


def test_variables_closed_over_have_no_rule():
    import bmgrad.math as bm

    weight = bm.TrainVar(X)
    gradients = [
        bm.grad(lambda x: jnp.sum(forward_product_with(weight.value)(x)), grad_vars=grad_vars)
        for grad_vars in (None, weight)
    ]
    close(gradients[0](X), X * np.cos(X))
    with pytest.raises(NotImplementedError, match="closes over; pass the value to the function"):
        gradients[1](X)


@pytest.mark.parametrize("captured", [1.0, np.arange(3.0)])
def test_rules_are_asked_once(captured):
    """A forward rule that calls its function is written twice where that captures arrays."""
    asked = []

    @jax.custom_vjp
    def fun(x):
        return jnp.sum(jnp.asarray(captured)) * x

    def fwd(x):
        asked.append("fwd")
        return fun(x), x

    def bwd(x, ct):
        asked.append("bwd")
        return (2 * ct * x,)

    fun.defvjp(fwd, bwd)
    close(bm.grad(fun)(3.0), 6)
    assert asked == ["fwd", "bwd"]


def test_rules_alone_may_close_over_what_is_differentiated():
    """The function does not depend on it, its gradient does."""

    def slope(y):
        @jax.custom_vjp
        def fun(x):
            return 2 * jnp.sin(x)

        fun.defvjp(lambda x: (fun(x), y), lambda kept, ct: (jnp.cos(y) * kept * ct,))
        return bm.grad(fun)(1.0)

    close(slope(2.0), 2 * np.cos(2.0))
    close(bm.vmap(slope)(X), X * np.cos(X))
    close(bm.grad(slope)(2.0), np.cos(2.0) - 2 * np.sin(2.0))


@pytest.mark.parametrize("batch", [jax.vmap, lambda f: jax.vmap(jax.vmap(f))])
def test_closed_over_arrays_in_a_batched_loop(batch):
    """JAX makes them arguments of the function when it batches the loop."""

    @jax.custom_vjp
    def fun(x):
        return 3 * x * jnp.sum(WIDE)

    fun.defvjp(lambda x: (fun(x), jnp.cos(x)), lambda cos, ct: (2 * cos * ct,))
    looped = lambda x: jax.lax.scan(lambda c, _: (fun(c), None), x, None, length=1)[0]  # noqa: E731
    x = X.reshape(2, 2)
    for _ in range(2):
        close(bm.grad(lambda x: batch(looped)(x).sum())(x), 2 * np.cos(x))


def test_rules_of_what_has_no_derivative_are_not_asked():
    def refuse(*_):
        raise AssertionError("this rule is not needed")

    @jax.custom_vjp
    def rounded(x):
        return jnp.round(x).astype(int)

    @jax.custom_jvp
    def floor(x):
        return jnp.floor(x).astype(int)

    rounded.defvjp(lambda x: (rounded(x), None), refuse)
    floor.defjvp(refuse)
    close(bm.grad(lambda x: (x * rounded(x) * floor(x)).sum())(X), np.round(X) * np.floor(X))


def refusing(kind):
    """The identity with a derivative rule that raises, as libraries mark what has none."""
    if kind == "primitive":
        made = Primitive("marked")
        made.def_impl(lambda x: x)
        made.def_abstract_eval(lambda x: x)
        mlir.register_lowering(made, lambda ctx, x: [x])
        batching.defvectorized(made)
        ad.primitive_jvps[made] = refuse
        return made.bind
    marked = (jax.custom_jvp if kind == "jvp" else jax.custom_vjp)(lambda x: x)
    if kind == "jvp":
        marked.defjvp(refuse)
    else:
        marked.defvjp(refuse if kind == "fwd" else lambda x: (x, None), refuse)
    return marked


def refuse(*_, **__):
    raise KeyError("not to be differentiated")


@pytest.mark.parametrize("kind", ["jvp", "fwd", "bwd", "primitive"])
def test_rules_that_raise_do_so_where_they_are_needed(kind):
    marked = refusing(kind)
    close(bm.grad(lambda x: (x * marked(WIDE[:4])).sum())(X), WIDE[:4])
    close(bm.grad(lambda x, y: (x * marked(y)).sum())(X, X), X)
    close(bm.vmap(bm.grad(lambda x, y: x * marked(y)))(X, X), X)
    for fun in (marked, jax.vmap(marked)):
        with pytest.raises(KeyError, match="not to be differentiated") as error:
            bm.grad(lambda x, fun=fun: fun(x).sum())(X)
        notes = "".join(error.value.__notes__)
        assert __file__ in notes
        assert "in refuse" in notes
    if kind == "bwd":  # Where no cotangent comes it is not needed.
        close(bm.grad(lambda x: (x, marked(x))[0].sum())(X), np.ones(4))


def test_rules_may_branch_on_flags_that_they_keep():
    @jax.custom_vjp
    def fun(x):
        return x

    fun.defvjp(
        lambda x: (x, (True, 3, x)), lambda kept, ct: (kept[2] * kept[1] if kept[0] else ct,)
    )
    close(bm.grad(lambda x: fun(x).sum())(X), 3 * X)


def test_tangents_of_another_shape_are_refused():
    """JAX checks rules, but lets this pass under vmap: the function ignores what is batched.

    What it has traced by itself is as it is.
    """

    @jax.custom_jvp
    def zeros(x):
        return np.zeros(x.shape, x.dtype)

    zeros.defjvp(lambda primals, tangents: (zeros(*primals), tangents[0]))
    with pytest.raises(UnsupportedError, match=r"shape \(4,\).* asks for shape \(\)"):
        bm.jvp(jax.extend.core.jaxpr_as_fun(jax.make_jaxpr(jax.vmap(zeros))(X)), (X,), (X,))


def test_arrays_closed_over_in_a_batch_of_calls():
    """Which JAX makes arguments of the function; they have no tangents that it could miss."""
    product = jax.jit(product_with(jnp.asarray(X)))
    fun = lambda x: jnp.sum(jax.vmap(product)(jnp.stack([x, x * x])))  # noqa: E731
    program, consts, *_ = imported(fun, X)
    close(jax.grad(lambda x: bind(program, x, *consts)[0])(X), jax.grad(fun)(X))


def test_values_that_left_their_loop():
    def fun(x):
        kept = []

        def body(c, _):
            kept.append(jnp.sin(c))
            return c, None

        jax.lax.scan(body, x, None, length=2)
        return product_with(kept[0])(x)

    with pytest.raises(jax.errors.UnexpectedTracerError, match="return the value from there"):
        imported(fun, X)


# -- Primitives of third parties -----------------------------------------------------------------

swirl_p = Primitive("swirl")


def swirl(x, turns):
    return swirl_p.bind(x, turns=turns)


swirl_p.def_impl(lambda x, turns: jnp.sin(turns * x))
swirl_p.def_abstract_eval(lambda x, turns: x)
mlir.register_lowering(
    swirl_p, mlir.lower_fun(lambda x, turns: jnp.sin(turns * x), multiple_results=False)
)
batching.defvectorized(swirl_p)
# Its second derivative goes through the primitive again. The factor 2 is not the true one.
ad.defjvp(swirl_p, lambda g, x, turns: 2 * g * turns * swirl(x + np.pi / (2 * turns), turns))


@pytest.mark.parametrize("kind", [jax.custom_jvp, jax.custom_vjp])
def test_rules_of_functions_of_64_bits(kind):
    """They are asked as the function was called, within `jax.enable_x64`."""
    square = kind(lambda x: x**2)
    if kind is jax.custom_jvp:
        square.defjvp(lambda x, t: (square(*x), t[0] * jnp.sin(x[0])))
    else:
        square.defvjp(lambda x: (square(x), jnp.sin(x)), lambda r, t: (r * t,))

    def fun(x):
        with jax.enable_x64(True):
            return square(jnp.asarray(x, jnp.float64))

    first, second = bm.grad(fun)(5.0), bm.grad(bm.grad(fun))(5.0)
    assert first.dtype == second.dtype == jnp.float32
    close([first, second], [np.sin(5.0), np.cos(5.0)])


@pytest.mark.parametrize("kind", [jax.custom_jvp, jax.custom_vjp])
def test_rules_close_over_elements_of_a_batch(kind):
    def fun(z):
        def element(x):
            product = kind(lambda y: x * y)
            if kind is jax.custom_jvp:
                product.defjvp(lambda y, dy: (x * y[0], 7 * x * dy[0]))
            else:
                product.defvjp(lambda y: (x * y, None), lambda _, ct: (7 * x * ct,))
            return product(z)  # Which is no element.

        return jax.vmap(element)(jnp.arange(3.0)).sum()

    close(bm.value_and_grad(lambda z: fun(jnp.sin(z)))(1.5), (3 * np.sin(1.5), 21 * np.cos(1.5)))


def test_arguments_without_derivative_are_elements_of_a_batch():
    product = jax.custom_jvp(lambda x, y: x * y, nondiff_argnums=(0,))
    product.defjvp(lambda x, y, dy: (product(x, *y), 5 * x * dy[0]))
    fun = lambda y: jnp.sin(jax.vmap(product)(WIDE, y)).sum()  # noqa: E731
    close(bm.grad(fun)(WIDE), jax.grad(fun)(WIDE))


def test_third_party_rule_is_honoured():
    fun = lambda x: jnp.sum(swirl(x, 3.0) * x)  # noqa: E731
    call = through_program(fun, X)
    close(call(X), fun(X))
    close(jax.grad(call)(X), jax.grad(fun)(X))
    hessians = [jax.jacfwd(jax.grad(f))(X) for f in (call, fun)]
    close(*hessians, rtol=1e-3)
    close(jax.vmap(jax.grad(call))(X[None]), jax.grad(fun)(X)[None])


def test_third_party_primitive_without_a_rule():
    silent_p = Primitive("silent")
    silent_p.def_abstract_eval(lambda x: x)
    mlir.register_lowering(silent_p, mlir.lower_fun(jnp.sin, multiple_results=False))
    call = through_program(lambda x: jnp.sum(silent_p.bind(x)), X)
    close(call(X), np.sin(X).sum())
    with pytest.raises(Exception, match="no derivative rule for primitive 'silent'"):
        jax.grad(call)(X)


# -- Variables -----------------------------------------------------------------------------------


def test_rules_read_variables_as_they_are():
    import bmgrad.math as bm

    weight, other = bm.Variable(jnp.arange(1.0, 5.0)), bm.Variable(jnp.ones(4))

    def loss(x, unread=False):
        @jax.custom_vjp
        def scale(x):
            return x * weight.value

        read = other if unread else weight
        scale.defvjp(lambda x: (scale(x), None), lambda _, ct: (ct * 10 * read.value,))
        return jnp.sum(scale(x))

    gradient = bm.grad(loss)
    close(gradient(X), 10 * jnp.arange(1.0, 5.0))
    weight.value = jnp.ones(4)
    close(gradient(X), 10 * jnp.ones(4))
    # Too late to become an input: an error, and not a constant that goes stale.
    with pytest.raises(RuntimeError, match="read it in the function that has the rule too"):
        bm.grad(lambda x: loss(x, unread=True))(X)


def test_rules_of_functions_that_jax_has_pruned():
    @jax.custom_vjp
    def both(x, y):
        return jnp.sin(x), x + jnp.cos(y)

    def bwd(residuals, cts):
        return 2 * residuals[0] * cts[0] + 3 * cts[1], residuals[1] * cts[1]

    both.defvjp(lambda x, y: (both(x, y), (jnp.cos(x), jnp.sin(y))), bwd)
    jaxpr = jax.make_jaxpr(both)(1.0, 2.0).jaxpr
    for used, want in (((True, False), (2 * np.cos(1), 0)), ((False, True), (3, np.sin(2)))):
        pruned, _ = partial_eval.dce_jaxpr(jaxpr, used)
        fun = lambda *args, pruned=pruned: jax.core.eval_jaxpr(pruned, (), *args)[0]  # noqa: E731
        np.testing.assert_allclose(bm.grad(fun, argnums=(0, 1))(1.0, 2.0), want, rtol=1e-6)


@pytest.mark.parametrize("power", [lambda t: t**2, lambda t: t * t, jnp.sin])
def test_rules_that_are_not_linear_in_the_tangent(power):
    fun = jax.custom_jvp(lambda x: x * 2)
    fun.defjvp(lambda primals, tangents: (fun(*primals), power(tangents[0])))
    with pytest.raises(NotImplementedError, match=r"(?s)not linear in the tangents.*test_import_c"):
        bm.grad(fun)(2.0)
    np.testing.assert_allclose(bm.jvp(fun, (2.0,), (3.0,))[1], power(jnp.float32(3.0)))


@pytest.mark.parametrize("around", [lambda f: f, jax.jit, bm.jit])
def test_the_transpose_of_a_linear_call_is_the_user_s(around):
    """Told apart from the function's own by a factor."""

    def loss(x):
        scaled = jax.custom_derivatives.linear_call(
            lambda r, x: r * x, lambda r, ct: 3 * r * ct, jnp.full(3, 2.0), x
        )
        return (scaled**2).sum()

    x = jnp.arange(1.0, 4.0)
    np.testing.assert_allclose(around(bm.grad(loss))(x), 2 * (2 * x) * 3 * 2)
    np.testing.assert_allclose(bm.jvp(loss, (x,), (x,))[1], (8 * x * x).sum())


def test_composites():
    """JAX has no derivative of one but by a rule; here it is that of what it stands for."""
    composite = jax.lax.composite(lambda x: jnp.sin(x) * x, name="test.composite")
    assert bm.jit(composite)(2.0) == pytest.approx(2 * np.sin(2.0))
    assert bm.grad(composite)(2.0) == pytest.approx(np.sin(2.0) + 2 * np.cos(2.0))


def test_metadata_of_values():
    from jax.experimental.xla_metadata import set_xla_metadata

    loss = lambda x: (set_xla_metadata(x * x, tag=1) * x).sum()  # noqa: E731
    np.testing.assert_allclose(bm.grad(loss)(jnp.array([1.0, 2.0])), [3.0, 12.0])
