"""Rules of reductions, running reductions and contractions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._text import Value, i64, i64_array

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule(
    "reduce_sum",
    "reduce_prod",
    "reduce_max",
    "reduce_min",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
)
def _reduce(b: Importer, eqn: Equation) -> Value:
    axes, type = eqn.params["axes"], b.type(eqn.outvars[0].aval)
    return b.op(f"bm.{eqn.primitive.name}", b.read_all(eqn), type, f"axes = {i64_array(axes)}")


@rule("argmax", "argmin")
def _argument(b: Importer, eqn: Equation) -> Value:
    (axis,) = eqn.params["axes"]
    type = b.type(eqn.outvars[0].aval)
    return b.op(f"bm.{eqn.primitive.name}", b.read_all(eqn), type, f"axis = {i64(axis)}")


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _cumulative(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    attributes = f"axis = {i64(eqn.params['axis'])}"
    if eqn.params["reverse"]:
        attributes += ", reverse"
    return b.op(f"bm.{eqn.primitive.name}", [x], x.type, attributes)


@rule("dot_general")
def _dot_general(b: Importer, eqn: Equation) -> Value:
    (lhs_contract, rhs_contract), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    attributes = (
        f"lhs_batch = {i64_array(lhs_batch)}, rhs_batch = {i64_array(rhs_batch)}, "
        f"lhs_contract = {i64_array(lhs_contract)}, rhs_contract = {i64_array(rhs_contract)}"
    )
    precision = _precision(eqn.params["precision"])
    if precision is None:
        return import_kernel(b, eqn)[0]
    x, y = b.read_all(eqn)
    type = b.type(eqn.outvars[0].aval)
    return b.op("bm.dot_general", [x, y], type, attributes + precision)


def _precision(precision: Any) -> str | None:
    """The attributes for a `precision` parameter; None where the op has none."""
    if precision is None:
        return ""
    if isinstance(precision, tuple):
        return precisions(precision)
    algorithm = getattr(precision, "name", None)
    if algorithm is None or algorithm.startswith("ANY_F8"):
        return None
    if algorithm == "DEFAULT":
        return ""
    return f", algorithm = #bm<dot_algorithm {algorithm.lower()}>"


def precisions(pair: tuple[Any, Any]) -> str:
    """The attribute for the precisions of two operands."""
    names = ", ".join(f"#bm<precision {p.name.lower()}>" for p in pair)
    return f", precision = [{names}]"


@rule("sort")
def _sort(b: Importer, eqn: Equation) -> list[Value]:
    operands = b.read_all(eqn)
    params = eqn.params
    attributes = f"dimension = {i64(params['dimension'])}, num_keys = {i64(params['num_keys'])}"
    if params["is_stable"]:
        attributes += ", is_stable"
    return b.multi_op("bm.sort", operands, [x.type for x in operands], attributes)


@rule("top_k")
def _top_k(b: Importer, eqn: Equation) -> list[Value]:
    if eqn.invars[0].aval.dtype == np.bool_:
        return import_kernel(b, eqn)
    operands = b.read_all(eqn)
    types = [b.type(var.aval) for var in eqn.outvars]
    return b.multi_op("bm.top_k", operands, types, f"axis = {i64(eqn.params['axis'])}")


@rule("approx_top_k")
def _approx_top_k(b: Importer, eqn: Equation) -> list[Value]:
    params, types = eqn.params, [b.type(var.aval) for var in eqn.outvars]
    (operand,) = b.read_all(eqn)
    override = params["reduction_input_size_override"]
    axis = params["reduction_dimension"] % len(operand.type.shape)
    attributes = (
        f"k = {i64(params['k'])}, axis = {i64(axis)}, "
        f"recall_target = {float(params['recall_target'])!r} : f64, "
        f"is_max_k = {str(params['is_max_k']).lower()}, "
        f"reduction_input_size_override = {i64(override)}, "
        f"aggregate_to_topk = {str(params['aggregate_to_topk']).lower()}"
    )
    return b.multi_op("bm.approx_top_k", [operand], types, attributes)
