"""`jax.checkpoint`: the derivatives are the same, and what is kept for them is what it says."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from import_helpers import imported, jax_flag
from jax.ad_checkpoint import checkpoint_name

import bmgrad.math as bm

X = jnp.linspace(0.1, 1.0, 4)
POLICIES = jax.checkpoint_policies


def layer(x):
    y = jnp.sin(x)
    z = checkpoint_name(jnp.exp(y), "z")
    return jnp.tanh(z * y) + x


def _loop(step):
    return lambda x: jax.lax.scan(lambda c, a: (step(c) * a, c), x, jnp.arange(1.0, 4.0))[0]


@jax.custom_vjp
def with_rule(x):
    return jnp.sin(x)


with_rule.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda r, ct: (ct * r,))

ONLY_Z = POLICIES.save_only_these_names("z")
FUNCTIONS = {
    "plain": jax.checkpoint(layer),
    "without barrier": jax.checkpoint(layer, prevent_cse=False),
    "barrier of one": jax.checkpoint(lambda x, y: layer(x) * y, prevent_cse=(True, False)),
    "named": jax.checkpoint(layer, policy=ONLY_Z),
    "everything": jax.checkpoint(layer, policy=POLICIES.everything_saveable),
    "nested": jax.checkpoint(lambda x: jnp.cos(jax.checkpoint(layer, policy=ONLY_Z)(x) ** 2)),
    "in a loop": _loop(jax.checkpoint(layer)),
    "around a loop": jax.checkpoint(_loop(layer)),
    "around a loop, named": jax.checkpoint(_loop(layer), policy=ONLY_Z),
    "around a branch": jax.checkpoint(
        lambda x: jax.lax.cond(x[0] < 0.5, lambda x: layer(x) * 2, jnp.cos, x), policy=ONLY_Z
    ),
    "around jit": jax.checkpoint(lambda x: jax.jit(layer)(x * 2), policy=ONLY_Z),
    "two results": jax.checkpoint(lambda x: jnp.sin(x)[:2] * (x * x).sum()),
    "an argument that is not differentiated": lambda x: jax.checkpoint(
        lambda x, n, flag: jnp.where(flag, x**n, layer(x))
    )(x, 3, x > 0.5),
    "offloaded": jax.checkpoint(
        layer,
        policy=POLICIES.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=["z"],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    ),
}


@pytest.mark.parametrize("fun", FUNCTIONS.values(), ids=FUNCTIONS)
def test_derivatives(fun):
    args = (X, X * 2) if fun is FUNCTIONS["barrier of one"] else (X,)
    # The oracle may not know how to offload on this platform.
    oracle = layer if fun is FUNCTIONS["offloaded"] else None
    check_derivatives(fun, *args, oracle=oracle)


@pytest.mark.parametrize("name", ["plain", "named", "around a loop, named"])
def test_batching(name):
    check_batching(FUNCTIONS[name], X)


def backward_region(fun, *args):
    """The ops of the one region that runs again in the gradient of `fun`, and its operands."""
    primal = imported(fun, *args).program
    program = primal.vjp(range(len(args)), range(len(primal.out_avals)))
    text = program.as_text("optimized")
    head = r"bm\.remat\(([^)]*)\) differentiated[^:]*: \(([^)]*)\)"
    ((operands, types, body),) = re.findall(head + r"[^{]*{\n(.*?)\n    }", text, re.DOTALL)
    return re.findall(r"bm\.(\w+)", body), len(operands.split(",")), types


KEPT_BY = {"an equation": contextlib.nullcontext, "an object": lambda: jax_flag("jax_remat3")}
by_equations_and_objects = pytest.mark.parametrize("by", KEPT_BY.values(), ids=KEPT_BY)


@by_equations_and_objects
def test_only_the_arguments_are_kept(by):
    with by():
        ops, num_operands, _ = backward_region(jax.checkpoint(layer), X)
    assert {"sin", "exp", "tanh", "cos"} <= set(ops)
    assert num_operands == 1


@by_equations_and_objects
def test_what_the_policy_names_is_kept(by):
    with by():
        ops, num_operands, _ = backward_region(FUNCTIONS["named"], X)
    assert "exp" not in ops
    assert "sin" in ops
    assert num_operands == 2


def test_products_of_matrices_are_kept():
    w = jnp.ones((4, 4))

    def two_layers(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w)

    ops, *_ = backward_region(jax.checkpoint(two_layers), X, w)
    assert ops.count("dot_general") == 2 + 4  # Two of them are those of the function.
    policies = (
        POLICIES.dots_saveable,
        POLICIES.dots_with_no_batch_dims_saveable,
        lambda prim, *avals, **params: prim is jax.lax.dot_general_p,
    )
    for policy in policies:
        ops, *_ = backward_region(jax.checkpoint(two_layers, policy=policy), X, w)
        assert ops.count("dot_general") == 4


def test_values_of_steps_are_kept():
    ops, _, types = backward_region(FUNCTIONS["around a loop, named"], X)
    assert "exp" not in ops
    assert "tensor<3x4xf32>" in types
    ops, _, types = backward_region(FUNCTIONS["around a loop"], X)
    assert "exp" in ops
    assert "tensor<3x4xf32>" not in types


def test_values_of_branches_are_kept():
    ops, *_ = backward_region(FUNCTIONS["around a branch"], X)
    assert "exp" not in ops


def test_less_memory_is_used():
    def deep(wrap):
        def fun(x):
            for _ in range(6):
                x = wrap(layer)(x)
            return x.sum()

        return jax.jit(bm.grad(fun)).lower(jnp.ones(10_000)).compile()

    def temporaries(wrap):
        return deep(wrap).memory_analysis().temp_size_in_bytes

    assert temporaries(jax.checkpoint) < 0.7 * temporaries(lambda f: f)


def test_effects_are_not_repeated(capfd):
    def fun(x):
        y = jnp.sin(x)
        jax.debug.print("once")
        return jnp.sin(y)

    bm.grad(lambda x: jax.checkpoint(fun)(x).sum())(X)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("once") == 1


def test_rules_of_functions_inside():
    np.testing.assert_allclose(
        bm.grad(lambda x: jax.checkpoint(lambda x: with_rule(jnp.exp(x)))(x).sum())(X),
        jnp.cos(jnp.exp(X)) * jnp.exp(X),
        rtol=1e-6,
    )


def test_rules_that_make_residuals_only_when_they_are_needed():
    """The function and its rule differ, so that it shows which of them is run."""
    fun = jax.custom_vjp(jnp.tan)
    fun.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (jnp.cos(x) * ct,), optimize_remat=True)
    for of in (fun, jax.vmap(fun), _loop(fun)):
        wrapped = jax.checkpoint(of)
        loss = lambda x, f=wrapped: (f(x) ** 2).sum()  # noqa: E731
        got, want = bm.value_and_grad(loss)(X), jax.value_and_grad(loss)(X)
        for ours, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_policies_that_say_nothing_are_refused():
    with pytest.raises(TypeError, match="must return a bool"):
        bm.grad(lambda x: jax.checkpoint(layer, policy=lambda *_, **__: "z")(x).sum())(X)


def test_barriers():
    def fun(x, y):
        x, n, y = jax.lax.optimization_barrier((jnp.sin(x), jnp.arange(4), y))
        return x * n * y

    check_derivatives(fun, X, X * 2)
    check_batching(fun, X, X * 2)
    program = imported(fun, X, X).program
    assert program.as_text("stablehlo").count("stablehlo.optimization_barrier") == 1
