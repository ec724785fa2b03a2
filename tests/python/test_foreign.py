"""Primitives of third parties: the rules that they bring are honoured to second order.

The primitives here are like those of libraries for spiking networks: sparse products in
weights and inputs, whose forward derivatives are other primitives with transposes.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from foreign_primitives import primitive
from jax import lax
from jax._src import dispatch
from jax._src.interpreters import ad as internal_ad
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.extend.core.primitives import scan_p
from jax.interpreters import ad, batching, mlir

import bmgrad as bp
import bmgrad.math as bm
from bmgrad.runtime import _foreign
from bmgrad.runtime._errors import UnsupportedError

# A 3 by 4 matrix in compressed sparse rows, one more weight than it has rows.
COLUMNS = np.array([0, 2, 1, 3, 0], np.int32)
ROWS = np.array([0, 0, 1, 2, 2], np.int32)
SHAPE = (3, 4)
WEIGHTS = np.array([0.5, -1.2, 0.7, 2.0, 0.3])
V = np.array([0.3, -0.8, 1.1, 0.6])


def product(weights, v, *, transposed):
    rows, columns = (COLUMNS, ROWS) if transposed else (ROWS, COLUMNS)
    return jnp.zeros(SHAPE[transposed], v.dtype).at[rows].add(weights * v[columns])


def result_of_product(weights, v, *, transposed):
    return jax.core.ShapedArray((SHAPE[transposed],), v.dtype)


# The matrix times a vector: bilinear.
matvec_p = primitive("csr_matvec", product, result_of_product)
# The same of the steps of a vector: the spikes of neurons. Not linear, with a surrogate.
event_p = primitive(
    "event_csr_matvec",
    lambda weights, v, *, transposed: product(weights, (v > 0) * 1.0, transposed=transposed),
    result_of_product,
)
# For each weight the product of what it joins: the transpose in the weights.
pairs_p = primitive(
    "csr_pairs",
    lambda u, v, *, transposed: (
        u[COLUMNS if transposed else ROWS] * v[ROWS if transposed else COLUMNS]
    ),
    lambda u, v, *, transposed: jax.core.ShapedArray((len(ROWS),), v.dtype),
)


def matvec(weights, v, transposed=False):
    return matvec_p.bind(weights, v, transposed=transposed)


def event_matvec(weights, v, transposed=False):
    return event_p.bind(weights, v, transposed=transposed)


def surrogate(v):
    return 1 / (1 + v * v)


def transpose_matvec(ct, weights, v, *, transposed):
    if ad.is_undefined_primal(weights):
        assert not ad.is_undefined_primal(v)
        return pairs_p.bind(ct, v, transposed=transposed), None
    return None, matvec(weights, ct, not transposed)


def transpose_pairs(ct, u, v, *, transposed):
    if ad.is_undefined_primal(u):
        assert not ad.is_undefined_primal(v)
        return matvec(ct, v, transposed), None
    return None, matvec(ct, u, not transposed)


ad.defjvp(
    matvec_p,
    lambda dw, w, v, transposed: matvec(dw, v, transposed),
    lambda dv, w, v, transposed: matvec(w, dv, transposed),
)
ad.primitive_transposes[matvec_p] = transpose_matvec
ad.defjvp(
    pairs_p,
    lambda du, u, v, transposed: pairs_p.bind(du, v, transposed=transposed),
    lambda dv, u, v, transposed: pairs_p.bind(u, dv, transposed=transposed),
)
ad.primitive_transposes[pairs_p] = transpose_pairs
ad.defjvp(
    event_p,
    lambda dw, w, v, transposed: event_matvec(dw, v, transposed),
    lambda dv, w, v, transposed: matvec(w, dv * surrogate(v), transposed),
)


def transpose_event(ct, weights, v, *, transposed):
    assert ad.is_undefined_primal(weights), "linear in the weights only"
    return pairs_p.bind(ct, (v > 0) * 1.0, transposed=transposed), None


ad.primitive_transposes[event_p] = transpose_event

batched_calls = []


def batch_by_map(made):
    def rule(args, axes, **params):
        batched_calls.append(made.name)
        moved = [x if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(args, axes, strict=True)]

        def one(i):
            picked = (x if a is None else x[i] for x, a in zip(moved, axes, strict=True))
            return made.bind(*picked, **params)

        size = next(x.shape[0] for x, a in zip(moved, axes, strict=True) if a is not None)
        return jax.lax.map(one, jnp.arange(size)), 0

    batching.primitive_batchers[made] = rule


for each in (matvec_p, event_p, pairs_p):
    batch_by_map(each)


def network(weights, v):
    return event_matvec(weights, jnp.tanh(v)) * matvec(weights, v)


def test_sparse_products():
    check_derivatives(lambda w, v: jnp.sin(matvec(w, v)), WEIGHTS, V)
    check_derivatives(network, WEIGHTS, V, differences=False)


def test_the_batching_rule_is_used():
    batched_calls.clear()
    check_batching(network, WEIGHTS, V)
    assert {"csr_matvec", "event_csr_matvec", "csr_pairs"} <= set(batched_calls)


def test_in_a_loop():
    def fun(w, v):
        def step(v, _):
            out = jnp.tanh(network(w, v))
            return jnp.concatenate([out, v[:1]]), out

        return jax.lax.scan(step, v, None, length=3)[1]

    dense = lambda w, v: jnp.sum(fun(w, v))  # noqa: E731
    got = bm.grad(dense, argnums=(0, 1))(jnp.asarray(WEIGHTS), jnp.asarray(V))
    want = jax.grad(dense, argnums=(0, 1))(jnp.asarray(WEIGHTS), jnp.asarray(V))
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5)


def test_linear_in_all_operands():
    """`deflinear2`: one transpose for all operands together."""
    blend_p = primitive("blend", lambda x, y: 2 * x + 3 * y, lambda x, y: x)
    ad.deflinear2(blend_p, lambda ct, x, y: [2 * ct, 3 * ct])
    batch_by_map(blend_p)
    check_derivatives(lambda x, y: jnp.sin(blend_p.bind(x, y)), V, 2 * V)
    check_batching(lambda x, y: jnp.sin(blend_p.bind(x, y)), V, 2 * V)


@pytest.mark.parametrize("structured", [(), ({"factor": 2.0},)], ids=["plain", "structured"])
def test_a_linearization_in_the_place_of_a_forward_rule(structured):
    """From 0.12 on JAX has rules return residuals that keep their structure, too."""
    raised_p = primitive("raised", lambda x, y: x**3 * y, lambda x, y: x)
    batching.defbroadcasting(raised_p)
    asked = []

    def linearize(is_vjp, perturbed, x, y):
        asked.append(tuple(perturbed))

        def linear(factors, *others):
            assert others[:-2] == structured
            pairs = zip(factors, others[-2:], strict=True)
            return sum(factor * t for factor, t in pairs if type(t) is not ad.Zero)

        return raised_p.bind(x, y), True, (3 * x**2 * y, x**3), *structured, linear

    # JAX has no public name for them.
    internal_ad.primitive_linearizations[raised_p] = linearize
    fun = lambda x, y: jnp.sin(raised_p.bind(x, y))  # noqa: E731
    check_derivatives(fun, V, 2 * V, oracle=lambda x, y: jnp.sin(x**3 * y))
    asked.clear()
    np.testing.assert_allclose(bm.grad(lambda x: raised_p.bind(x, 2 * V).sum())(V), 6 * V**3)
    assert asked == [(True, False)]


def test_transposes_that_add_to_sums():
    split_p = primitive("split", lambda x, y: (2 * x, x * y), lambda x, y: (x, y), True)

    def transpose(cts, x, y):
        first, second = cts
        assert not isinstance(y, internal_ad.ValAccum), "not linear in y"
        for ct, factor in ((first, 2), (second, y)):
            if type(ct) is not ad.Zero:
                x.accum(ct * factor)

    def jvp(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        moved = [ad.instantiate_zeros(t) for t in split_p.bind(ad.instantiate_zeros(dx), y)]
        if type(dy) is not ad.Zero:
            moved[1] += x * dy
        return split_p.bind(x, y), moved

    ad.primitive_jvps[split_p] = jvp
    # JAX has no public name for them.
    internal_ad.fancy_transposes[split_p] = transpose
    batching.defbroadcasting(split_p)
    fun = lambda x, y: jnp.sin(sum(split_p.bind(x, y)))  # noqa: E731
    check_derivatives(fun, V, 3 * V, oracle=lambda x, y: jnp.sin(2 * x + x * y))
    only_second = bm.grad(lambda x: split_p.bind(x, 3 * V)[1].sum())(V)
    np.testing.assert_allclose(only_second, 3 * V, rtol=1e-6)


def test_without_transpose():
    halved_p = primitive("halved", lambda x: x / 2, lambda x: x)
    ad.defjvp(halved_p, lambda dx, x: halved_p.bind(dx))
    fun = lambda x: jnp.sum(halved_p.bind(x))  # noqa: E731
    assert bm.jvp(fun, (jnp.ones(2),), (jnp.ones(2),))[1] == 1
    with pytest.raises(Exception, match="halved"):
        bm.grad(fun)(jnp.ones(3))


def test_errors_of_transposes():
    """They are raised where that transpose is needed, and nowhere else."""

    def transpose(ct, x, y):
        if ad.is_undefined_primal(y):
            raise ValueError("y is too wide for this transpose")
        return y * ct, None

    scaled_p = primitive("scaled", lambda x, y: x * y, lambda x, y: x)
    ad.defjvp(
        scaled_p,
        lambda dx, x, y: scaled_p.bind(dx, y),
        lambda dy, x, y: scaled_p.bind(x, dy),
    )
    ad.primitive_transposes[scaled_p] = transpose
    fun = lambda x, y: scaled_p.bind(x, y).sum()  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(2 * V, V), V, rtol=1e-6)
    for lib in (bm, jax):
        with pytest.raises(ValueError, match="y is too wide for this transpose"):
            lib.grad(fun, argnums=1)(V, V)


def test_rules_are_told_what_is_not_perturbed():
    """As Lineax and Equinox do, which refuse tangents of some operands."""
    told = []
    shifted_p = primitive("shifted", lambda x, state: x + 0 * state, lambda x, state: x)

    def jvp(primals, tangents):
        assert isinstance(tangents[1], ad.Zero), "state has no derivative"
        told.append([not isinstance(t, ad.Zero) for t in tangents])
        return shifted_p.bind(*primals), tangents[0]

    ad.primitive_jvps[shifted_p] = jvp
    looped = lambda x, s: lax.scan(lambda c, _: (shifted_p.bind(c, s), None), x, None, length=2)[0]  # noqa: E731
    for fun in (shifted_p.bind, jax.jit(shifted_p.bind), looped):
        call = lambda x, s, fun=fun: fun(x * x, s).sum()  # noqa: E731
        np.testing.assert_allclose(bm.grad(call)(V, V), 2 * V, rtol=1e-6)
        with pytest.raises(AssertionError, match="state has no derivative"):
            bm.grad(call, argnums=1)(V, V)
    assert told == [[True, False]] * len(told)


# -- Rules registered with bmgrad ----------------------------------------------------------------


def square_primitive(name, **rules):
    made = primitive(name, lambda x, *, scale: scale * x * x, lambda x, *, scale: x)
    bp.extend.register_primitive(made, **rules)
    return lambda x: made.bind(x, scale=3.0)


def test_registered_jvp_and_batch():
    def jvp(primals, tangents, *, scale):
        (x,), (dx,) = primals, tangents
        return square(x), 2 * scale * x * dx

    def batch(operands, axes, *, scale):
        return square(operands[0]), axes[0]

    square = square_primitive("registered_square", jvp=jvp, batch=batch)
    plain = lambda x: 3 * x * x  # noqa: E731
    check_derivatives(square, V, oracle=plain)
    check = lambda lib, f: lib.vmap(lib.grad(lambda x: jnp.sum(f(x))))(jnp.stack([V, 2 * V]))  # noqa: E731
    np.testing.assert_allclose(check(bm, square), check(jax, plain), rtol=1e-6)


def test_registered_transpose():
    def transpose(cotangent, operands):
        assert isinstance(operands[1], jax.ShapeDtypeStruct)
        assert not isinstance(operands[0], jax.ShapeDtypeStruct)
        return [None, operands[0] * cotangent]

    scale_p = primitive("registered_scale", lambda n, x: n * x, lambda n, x: x)

    def jvp(primals, tangents):
        n, x = primals
        dx = None if tangents[1] is None else scale_p.bind(n, tangents[1])
        return scale_p.bind(n, x), dx

    bp.extend.register_primitive(scale_p, jvp=jvp, transpose=transpose)
    fun = lambda x: jnp.sum(jnp.sin(scale_p.bind(2.0, x)))  # noqa: E731
    np.testing.assert_allclose(bm.grad(fun)(jnp.asarray(V)), 2 * np.cos(2 * V), rtol=1e-5)


def test_errors_say_how_to_register():
    silent_p = primitive("silent", lambda x: x, lambda x: x)
    with pytest.raises(NotImplementedError, match=r"'silent'.*bmgrad\.extend\.register_primitive"):
        bm.grad(lambda x: silent_p.bind(x))(1.0)


@pytest.mark.parametrize("missing", ["lowering", "batching", "transpose"])
def test_errors_name_the_rule_that_is_missing(missing):
    lacking = Primitive(f"lacking_{missing}")
    lacking.def_abstract_eval(lambda x: x)
    if missing != "lowering":
        lower = mlir.lower_fun(lambda x: 2 * x, multiple_results=False)
        mlir.register_lowering(lacking, lower)
    ad.primitive_jvps[lacking] = lambda x, dx: (lacking.bind(*x), lacking.bind(*dx))
    fun = {
        "lowering": bm.jit(lambda x: lacking.bind(x)),
        "batching": bm.vmap(lambda x: lacking.bind(x)),
        "transpose": bm.grad(lambda x: lacking.bind(x).sum()),
    }[missing]
    with pytest.raises(UnsupportedError) as error:
        fun(jnp.ones(3))
    text = str(error.value)
    assert text.startswith(f"no {missing}")
    assert f"for primitive 'lacking_{missing}'" in text
    assert "bmgrad.extend.register_primitive" in text
    assert f"\n  at {__file__}:" in text
    if missing == "transpose":
        got = bm.jvp(lambda x: lacking.bind(x), (jnp.ones(3),), (jnp.ones(3),))
        np.testing.assert_array_equal(got, 2.0)


def test_primitives_with_rules_are_refused():
    with pytest.raises(ValueError, match="'scan'"):
        bp.extend.register_primitive(scan_p, jvp=lambda *_: None)
    assert not any(p.name == "scan" for p in _foreign._registered)


def test_what_is_no_primitive_and_no_rule():
    lone = Primitive("lone")
    with pytest.raises(TypeError, match=r"primitive must be a .*Primitive, got 3"):
        bp.extend.register_primitive(3, jvp=lambda *_: None)
    with pytest.raises(TypeError, match="batch must be a function or None, got 'x'"):
        bp.extend.register_primitive(lone, batch="x")
    with pytest.raises(ValueError, match="give a rule of 'lone': jvp, transpose or batch"):
        bp.extend.register_primitive(lone)
    assert lone not in _foreign._registered


def test_branches_for_other_platforms():
    """They need no kernel here, nor a derivative where all is compiled at once."""
    elsewhere_p = Primitive("elsewhere")
    elsewhere_p.def_abstract_eval(lambda x: x)
    batch_by_map(elsewhere_p)

    def fun(x):
        chosen = lax.platform_dependent(2 * x, tpu=elsewhere_p.bind, default=jnp.sin)
        return jnp.cos(chosen).sum()

    want = lambda x: jnp.cos(jnp.sin(2 * x)).sum()  # noqa: E731
    np.testing.assert_allclose(bm.jit(fun)(V), want(V), rtol=1e-6)
    np.testing.assert_allclose(bm.vmap(fun)(V[:, None]), jax.vmap(want)(V[:, None]), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(bm.grad(fun))(V), jax.grad(want)(V), rtol=1e-5)
    with pytest.raises(Exception, match="no branch for platform 'cpu'"):
        bm.jit(lambda x: lax.platform_dependent(x, tpu=jnp.sin, cuda=jnp.cos))(V)


def test_linear_parts_of_branches_for_other_platforms():
    """They are made before it is known where they run, so for here only, where they must."""
    elsewhere_p = Primitive("elsewhere")
    elsewhere_p.def_abstract_eval(lambda x: x)

    def fun(x):
        return lax.platform_dependent(2 * x, tpu=elsewhere_p.bind, default=jnp.sin).sum()

    want = jax.grad(lambda x: jnp.sin(2 * x).sum())
    np.testing.assert_allclose(bm.vjp(fun, V)[1](1.0)[0], want(V), rtol=1e-6)
    np.testing.assert_allclose(bm.jacrev(fun)(V), want(V), rtol=1e-6)
    np.testing.assert_allclose(bm.linearize(fun, V)[1](V), (want(V) * V).sum(), rtol=1e-6)
    np.testing.assert_allclose(bm.hessian(fun)(V), jax.jacfwd(want)(V), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(bm.jit(fun)))(V), want(V), rtol=1e-6)
    for program in (bm.jacrev(fun), bm.jit(bm.jacrev(fun))):
        with pytest.raises(UnsupportedError, match=r"made for cpu.* is to run on tpu"):
            jax.export.export(jax.jit(lambda x, p=program: p(x)), platforms=["tpu"])(V)

    def nowhere(x):
        return lax.platform_dependent(x, tpu=jnp.sin, default=elsewhere_p.bind).sum()

    with pytest.raises(UnsupportedError, match="no derivative rule for primitive 'elsewhere'"):
        bm.vjp(nowhere, V)


def test_names_of_jax_belong_to_jax():
    """Another library's `sin` is not the sine, nor its `scan` a loop."""
    for name in ("sin", "scan"):
        doubled = primitive(name, lambda x: 2 * x, lambda x: x)
        ad.deflinear2(doubled, lambda ct, _: [2 * ct])
        batching.defvectorized(doubled)
        loss = lambda x, p=doubled: (p.bind(x) ** 2).sum()  # noqa: E731
        np.testing.assert_allclose(bm.grad(loss)(V), 8 * V, rtol=1e-6)
        np.testing.assert_allclose(bm.vmap(bm.grad(loss))(V[:, None]), 8 * V[:, None], rtol=1e-6)


