"""`_jax_internals.trace`: jaxprs whose inputs grow while they are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import bmgrad.math as bm
from bmgrad.runtime import _jax_internals as internals
from bmgrad.runtime._jax_internals import _tracing

F3 = jax.core.ShapedArray((3,), np.dtype("float32"))
F = jax.core.ShapedArray((), np.dtype("float32"))


class Variable:
    """The smallest state that behaves like the frontend's."""

    def __init__(self, value):
        self.value = jnp.asarray(value)
        self.open = []  # (trace, tracer), innermost trace last

    def read(self, trace):
        trace.on_read()
        if not self.open or self.open[-1][0] is not trace:
            self.open.append((trace, trace.lift(jax.typeof(self.value), "w")))
        return self.open[-1][1]

    def write(self, trace, tracer):
        trace.on_write()
        self.open[-1] = (trace, tracer)


def trace(fun, *avals, names=None):
    names = names or [f"x{i}" for i in range(len(avals))]
    return internals.trace(fun, avals, name="fun", arg_names=names)


def run(traced, *args):
    return jax.core.eval_jaxpr(traced.jaxpr, traced.consts, *args)


def test_lifted_inputs_follow_the_given_ones():
    def fun(t, x):
        w = t.lift(F3, "w")
        b = t.lift(F, "b")
        return [x * w + b]

    traced = trace(fun, F3, names=["x"])
    assert traced.in_names == ["x", "w", "b"]
    assert [a.shape for a in traced.in_avals] == [(3,), (3,), ()]
    assert [a.shape for a in traced.out_avals] == [(3,)]
    assert traced.consts == []
    (y,) = run(traced, jnp.ones(3), jnp.arange(3.0), 2.0)
    np.testing.assert_allclose(y, [2, 3, 4])


def test_lift_inside_scan_adds_an_input_of_the_outer_jaxpr():
    w = Variable(jnp.ones(3))

    def fun(t, x):
        def body(carry, _):
            return carry * w.read(t), None

        return [jax.lax.scan(body, x, None, length=4)[0]]

    traced = trace(fun, F3)
    assert len(traced.jaxpr.invars) == 2
    (y,) = run(traced, jnp.ones(3), jnp.full(3, 2.0))
    np.testing.assert_allclose(y, [16, 16, 16])


def test_concrete_arrays_come_back_as_consts():
    c = jnp.arange(3.0)
    traced = trace(lambda t, x: [x + c], F3)
    assert len(traced.consts) == 1
    assert len(traced.jaxpr.constvars) == 1
    assert len(traced.jaxpr.invars) == 1
    (y,) = run(traced, jnp.ones(3))
    np.testing.assert_allclose(y, [1, 2, 3])


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.linearize])
def test_outer_tracers_come_back_as_consts(transform):
    seen = []

    def outer(x):
        traced = trace(lambda t, y: [jnp.sum(y * x)], F)
        (const,) = traced.consts
        seen.append(isinstance(const, jax.core.Tracer))
        return run(traced, 2.0)[0]

    if transform is jax.linearize:
        transform(outer, jnp.float32(3))
    else:
        transform(outer)(jnp.ones(4) if transform is jax.vmap else jnp.float32(3))
    assert seen == [True]


def test_nests_in_itself():
    w = Variable(jnp.float32(3))
    inner_traced = []

    def inner(t, x):
        return [x * w.read(t)]

    def outer(t, x):
        outer_w = w.read(t)
        traced = trace(inner, F)
        w.open.pop()
        inner_traced.append(traced)
        return run(traced, x, outer_w)

    traced = trace(outer, F)
    assert [v.aval.shape for v in inner_traced[0].jaxpr.invars] == [(), ()]
    (y,) = run(traced, 5.0, 7.0)
    assert y == 35


def test_owns_no_tracers_of_inner_traces():
    seen = []

    def fun(t, x):
        assert t.owns(x)
        assert not t.owns(1.0)
        jax.vmap(lambda v: seen.append(t.owns(v)) or v)(x)

        def body(carry, _):
            seen.append(t.owns(carry))
            return carry, None

        return [jax.lax.scan(body, x, None, length=2)[0]]

    trace(fun, F3)
    assert seen == [False, False]


def test_leaked_tracer_gives_the_usual_error():
    leaked = []

    def fun(t, x):
        leaked.extend([x, t.lift(F3, "w"), t])
        return [x]

    trace(fun, F3, names=["x"])
    for tracer in leaked[:2]:
        with pytest.raises(jax.errors.UnexpectedTracerError):
            jnp.sin(tracer)
    with pytest.raises(RuntimeError, match="trace has finished"):
        leaked[2].lift(F3, "v")
    assert not leaked[2].owns(leaked[0])


