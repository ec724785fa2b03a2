"""Rules of elementwise primitives.

Those without parameters come from the records of the ops (`op_table()`); here are
the rest. Operands are stretched to the shape of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from bmgrad._import._module import Body
from bmgrad._import._registry import RULES, Equation, Rule, rule
from bmgrad._import._rules_custom import emit_custom_jvp, jvp_functions
from bmgrad._import._rules_kernel import kernel
from bmgrad._import._text import TensorType, Value, i32, i64, i64_array
from bmgrad.mlir import op_table

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer
    from bmgrad._import._registry import WithRule


@rule("mul")
def _mul(b: Importer, eqn: Equation) -> Value:
    # With `out_dtype` JAX converts the factors, not the product.
    type = b.type(eqn.outvars[0].aval)
    factors = (b.read_spread(atom, type.shape) for atom in eqn.invars)
    return b.op("bm.mul", [_converted(b, x, type) for x in factors], type)


@rule("integer_pow")
def _integer_pow(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    return b.op("bm.integer_pow", [x], x.type, f"exponent = {i64(eqn.params['y'])}")


@rule("sign")
def _sign(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    if not jnp.issubdtype(x.type.dtype, np.unsignedinteger):
        return b.op("bm.sign", [x], x.type)
    return b.op("bm.min", [x, b.constant(np.ones((), x.type.dtype), x.type.shape)], x.type)


@rule("round")
def _round(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    to_even = eqn.params["rounding_method"].name == "TO_NEAREST_EVEN"
    return b.op("bm.round_even" if to_even else "bm.round", [x], x.type)


@rule("reduce_precision")
def _reduce_precision(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    exponent, mantissa = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    attributes = f"exponent_bits = {i32(exponent)}, mantissa_bits = {i32(mantissa)}"
    return b.op("bm.reduce_precision", [x], x.type, attributes)


@rule("convert_element_type")
def _convert(b: Importer, eqn: Equation) -> Value:
    return _converted(b, b.read(eqn.invars[0]), b.type(eqn.outvars[0].aval))


def _converted(b: Importer, x: Value, type: TensorType) -> Value:
    if x.type == type:
        return x
    if type.dtype == np.bool_:
        # Whether it is not zero: a conversion would first cut off the fraction.
        zero = b.constant(np.zeros((), x.type.dtype), x.type.shape)
        return _compare_op(b, "ne", x, zero)
    if x.type.dtype.kind == "c" and type.dtype.kind != "c":
        real = np.finfo(x.type.dtype).dtype
        x = b.op("bm.real", [x], x.type.with_dtype(real))
        if x.type == type:
            return x
    return b.op("bm.convert", [x], type)


@rule("bitcast_convert_type")
def _bitcast(b: Importer, eqn: Equation) -> Value:
    return b.op("bm.bitcast_convert", b.read_all(eqn), b.type(eqn.outvars[0].aval))


@rule("conj")
def _conj(b: Importer, eqn: Equation) -> Value:
    x, type = b.read(eqn.invars[0]), b.type(eqn.outvars[0].aval)
    if x.type == type:
        return b.op("bm.conj", [x], type)
    return b.op("bm.convert", [x], type)


def _compare_op(
    b: Importer, direction: str, x: Value, y: Value, *, total_order: bool = False
) -> Value:
    attributes = f"direction = #bm<compare {direction}>" + (", total_order" if total_order else "")
    return b.op("bm.compare", [x, y], x.type.with_dtype(np.bool_), attributes)


def _comparison(direction: str, total_order: bool) -> Rule:
    def compare(b: Importer, eqn: Equation) -> Value:
        shape = eqn.outvars[0].aval.shape
        x, y = (b.read_spread(atom, shape) for atom in eqn.invars)
        return _compare_op(b, direction, x, y, total_order=total_order)

    return compare


for _direction in ("eq", "ne", "lt", "le", "gt", "ge"):
    rule(_direction)(_comparison(_direction, total_order=False))
for _direction in ("eq", "lt", "le"):
    rule(f"{_direction}_to")(_comparison(_direction, total_order=True))


@rule("select_n")
def _select_n(b: Importer, eqn: Equation) -> Value:
    which = b.read(eqn.invars[0])
    shape = eqn.outvars[0].aval.shape
    result, *others = (b.read_spread(atom, shape) for atom in eqn.invars[1:])
    if which.type.dtype == np.bool_:
        return _select(b, which, others[0], result) if others else result
    # Case i + 1 where the selector is above i.
    for i, case in enumerate(others):
        bound = b.constant(np.array(i, which.type.dtype), which.type.shape)
        result = _select(b, _compare_op(b, "gt", which, bound), case, result)
    return result


def _select(b: Importer, predicate: Value, on_true: Value, on_false: Value) -> Value:
    return b.op("bm.select", [predicate, on_true, on_false], on_true.type)


# Only in newer versions of JAX.


@rule("log2")
def _log2(b: Importer, eqn: Equation) -> Value:
    def scaled_log(x: Value) -> Value:
        scale = b.constant(np.array(1 / np.log(2)).astype(x.type.dtype), x.type.shape)
        return b.op("bm.mul", [b.op("bm.log", [x], x.type), scale], x.type)

    if eqn.params.get("accuracy") is not None:
        return _accurate(b, eqn, scaled_log)
    return scaled_log(b.read(eqn.invars[0]))


@rule("polynomial")
def _polynomial(b: Importer, eqn: Equation) -> Value:
    shape = eqn.outvars[0].aval.shape
    x, *coefficients = (b.read_spread(atom, shape) for atom in eqn.invars)
    result = coefficients.pop()
    for coefficient in reversed(coefficients):
        product = b.op("bm.mul", [result, x], result.type)
        result = b.op("bm.add", [product, coefficient], result.type)
    return result


# With a result accuracy, which the ops do not have.


def _accurate(b: Importer, eqn: Equation, write: Callable[[Value], Value]) -> Value:
    """JAX's kernel for the value, whose derivative is that of the op that `write` writes."""
    number, emit = kernel(b, eqn)
    type, name = b.type(eqn.outvars[0].aval), eqn.primitive.name
    key = ("accuracy", number)

    def make() -> tuple[Body, Body]:
        plain = b.module.new_symbol(f"{name}.plain")
        b.module.function(plain, b.module.body([type], lambda args: [write(*args)]), [])

        def jvp(values: list[Value]) -> list[Value]:
            attributes = f"callee = @{plain}, wrt = {i64_array([0])}"
            _, tangent = b.multi_op("bm.jvp", values, [type, type], attributes)
            return [*emit_custom_jvp(b, eqn, functions(), values[:1]), tangent]

        return b.module.body([type], emit), b.module.body([type, type], jvp)

    def functions() -> WithRule:
        return jvp_functions(b, name, key, make)

    return emit_custom_jvp(b, eqn, b.once((), functions, key), b.read_all(eqn))[0]


def _plain(op: str) -> Rule:
    """The rule of a primitive whose op has operands and nothing else."""

    def import_elementwise(b: Importer, eqn: Equation) -> Value:
        type = b.type(eqn.outvars[0].aval)
        for value in eqn.params.values():
            if value is not None:
                return _accurate(b, eqn, lambda x: b.op(op, [x], type))
        shape = type.shape
        return b.op(op, [b.read_spread(atom, shape) for atom in eqn.invars], type)

    return import_elementwise


for _record in op_table():
    if _record["family"] in ("elementwise", "special"):
        for _primitive in _record["primitives"]:
            if _primitive not in RULES:
                rule(_primitive)(_plain(_record["name"]))