def test_operands_that_are_linear_together():
    """As the bounds of random weights are: with both of them, but not with the vector."""

    def between(low, high, v):
        return low * v + (high - low) * v * v

    ramp_p = primitive("ramp", between, lambda low, high, v: jax.core.ShapedArray(v.shape, v.dtype))
    twice_p = primitive(
        "twice_ramp",
        lambda x, v: 2 * between(x, x, v),
        lambda x, v: jax.core.ShapedArray(v.shape, v.dtype),
    )

    def of_low(dlow, low, high, v):
        return ramp_p.bind(dlow, dlow, v) - ramp_p.bind(jnp.zeros_like(dlow), dlow, v)

    def transpose(ct, low, high, v):
        linear = [ad.is_undefined_primal(x) for x in (low, high, v)]
        if linear[2] and any(linear[:2]):
            raise NotImplementedError("bounds and vector together")
        return (
            ct * (v - v * v) if linear[0] else None,
            ct * v * v if linear[1] else None,
            None,
        )

    ad.defjvp(
        ramp_p,
        of_low,
        lambda dhigh, low, high, v: ramp_p.bind(jnp.zeros_like(dhigh), dhigh, v),
        None,
    )
    ad.primitive_transposes[ramp_p] = transpose
    # Its rule calls another primitive so, which knows nothing of that.
    other_p = primitive(
        "slope", between, lambda low, high, v: jax.core.ShapedArray(v.shape, v.dtype)
    )
    ad.primitive_transposes[other_p] = transpose
    ad.defjvp(twice_p, lambda dx, x, v: 2 * other_p.bind(dx, dx, v), None)

    x, y = jnp.array([0.5, 2.0]), jnp.array([1.5, -1.0])
    for fun, args in ((ramp_p.bind, (x, y)), (twice_p.bind, (x,))):
        loss = lambda *args, fun=fun: jnp.sum(jnp.sin(fun(*args, x)))  # noqa: E731
        argnums = tuple(range(len(args)))
        got, want = (lib.grad(loss, argnums=argnums)(*args) for lib in (bm, jax))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


