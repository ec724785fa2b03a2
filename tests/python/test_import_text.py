"""What the importer writes: ops, names, locations, functions, constants."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from import_helpers import imported, text

X = jnp.arange(1.0, 4.0)


def lines(fun, *args):
    """The ops of `@main`, one a line, without indentation."""
    body = text(fun, *args).split("func.func @main")[1].split("\n  }")[0]
    return [line.strip() for line in body.splitlines()[1:]]


# -- Elementwise ---------------------------------------------------------------------------------


def test_op_per_equation():
    assert lines(lambda x: jnp.sin(x) * x, X) == [
        "%0 = bm.sin %x0 : tensor<3xf32>",
        "%1 = bm.mul %0, %x0 : tensor<3xf32>",
        "return %1 : tensor<3xf32>",
    ]


def test_literals_and_small_operands_are_stretched():
    assert lines(lambda x, s: 2.0 * x + s, X, jnp.float32(1)) == [
        "%0 = bm.constant dense<2.000000e+00> : tensor<3xf32>",
        "%1 = bm.mul %0, %x0 : tensor<3xf32>",
        "%2 = bm.broadcast_in_dim %x1 dims = [] : (tensor<f32>) -> tensor<3xf32>",
        "%3 = bm.add %1, %2 : tensor<3xf32>",
        "return %3 : tensor<3xf32>",
    ]
    stretched = lines(lambda x, y: x * y, jnp.ones((2, 3)), jnp.ones((1, 3)))
    assert stretched[0] == (
        "%0 = bm.broadcast_in_dim %x1 dims = [0, 1] : (tensor<1x3xf32>) -> tensor<2x3xf32>"
    )


@pytest.mark.parametrize(
    ("fun", "dtype", "op"),
    [
        (lambda x: x**3, "f4", "bm.integer_pow %x0 {exponent = 3 : i64}"),
        (jnp.round, "f4", "bm.round_even"),
        (lambda x: jax.lax.round(x), "f4", "bm.round "),
        (lambda x: jax.lax.reduce_precision(x, 5, 10), "f4", "mantissa_bits = 10 : i32"),
        (
            lambda x: x.astype(jnp.int32),
            "f4",
            "bm.convert %x0 : (tensor<3xf32>) -> tensor<3xi32>",
        ),
        (lambda x: x.astype(bool), "f4", "bm.compare ne %x0"),
        (lambda x: x.view(jnp.int32), "f4", "bm.bitcast_convert"),
        (lambda x: x < 2, "f4", "bm.compare lt %x0"),
        (jax.lax.stop_gradient, "f4", "bm.stop_gradient"),
        (lambda x: jnp.where(x > 1, x, 0.0), "f4", "bm.select"),
        (lambda x: jax.lax.clamp(0.0, x, 2.0), "f4", "bm.clamp"),
        (lambda x: jnp.exp2(x), "f4", "bm.exp2"),
        (lambda x: ~x, "i4", "bm.not %x0 : tensor<3xi32>"),
        (lambda x: x >> 1, "u4", "bm.shift_right_logical"),
        (lambda x: jnp.conj(x), "c8", "bm.conj"),
        (lambda x: jax.lax.convert_element_type(x, jnp.float32), "c8", "bm.real"),
        (lambda x: jnp.abs(x), "c8", "(tensor<3xcomplex<f32>>) -> tensor<3xf32>"),
    ],
)
def test_elementwise_rules(fun, dtype, op):
    assert op in text(fun, np.ones(3, dtype))


def test_selection_among_several_cases():
    ir = text(lambda i, x: jax.lax.select_n(i, x, 2 * x, 3 * x), jnp.zeros(3, jnp.int32), X)
    assert ir.count("bm.compare gt") == 2
    assert ir.count("bm.select") == 2


# -- Constants -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (np.float32(0.1), "dense<1.000000e-01> : tensor<f32>"),
        (np.float64(-0.0), "dense<-0.000000e+00> : tensor<f64>"),
        (np.float32(np.inf), "dense<0x7F800000> : tensor<f32>"),
        (np.float32(1e-30), "dense<1.000000e-30> : tensor<f32>"),
        (np.float16(2), "dense<2.000000e+00> : tensor<f16>"),
        (ml_dtypes.bfloat16(3), "dense<3.000000e+00> : tensor<bf16>"),
        (np.bool_(True), "dense<true> : tensor<i1>"),
        (np.uint8(255), "dense<255> : tensor<ui8>"),
        (np.int64(-1), "dense<-1> : tensor<i64>"),
        (np.complex64(1 + 2j), "dense<(1.000000e+00,2.000000e+00)> : tensor<complex<f32>>"),
    ],
)
def test_scalar_constants(value, spelled):
    with jax.enable_x64(True):
        assert spelled in text(lambda x: (x, value), X)


def test_arrays_are_inputs_also_those_of_inner_functions():
    outer, inner = jnp.arange(100.0), jnp.arange(200.0)

    @jax.jit
    def function(x):
        def body(c, _):
            return c + jnp.sum(inner), None

        return jax.lax.scan(body, jnp.sin(jnp.cos(jnp.tan(x))), None, length=3)[0]

    program, consts, *_ = imported(lambda x: function(x) + outer[2], X)
    assert [id(c) for c in consts] == [id(outer), id(inner)]
    assert [aval.shape for aval in program.in_avals] == [(3,), (100,), (200,)]
    assert program.in_names == ("x0", "const0", "captured0")
    assert "dense" not in program.as_text("bm").replace("dense<2>", "")


def test_small_tables_are_constants():
    table = np.array([[1, 2], [3, 4]], np.int32)

    @jax.jit
    def function(x):
        return jnp.sin(jnp.cos(jnp.tan(x))) + jnp.sum(table)

    program, consts, *_ = imported(function, X)
    assert consts == []
    assert "bm.constant dense<" in program.as_text("bm")


# -- Names and locations -------------------------------------------------------------------------


def test_arguments_and_ops_say_where_they_come_from():
    fun = lambda w: jnp.sin(w)  # noqa: E731
    source = imported(fun, X, arg_names=['Linear0.w"\\']).program.source()
    assert 'loc("Linear0.w\\22\\5C")' in source
    line = fun.__code__.co_firstlineno
    assert re.search(rf'loc\("{re.escape(__file__)}":{line}:\d+\)', source)


def test_functions_keep_their_names_and_are_made_once():
    @jax.jit
    def layer(weights, x):
        return jnp.tanh(jnp.cos(jnp.sin(weights @ x)) + x)

    w = jnp.ones((3, 3))
    ir = text(lambda w, x: layer(w, layer(w, layer(w, x))), w, X)
    assert ir.count("func.func private @layer(") == 1
    assert ir.count("call @layer(") == 3
    # Another type, another function.
    ir = text(lambda w, x, v, y: (layer(w, x), layer(v, y)), w, X, jnp.ones((2, 2)), jnp.ones(2))
    assert "@layer(" in ir
    assert "@layer_1(" in ir
    source = imported(lambda w, x: layer(w, x), w, X).program.source()
    assert 'loc("weights")' in source


def test_tiny_functions_are_written_in_place():
    assert "call" not in text(lambda x: jnp.where(x > 0, x, 0.0), X)


def test_symbols_are_legal():
    first = jax.jit(lambda x: jnp.sin(jnp.cos(jnp.tan(jnp.sin(x)))))
    ir = text(lambda x: first(x), X, name="model <loss>")
    assert "module @model_loss" in ir
    assert "@lambda" in ir


# -- Calls, loops, branches ----------------------------------------------------------------------


def test_checkpoints_are_regions():
    from jax.ad_checkpoint import checkpoint_name

    only_s = jax.checkpoint_policies.save_only_these_names("s")
    ir = lines(jax.checkpoint(lambda x: checkpoint_name(jnp.sin(x), "s") * 2, policy=only_s), X)
    assert [word for line in ir for word in re.findall(r"bm\.(\w+)", line)] == [
        "remat",
        "sin",
        "saveable",
        "constant",
        "mul",
        "yield",
    ]


def test_scan():
    def body(carry, x):
        return carry * x + X, carry

    xs = jnp.ones((5, 3))
    ir = text(lambda c, xs: jax.lax.scan(body, c, xs, reverse=True), X, xs)
    assert "bm.scan consts(%const0) init(%x0) xs(%x1) length 5 reverse" in ir
    assert "-> (tensor<3xf32>, tensor<5x3xf32>)" in ir


def test_counted_loop_becomes_a_scan():
    assert "bm.scan" in text(lambda x: jax.lax.fori_loop(0, 7, lambda i, c: c * x, x), X)


def test_while():
    def fun(x, n):
        return jax.lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * x), (0, x))

    assert "bm.while cond_consts(%x1) body_consts(%x0) init(" in text(fun, X, jnp.int32(4))


def test_while_with_a_batched_predicate():
    def fun(x):
        return jax.lax.while_loop(lambda c: c < 10, lambda c: c * 2, x)

    ir = text(jax.vmap(fun), X)
    assert "bm.reduce_or" in ir
    assert "bm.select" in ir


def test_branches():
    wide = jnp.ones(20)

    def fun(i, x):
        return jax.lax.switch(
            i, [lambda x: jnp.sin(x), lambda x: x * jnp.sum(wide), lambda x: x], x
        )

    ir = text(fun, jnp.int32(1), X)
    assert re.search(r"bm.cond %\d+ ?\(%const0, %x1\)", ir)
    assert ir.count("bm.yield") == 3


# -- Random numbers and kernels ------------------------------------------------------------------


def test_keys_are_words():
    def fun(key):
        first, second = jax.random.split(key)
        return jax.random.normal(first, (3,)), jax.random.key_data(second)

    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        ir = text(fun, key) if key.dtype != np.uint32 else text(lambda k: jax.random.bits(k), key)
        assert "tensor<2xui32>" in ir
        assert 'name = "random_bits"' in ir


def test_other_primitives_are_kernels():
    ir = text(lambda x: jax.lax.linalg.hessenberg(jnp.outer(x, x)), X)
    assert 'name = "hessenberg"' in ir


def test_equal_kernels_share_a_number():
    hessenberg = jax.lax.linalg.hessenberg
    ir = text(lambda x: (hessenberg(jnp.outer(x, x)), hessenberg(jnp.outer(x, 2 * x))), X)
    numbers = re.findall(r"bm.kernel \{id = (\d+)", ir)
    assert len(numbers) == 2
    assert len(set(numbers)) == 1
