"""What `vjp` and `linearize` are told of their primals: not to be kept, without a tangent."""

import inspect
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

X = jnp.arange(12.0).reshape(3, 4) / 7
W = jnp.cos(jnp.arange(16.0)).reshape(4, 4)
IN_JAX = "in_nzs" in inspect.signature(jax.vjp).parameters


def layer(x, w):
    return jnp.sin(x) @ w, 2 * w, jnp.ones(2), jnp.arange(3)


def cotangents(out):
    return jax.tree.map(
        lambda x: np.zeros(x.shape, jax.dtypes.float0) if x.dtype == np.int32 else x + 1, out
    )


def same(ours, wanted):
    assert jax.tree.structure(ours) == jax.tree.structure(wanted)
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        assert jnp.result_type(x) == jnp.result_type(y)
        if x.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(x, y, rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_what_is_not_saved_is_given_back(wrap):
    out, plain_fn = bm.vjp(layer, X, W)
    want = plain_fn(cotangents(out))
    _, vjp_fn = wrap(lambda x, w: bm.vjp(layer, x, w, saveable_args=(True, False)))(X, W)
    assert len(jax.tree.leaves(vjp_fn.args_res)) == 0
    with pytest.raises(ValueError, match=r"not-saveable residuals args\[1\] were not given back"):
        vjp_fn(cotangents(out))
    vjp_fn.args_res[1] = W
    same(vjp_fn(cotangents(out)), want)


def test_nothing_is_saved_of_arguments():
    tree = {"a": [X, W], "b": namedtuple("Pair", "x y")(X, W)}

    def fun(tree):
        return (tree["a"][0] @ tree["a"][1] * (tree["b"].x @ tree["b"].y)).sum()

    _, plain_fn = bm.vjp(fun, tree)
    for flags in (False, (False,), ((False, (True, False)),), ({"a": False, "b": False},)):
        _, vjp_fn = bm.vjp(fun, tree, saveable_args=flags)
        with pytest.raises(ValueError, match=r"args\[0\]\['a'\]\[0\]"):
            vjp_fn(1.0)
        vjp_fn.args_res = [tree]
        same(vjp_fn(1.0), plain_fn(1.0))


@pytest.mark.parametrize("flags", [(True, False), (False, True), (False, False), False, True, None])
def test_primals_without_a_tangent(flags):
    out, vjp_fn = bm.vjp(layer, X, W, in_nzs=flags)
    _, jvp_fn = bm.linearize(layer, X, W, in_nzs=flags)
    moves = flags if isinstance(flags, tuple) else [flags is not False] * 2
    want_nzs = (any(moves), moves[1], False, False)
    assert vjp_fn.out_nzs == jvp_fn.out_nzs == want_nzs
    given = [x + 1 if flag else 0 * x for x, flag in zip((X, W), moves, strict=True)]
    same(jvp_fn(X + 1, W + 1), jax.jvp(layer, (X, W), tuple(given))[1])
    full = jax.vjp(layer, X, W)[1](cotangents(out))
    want = tuple(g if flag else 0 * g for g, flag in zip(full, moves, strict=True))
    same(vjp_fn(cotangents(out)), want)
    if IN_JAX:
        assert jax.vjp(layer, X, W, in_nzs=flags)[1].out_nzs == want_nzs
        same(jax.vjp(layer, X, W, in_nzs=flags)[1](cotangents(out)), want)


def test_rules_are_told_of_primals_without_a_tangent():
    @jax.custom_vjp
    def product(x, y):
        return x * y

    def fwd(x, y):
        assert (x.perturbed, y.perturbed) == (True, False)
        return x.value * y.value, y.value

    product.defvjp(fwd, lambda y, ct: (3 * ct * y, None), symbolic_zeros=True)
    assert bm.vjp(product, 2.0, 5.0, in_nzs=(True, False))[1](1.0) == (15, 0)


def test_references_without_a_tangent():
    ref, gradient = jax.new_ref(jnp.float32(3.0)), jax.new_ref(jnp.float32(0.0))
    _, vjp_fn = bm.vjp(lambda ref, x: ref[...] * x, ref, 2.0, in_nzs=(False, True))
    assert vjp_fn.with_refs(gradient, jax.ad.GradValue())(1.0)[1] == 3
    assert gradient[...] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((True,), "saveable_args has 1 entries.*number of children"),
        ((True, (True, True)), r"saveable_args\[1\] is a container of 2.*leaf"),
        ((1, True), r"saveable_args\[0\] must be a bool, or a tuple-tree of bools.* got 1"),
        (({"z": True}, True), r"saveable_args\[0\] is a dict with keys \['z'\]"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    first = {"a": X} if isinstance(flags[0], dict) else X
    with pytest.raises(ValueError, match=message):
        bm.vjp(lambda x, w: w.sum(), first, W, saveable_args=flags)
