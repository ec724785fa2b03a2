"""Rules of slices, gathers and scatters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._text import TensorType, Value, dense, i64_array

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("slice")
def _slice(b: Importer, eqn: Equation) -> Value:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * len(start)
    attributes = (
        f"start_indices = {i64_array(start)}, limit_indices = {i64_array(limit)}, "
        f"strides = {i64_array(strides)}"
    )
    return b.op("bm.slice", b.read_all(eqn), b.type(eqn.outvars[0].aval), attributes)


@rule("dynamic_slice", "dynamic_update_slice")
def _dynamic(b: Importer, eqn: Equation) -> Value:
    type = b.type(eqn.outvars[0].aval)
    return b.op(f"bm.{eqn.primitive.name}", b.read_all(eqn), type)


@rule("gather")
def _gather(b: Importer, eqn: Equation) -> Value:
    params, type = eqn.params, b.type(eqn.outvars[0].aval)
    numbers = params["dimension_numbers"]
    attributes = _numbers(
        numbers,
        "offset_dims",
        "collapsed_slice_dims",
        "start_index_map",
        "operand_batching_dims",
        "start_indices_batching_dims",
    )
    attributes += f", slice_sizes = {i64_array(params['slice_sizes'])}" + _modes(params)
    if params["fill_value"] is not None:
        attributes += f", fill_value = {_scalar(params['fill_value'], type)}"
    return b.op("bm.gather", b.read_all(eqn), type, attributes)


@rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def _scatter(b: Importer, eqn: Equation) -> Value:
    params, type = eqn.params, b.type(eqn.outvars[0].aval)
    if eqn.primitive.name == "scatter" and not _replaces(params["update_jaxpr"]):
        return import_kernel(b, eqn)[0]
    attributes = _numbers(
        params["dimension_numbers"],
        "update_window_dims",
        "inserted_window_dims",
        "scatter_dims_to_operand_dims",
        "operand_batching_dims",
        "scatter_indices_batching_dims",
    )
    op = "bm." + eqn.primitive.name.replace("-", "_")
    return b.op(op, b.read_all(eqn), type, attributes + _modes(params))


def _replaces(update_jaxpr: Any) -> bool:
    """Whether the update is what comes in: `jax.lax.scatter_apply` has another function here."""
    return update_jaxpr is None or (
        not update_jaxpr.eqns and update_jaxpr.outvars[0] is update_jaxpr.invars[-1]
    )


def _numbers(numbers: Any, *names: str) -> str:
    return ", ".join(f"{name} = {i64_array(getattr(numbers, name))}" for name in names)


def _modes(params: Any) -> str:
    mode = params["mode"].name.lower()
    if mode not in ("clip", "fill_or_drop", "promise_in_bounds"):
        raise Unsupported(f"index mode {mode!r} is not supported; use 'clip', 'fill' or 'drop'")
    text = f", mode = #bm<index_mode {mode}>"
    for flag in ("indices_are_sorted", "unique_indices"):
        if params[flag]:
            text += f", {flag}"
    return text


def _scalar(value: Any, type: TensorType) -> str:
    return dense(np.asarray(value, type.dtype), type.with_shape(()))