def test_exceptions_pass_and_leave_jax_clean():
    def fun(t, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        trace(fun, F3)
    assert jnp.sin(0.0) == 0
    assert _tracing._epoch.open == []


def test_lifted_tracers_have_no_concrete_value():
    def fun(t, x):
        return [x if t.lift(F, "Linear0.w") > 0 else -x]

    with pytest.raises(jax.errors.TracerBoolConversionError):
        trace(fun, F3)


def test_inner_jit_that_reads_a_variable_is_never_stale():
    w = Variable(jnp.float32(0))
    traces = []

    @jax.jit
    def step(x):
        traces.append(None)
        return x + w.read(current[-1])

    current = []

    def fun(t, x):
        current.append(t)
        y = step(x)  # x + w
        y = step(y)  # from JAX's cache, right: w is the same
        w.write(t, x * 0 + 100.0)
        y = step(y)  # must not come from the cache
        w.open.clear()
        return [y]

    for _ in range(2):
        traces.clear()
        traced = trace(fun, F)
        assert len(traces) == 2
        assert len(traced.jaxpr.invars) == 2
        (y,) = run(traced, 1.0, 10.0)
        assert y == 1 + 10 + 10 + 100


def test_inner_jit_of_a_nested_trace_is_never_stale():
    w = Variable(jnp.float32(0))
    current = []

    @jax.jit
    def step(x):
        return x * w.read(current[-1])

    def inner(t, x):
        current.append(t)
        return [step(x)]

    def outer(t, x):
        current.append(t)
        y = step(x)
        traced = trace(inner, F)
        assert len(traced.jaxpr.invars) == 2  # w was lifted there, too
        current.pop()
        w.open.pop()
        (z,) = run(traced, x, w.read(t))
        return [y + z + step(x)]

    traced = trace(outer, F)
    assert len(traced.jaxpr.invars) == 2
    (y,) = run(traced, 2.0, 5.0)
    assert y == 30


def test_traces_without_inner_reads_share_what_jax_cached():
    traces = []

    @jax.jit
    def pure(x):
        traces.append(None)
        return x * 2

    for _ in range(3):
        trace(lambda t, x: [pure(x)], F)
    assert len(traces) == 1


def test_user_location_is_that_of_the_user():
    traced = trace(lambda t, x: [jnp.where(x > 0, x, t.lift(F3, "w"))], F3)
    lines = set()
    for eqn in traced.jaxpr.eqns:
        file, line, column = internals.user_location(eqn)
        assert file == __file__
        assert column > 0
        lines.add(line)
    assert len(lines) == 1


def test_user_location_of_nothing():
    class Eqn:
        class source_info:
            traceback = None

    assert internals.user_location(Eqn) is None


def test_avals():
    key = jax.typeof(jax.random.key(0))
    assert internals.physical_aval(key).dtype == np.uint32
    assert not internals.has_tangent(key)
    assert internals.has_tangent(F)
    assert internals.tangent_aval(jax.typeof(1)).dtype == jax.dtypes.float0
    assert internals.plain_aval(jax.typeof(1.0)).weak_type


def spike(place):
    step = jax.custom_jvp(lambda v: (v > 0) * 1.0)
    step.defjvp(lambda p, t: (step(*p), 2 * place(t[0])))
    return lambda x: step(place(x)) * x


def doubled_slope(place):
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (sine(x), x), lambda x, ct: (2 * jnp.cos(x) * ct,))
    return lambda x: sine(place(x))


def on_axis(x):
    return jax.reshard(x, PartitionSpec("i"))


# Functions, and the same without places.
PLACED = {
    "reshard": (lambda x: jnp.sin(on_axis(x)), jnp.sin),
    "out_sharding": (
        lambda x: jnp.einsum("i,j->ij", x, x, out_sharding=PartitionSpec("i")),
        lambda x: jnp.outer(x, x),
    ),
    "in a scan": (
        lambda x: jax.lax.scan(lambda c, _: (on_axis(c * x), None), on_axis(x), length=2)[0],
        lambda x: x**3,
    ),
    "in a rule": (spike(on_axis), spike(lambda x: x)),
    "before a rule": (doubled_slope(on_axis), doubled_slope(lambda x: x)),
}


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint, bm.jit])
def test_values_may_be_placed_on_a_mesh(name, wrap):
    placed, plain = PLACED[name]
    x = jnp.arange(3.0)
    first = jax.grad(lambda x: plain(x).sum())(x)
    second = jax.jacrev(jax.grad(lambda x: plain(x).sum()))(x)

    def fun(x):
        return wrap(placed)(x).sum()

    with jax.set_mesh(jax.make_mesh((1,), ("i",))):
        np.testing.assert_allclose(bm.grad(fun)(x), first, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(bm.grad(fun))(x), first, rtol=1e-6)
        np.testing.assert_allclose(bm.jacrev(bm.grad(fun))(x), second, rtol=1e-6)
        value, pull = bm.vjp(fun, x)
    # One that has the same axis, and another beside it.
    with jax.set_mesh(jax.make_mesh((1, 1), ("i", "j"))):
        np.testing.assert_allclose(bm.grad(fun)(x), first, rtol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(value))[0], first, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint, bm.jit])
def test_sharding_constraints_name_axes_of_the_mesh_around(wrap):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.arange(3.0)

    def fun(x):
        return jnp.sin(jax.lax.with_sharding_constraint(x, PartitionSpec("i"))).sum()

    with jax.set_mesh(mesh):
        np.testing.assert_allclose(bm.grad(wrap(fun))(x), jnp.cos(x), rtol=1e-6)
        with pytest.raises(ValueError, match="Resource axis: j"):
            bm.grad(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec("j")).sum())(x)
    with pytest.raises(RuntimeError, match="non-empty mesh"):
        bm.grad(lambda x: fun(x))(x)
