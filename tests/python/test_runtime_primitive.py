"""The rules of `bmgrad_program`: what JAX does with a program inside its transforms."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runtime_programs import HandWritten, program

import bmgrad.math as bm
from bmgrad.runtime import _kernels
from bmgrad.runtime._primitive import bind, jitted, program_p
from bmgrad.runtime._types import tensor_type


def reference(x, y, n):
    """Float, float and integer in; float, integer and float out."""
    return jnp.sin(x) * y, n + 1, jnp.sum(x * y * y)


X, Y, N = jnp.arange(1.0, 4.0), jnp.linspace(0.5, 1.5, 3), jnp.int32(3)


@pytest.fixture(scope="module")
def prog():
    return program(reference, X, Y, N, name="loss.fun", in_names=["x", "y", "n"])


def loss(call):
    """A scalar function of floats through `call`, which is the program or its reference."""

    def fun(x, y):
        a, n, b = call(x, y, N)
        return jnp.sum(a * a) + b * n

    return fun


def close(got, want):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=2e-5), got, want)


def test_runs_eagerly_and_jitted(prog):
    want = list(reference(X, Y, N))
    close(bind(prog, X, Y, N), want)
    close(jax.jit(lambda *a: bind(prog, *a))(X, Y, N), want)
    close(jitted(prog)(X, Y, N), want)
    assert jitted(prog) is jitted(prog)


TRANSFORMS = {
    "grad": lambda f: jax.grad(f, argnums=(0, 1)),
    "grad of y": lambda f: jax.grad(f, argnums=1),
    "jit grad": lambda f: jax.jit(jax.grad(f, argnums=(0, 1))),
    "grad jit": lambda f: jax.grad(jax.jit(f), argnums=(0, 1)),
    "jvp": lambda f: lambda x, y: jax.jvp(f, (x, y), (y, x)),
    "jvp of x": lambda f: lambda x, y: jax.jvp(lambda x: f(x, y), (x,), (y,)),
    "jit jvp": lambda f: jax.jit(lambda x, y: jax.jvp(f, (x, y), (y, x))),
    "linearize": lambda f: lambda x, y: jax.linearize(f, x, y)[1](y, x),
    "hessian": lambda f: jax.hessian(f, argnums=(0, 1)),
    "jacfwd jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "jacrev jacrev": lambda f: jax.jacrev(jax.jacrev(f)),
    "third": lambda f: jax.jacfwd(jax.jacrev(jax.jacfwd(f))),
    "checkpoint": lambda f: jax.grad(jax.checkpoint(f)),
    "vmap": lambda f: lambda x, y: jax.vmap(f, (0, None))(jnp.stack([x, y, x, y]), y),
    "vmap axis 1": lambda f: lambda x, y: jax.vmap(f, (None, 1))(x, jnp.stack([x, y], 1)),
    "vmap vmap": lambda f: (
        lambda x, y: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(
            jnp.stack([x, y, x]), jnp.stack([x, y])
        )
    ),
    "vmap grad": lambda f: lambda x, y: jax.vmap(jax.grad(f))(jnp.stack([x, y]), jnp.stack([y, y])),
    "grad vmap": lambda f: (
        lambda x, y: jax.grad(lambda xs: jax.vmap(f, (0, None))(xs, y).sum())(jnp.stack([x, y]))
    ),
    "scan": lambda f: lambda x, y: jax.lax.scan(lambda c, t: (c + f(x, y * t), c), 0.0, X)[0],
    "grad scan": lambda f: jax.grad(
        lambda x, y: jax.lax.scan(lambda c, t: (c + f(x * c, y * t), c), 1.0, X)[0], (0, 1)
    ),
    "grad cond": lambda f: jax.grad(
        lambda x, y: jax.lax.cond(x[0] > 0, f, lambda x, y: 0.0, x, y), (0, 1)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_agree_with_jax(prog, name):
    transform = TRANSFORMS[name]
    got = transform(loss(lambda *a: bind(prog, *a)))(X, Y)
    close(got, transform(loss(reference))(X, Y))


def test_linear_program_is_linear_all_the_way(prog):
    """jvp and transpose of the linear program need no further derivative of it."""
    lin = prog.linearize((True, False, False)).lin
    _, vjp = jax.vjp(lambda x: bind(prog, x, Y, N)[0], X)
    close(jax.linear_transpose(vjp, X)((X,)), (jnp.cos(X) * Y * X,))
    residuals = [jnp.ones(a.shape, a.dtype) for a in lin.in_avals[: lin.num_residuals]]
    assert "linearize" not in {key[0] for key in lin._memo}
    jax.jvp(lambda dx: bind(lin, *residuals, dx), (X,), (X,))
    assert "linearize" not in {key[0] for key in lin._memo}


def test_nans_that_jax_is_asked_to_find():
    """A program is one operation to `jax.debug_nans`, which runs functions one by one then."""
    for fun in (lambda x: x / x, jax.jit(lambda x: x / x)):
        with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"nan.*lambda.vjp"):
            bm.grad(fun)(0.0)
        assert float(bm.grad(fun)(2.0)) == 0


def test_integer_cotangents_are_not_passed_on(prog):
    _, pull = jax.vjp(lambda x: bind(prog, x, Y, N), X)
    (ct,) = pull([jnp.ones(3), np.zeros((), jax.dtypes.float0), jnp.float32(0)])
    close(ct, jnp.cos(X) * Y)


def test_unused_results_have_no_cotangent(prog):
    def second_only(x):
        return bind(prog, x, Y, N)[2]

    close(jax.grad(second_only)(X), Y * Y)
    lin = prog.linearize((True, False, False)).lin
    second, _ = lin.pruned((False, True))
    assert ("transpose", (True,), (True,)) in second._memo


def test_wrong_inputs_are_named(prog):
    with pytest.raises(TypeError, match=r"loss.fun was compiled for y of type .*f.*3.* but .*2"):
        bind(prog, X, jnp.ones(2), N)
    with pytest.raises(TypeError, match="takes 3 arrays, but 2"):
        bind(prog, X, Y)


def test_weak_types_survive():
    double = program(lambda x: (x * 2,), 1.0)
    assert double.out_avals[0].weak_type
    (y,) = bind(double, 1.0)
    assert jax.typeof(y).weak_type
    assert (jnp.bfloat16(1) * y).dtype == jnp.bfloat16


def test_prng_keys_are_their_words():
    key = jax.random.key(7)
    prog = HandWritten(
        "func.func @main(%k: tensor<2xui32>) -> (tensor<2xui32>, tensor<2xui32>) {"
        "  return %k, %k : tensor<2xui32>, tensor<2xui32> }",
        [jax.typeof(key)],
        [jax.typeof(key), jax.core.ShapedArray((2,), np.dtype("uint32"))],
        name="words",
        in_names=["key"],
    )
    same, words = bind(prog, key)
    assert same.dtype == key.dtype
    close(words, jax.random.key_data(key))


def test_exports_and_runs_without_us(prog):
    fun = jax.grad(loss(lambda *a: bind(prog, *a)), (0, 1))
    exported = jax.export.export(jax.jit(fun), platforms=("cpu", "cuda", "tpu"))(X, Y)
    loaded = jax.export.deserialize(exported.serialize(vjp_order=1))
    close(loaded.call(X, Y), jax.grad(loss(reference), (0, 1))(X, Y))
    assert "custom_call" not in exported.mlir_module()


def test_one_program_is_lowered_once_per_module(prog):
    def twice(x, y):
        a, n, b = bind(prog, x, y, N)
        return [*bind(prog, a, y, n), b]

    text = jax.jit(twice).lower(X, Y).as_text()
    assert text.count("stablehlo.sine") == 1
    close(jax.jit(twice)(X, Y)[1], N + 2)


def test_importers_can_recognise_it(prog):
    jaxpr = jax.make_jaxpr(lambda *a: bind(prog, *a))(X, Y, N)
    (eqn,) = jaxpr.jaxpr.eqns
    assert eqn.primitive is program_p
    assert eqn.params["program"] is prog


def vmapped_kernel_text(number):
    return f"""
      func.func private @bm_kernel_{number}(tensor<4x3xf32>, tensor<3xf32>) -> tensor<4x3xf32>
        attributes {{bm.in_axes = [array<i64: 0, -1>]}}
      func.func private @bm_kernel_{number}_1(tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
      func.func private @helper(%x: tensor<4x3xf32>, %y: tensor<3xf32>) -> tensor<4x3xf32> {{
        %0 = call @bm_kernel_{number}(%x, %y) : (tensor<4x3xf32>, tensor<3xf32>) -> tensor<4x3xf32>
        return %0 : tensor<4x3xf32>
      }}
      func.func @main(%x: tensor<4x3xf32>, %y: tensor<3xf32>) -> tensor<4x3xf32> {{
        %0 = call @bm_kernel_{number}_1(%y, %y) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
        %1 = call @helper(%x, %0) : (tensor<4x3xf32>, tensor<3xf32>) -> tensor<4x3xf32>
        %2 = call @helper(%1, %0) : (tensor<4x3xf32>, tensor<3xf32>) -> tensor<4x3xf32>
        return %2 : tensor<4x3xf32>
      }}"""


def test_kernels_are_lowered_by_jax():
    f3 = jax.typeof(X)
    number = _kernels.register(jax.lax.atan2_p, {}, [f3, f3])
    assert _kernels.register(jax.lax.atan2_p, {}, [f3, f3]) == number
    assert _kernels.register(jax.lax.atan2_p, {}, [f3, jax.typeof(1.0)]) != number
    f43 = jax.core.ShapedArray((4, 3), f3.dtype)
    prog = HandWritten(
        vmapped_kernel_text(number), [f43, f3], [f43], name="hand", in_names=["x", "y"]
    )
    rows = jnp.stack([X, Y, Y, X])

    def want(x, y):
        y = jnp.arctan2(y, y)
        return jnp.arctan2(jnp.arctan2(x, y), y)

    def twice(x, y):
        return bind(prog, bind(prog, x, y)[0], y)[0]

    close(twice(rows, Y), want(want(rows, Y), Y))
    close(jax.jit(twice)(rows, Y), want(want(rows, Y), Y))
    exported = jax.export.export(jax.jit(twice), platforms=("cpu", "tpu"))(rows, Y)
    close(exported.call(rows, Y), want(want(rows, Y), Y))
    text = jax.jit(twice).lower(rows, Y).as_text()
    assert text.count("func.func private @bm_kernel") == 2


def test_kernels_differ_by_platform():
    """`eigh` is a LAPACK call on CPU and another one on each other platform."""
    square = jnp.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 4]])
    avals = [jax.typeof(square)]
    params = {
        "algorithm": None,
        "lower": True,
        "sort_eigenvalues": True,
        "subset_by_index": None,
    }
    number = _kernels.register(jax.lax.linalg.eigh_p, params, avals)
    outs = [jax.typeof(x) for x in _kernels.get(number)(square)]
    types = ", ".join(tensor_type(a) for a in outs)
    text = f"""
      func.func private @bm_kernel_{number}(tensor<3x3xf32>) -> ({types})
      func.func @main(%x: tensor<3x3xf32>) -> ({types}) {{
        %0:2 = call @bm_kernel_{number}(%x) : (tensor<3x3xf32>) -> ({types})
        return %0#0, %0#1 : {types}
      }}"""
    prog = HandWritten(text, avals, outs, name="eigh", in_names=["x"])
    close(bind(prog, square), _kernels.get(number)(square))
    exported = jax.export.export(jitted(prog), platforms=("cpu", "cuda"))(square)
    assert {"lapack_ssyevd_ffi", "cusolver_syevd_ffi"} <= set(
        re.findall(r"@(\w+_ffi)", exported.mlir_module())
    )
    close(exported.call(square), _kernels.get(number)(square))


def test_unknown_declarations_are_refused():
    text = "func.func private @other() func.func @main(%x: tensor<f32>) -> tensor<f32> {"
    aval = jax.core.ShapedArray((), np.dtype("float32"))
    prog = HandWritten(text + "return %x : tensor<f32> }", [aval], [aval], name="bad", in_names="x")
    with pytest.raises(ValueError, match="@other, which is not a kernel"):
        bind(prog, 1.0)


SHARD_MAP = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from bmgrad.runtime._primitive import bind
from bmgrad.runtime._jax_internals import plain_aval, trace
from runtime_programs import program
prog = program(lambda x, y: (jnp.sin(x) * y, jnp.sum(x * y)), jnp.ones(2), jnp.ones(2))
mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
def fun(x, y):
    a, b = bind(prog, x, y)
    return a * jax.lax.psum(b, "i")
def total(bound):
    mapped = jax.shard_map(bound, mesh=mesh, in_specs=(P("i"), P()), out_specs=P("i"))
    return lambda x, y: mapped(x, y).sum()
def want(x, y):
    y2 = jnp.concatenate([y, y])
    return (jnp.sin(x) * y2 * jnp.sum(x * y2)).sum()
x, y = jnp.arange(4.0), jnp.array([1.5, 2.0])
def close(got, want):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5), got, want)
close(total(fun)(x, y), want(x, y))
got = jax.jit(jax.grad(total(fun), (0, 1)))(x, y)
close(got, jax.grad(want, (0, 1))(x, y))
sharded = jax.device_put(jnp.arange(4.0).reshape(2, 2), jax.NamedSharding(mesh, P("i")))
each = jax.jit(jax.vmap(lambda x: bind(prog, x, y)[0]))(sharded)
assert len(each.sharding.device_set) == 2 and not each.sharding.is_fully_replicated
explicit = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
rows = jax.device_put(jnp.arange(4.0).reshape(2, 2), jax.NamedSharding(explicit, P("i")))
loss = lambda bound: lambda rows, y: jax.vmap(bound, (0, None))(rows, y)[0].sum()
with jax.set_mesh(explicit):
    got = jax.jit(jax.grad(loss(lambda *a: bind(prog, *a)), (0, 1)))(rows, y)
close(got, jax.grad(loss(prog.fun), (0, 1))(np.asarray(rows), y))
def tracing(x, y):
    seen = trace(lambda t, x: [jnp.where(x > 1, x, t.lift(plain_aval(jax.typeof(y)), "y")) * 2],
                 [plain_aval(jax.typeof(x))], name="f", arg_names=["x"])
    ones = [np.ones(a.shape, a.dtype) for a in seen.in_avals]
    return bind(program(lambda *a: jax.core.eval_jaxpr(seen.jaxpr, [], *a), *ones), x, y)
mapped = jax.shard_map(tracing, mesh=mesh, in_specs=(P("i"), P()), out_specs=[P("i")])
close(mapped(x, y)[0], np.array([3, 4, 4, 6.0]))
"""


def test_shard_map_and_sharded_arrays():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", SHARD_MAP], check=True, env=env)


class TestUnusedInputs:
    """JAX leaves out what no result depends on, as it does around its own operations."""

    @staticmethod
    def parameters(fun, *args):
        text = jax.jit(fun).lower(*args).as_text()
        return text.split("@main(")[1].split(") ->")[0].count("%arg")

    def test_inputs_that_the_derivative_does_not_read(self):
        x = jnp.ones(3)
        gradient = bm.grad(lambda a, b: (a * a + b).sum())
        assert self.parameters(lambda a, b: gradient(a, b), x, x) == 1
        np.testing.assert_allclose(jax.jit(lambda a, b: gradient(a, b))(x, x), 2 * x)

    def test_inputs_of_results_that_nobody_takes(self):
        x = jnp.ones(3)
        gradient = bm.grad(lambda a, b: (a * a + b).sum(), return_value=True)
        assert self.parameters(lambda a, b: gradient(a, b), x, x) == 2
        assert self.parameters(lambda a, b: gradient(a, b)[0], x, x) == 1

    def test_what_is_left_can_be_differentiated(self):
        gradient = bm.grad(lambda a, b: (a**3 + b).sum())
        checked = jax.checkpoint(lambda a, b: gradient(a, b).sum())
        second = jax.jit(jax.grad(checked, argnums=(0, 1)))(jnp.full(3, 2.0), jnp.ones(3))
        np.testing.assert_allclose(second[0], 12.0)
        np.testing.assert_allclose(second[1], 0.0)

    def test_a_custom_rule_may_need_what_the_value_does_not(self):
        @jax.custom_vjp
        def one(x):
            return jnp.ones_like(x)

        one.defvjp(lambda x: (jnp.ones_like(x), x), lambda x, ct: (ct * x,))
        compiled = bm.jit(one)
        assert self.parameters(lambda x: compiled(x), 3.0) == 1
        np.testing.assert_allclose(jax.grad(lambda x: compiled(x))(3.0), 3.0)