# -- Lowerings that ask which devices they are for -------------------------------------------------


def test_custom_partitioning():
    @custom_partitioning
    def double_sin(x):
        return 2 * jnp.sin(x)

    double_sin.def_partition(
        infer_sharding_from_operands=lambda mesh, args, result: args[0].sharding,
        partition=lambda *_: None,  # Of one device nothing is asked.
        sharding_rule="i -> i",
    )

    @jax.custom_jvp
    def fun(x):
        return double_sin(x)

    fun.defjvp(lambda x, dx: (double_sin(x[0]), 2 * jnp.cos(x[0]) * dx[0]))
    x = jnp.arange(3.0)
    np.testing.assert_allclose(bm.jit(fun)(x), 2 * np.sin(x), rtol=1e-6)
    np.testing.assert_allclose(bm.grad(lambda x: fun(x).sum())(x), 2 * np.cos(x), rtol=1e-6)
    nested = bm.grad(lambda x: (bm.jit(fun)(x) ** 2).sum())
    np.testing.assert_allclose(nested(x), 4 * np.sin(2 * x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transform", [bm.jit, bm.grad, lambda f: jax.jit(jax.grad(bm.jit(f)))])
def test_inspected_shardings(transform):
    shardings = []

    def fun(x):
        jax.debug.inspect_array_sharding(x, callback=shardings.append)
        return jnp.sin(x).sum()

    transform(fun)(jnp.arange(3.0))
    (sharding,) = shardings
    assert sharding.is_fully_replicated


def test_errors_do_not_remember_where_they_were_raised_before():
    def rule(primals, tangents):
        raise LookupError("no rule today")

    f = jax.custom_jvp(jnp.sin)
    f.defjvp(rule)

    def first():
        bm.grad(lambda x: f(x) * 2)(0.5)

    def second():
        bm.grad(lambda x: f(x) * 3)(0.5)

    frames = []
    for call in (first, second):
        with pytest.raises(LookupError) as raised:
            call()
        frames.append([frame.name for frame in raised.traceback])
    assert "second" in frames[1]
    assert "first" not in frames[1]


# -- Primitives without a lowering -----------------------------------------------------------------

cube_p = Primitive("cube_in_numpy")
cube_p.def_impl(lambda x, *, scale: scale * np.asarray(x) ** 3)
cube_p.def_abstract_eval(lambda x, *, scale: x)
ad.defjvp(cube_p, lambda t, x, *, scale: 3 * scale * t * x**2)

parts_p = Primitive("parts_in_numpy")
parts_p.multiple_results = True
parts_p.def_impl(lambda x: [np.sin(x), np.cos(x)])
parts_p.def_abstract_eval(lambda x: [x, x])


@functools.partial(ad.primitive_jvps.__setitem__, parts_p)
def _parts_jvp(primals, tangents):
    sin, cos = parts_p.bind(*primals)
    return [sin, cos], [tangents[0] * cos, -tangents[0] * sin]


def test_what_has_only_an_implementation_runs_on_the_host():
    """JAX runs such primitives too, but for under `jit`."""

    def fun(x):
        sin, cos = parts_p.bind(x)
        return jnp.sum(cube_p.bind(x, scale=2.0) * sin + cos)

    def same(x):
        return jnp.sum(2 * x**3 * jnp.sin(x) + jnp.cos(x))

    x = np.array([0.3, -1.2])
    check_derivatives(fun, x, oracle=same, differences=False)
    np.testing.assert_allclose(bm.jit(fun)(x), same(x), rtol=1e-6)
    np.testing.assert_allclose(bm.grad(fun)(jnp.array(x)), jax.grad(fun)(jnp.array(x)), rtol=1e-6)


@pytest.mark.parametrize("has_implementation", [False, True])
def test_what_cannot_run_at_all_is_refused(has_implementation):
    absent_p = Primitive("absent")
    absent_p.def_abstract_eval(lambda x: x)
    if has_implementation:  # That is to compile its lowering.
        absent_p.def_impl(functools.partial(dispatch.apply_primitive, absent_p))
    with pytest.raises(UnsupportedError, match="no lowering for primitive 'absent'"):
        bm.jit(absent_p.bind)(1.0)


def test_parameters_that_are_equal_are_not_the_same():
    """1 and True, 0.0 and -0.0: those of one program are not another one's."""

    def implementation(x, *, k):
        factors = {int: 2, bool: 3, float: 4}
        return x * factors[type(k)] * math.copysign(1, k)

    made = primitive("scaled_by_its_type", implementation, lambda x, *, k: x)
    ad.deflinear2(made, lambda ct, x, *, k: [made.bind(ct, k=k)])
    for k, factor in ((1, 2), (True, 3), (1.0, 4), (0.0, 4), (-0.0, -4)):
        assert bm.grad(lambda x, k=k: made.bind(x, k=k))(1.0) == factor
        assert bm.grad(lambda x, k=k: made.bind(x, k=(k,)[0]))(1.0) == factor
