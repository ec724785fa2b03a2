"""Rules of convolutions, reductions over windows and Fourier transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_reduction import precisions
from bmgrad._import._text import Value, i64, i64_array

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def _lists(lists: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {i64_array(values)}" for name, values in lists.items())


@rule("conv_general_dilated")
def _convolution(b: Importer, eqn: Equation) -> Value:
    params = eqn.params
    numbers = params["dimension_numbers"]
    attributes = _lists(
        {
            "lhs_dims": numbers.lhs_spec,
            "rhs_dims": numbers.rhs_spec,
            "out_dims": numbers.out_spec,
            "strides": params["window_strides"],
            "low": [low for low, _ in params["padding"]],
            "high": [high for _, high in params["padding"]],
            "lhs_dilation": params["lhs_dilation"],
            "rhs_dilation": params["rhs_dilation"],
        }
    )
    attributes += f", feature_groups = {i64(params['feature_group_count'])}"
    attributes += f", batch_groups = {i64(params['batch_group_count'])}"
    # Algorithms are for products of matrices; JAX ignores them here.
    if isinstance(params["precision"], tuple):
        attributes += precisions(params["precision"])
    return b.op("bm.convolution", b.read_all(eqn), b.type(eqn.outvars[0].aval), attributes)


# -- Windows -------------------------------------------------------------------------------------


def _windows(params: Any) -> str:
    """The attributes that say how windows lie over an array."""
    lists = {
        "window": params["window_dimensions"],
        "strides": params["window_strides"],
        "low": [low for low, _ in params["padding"]],
        "high": [high for _, high in params["padding"]],
    }
    for dilation in ("base_dilation", "window_dilation"):
        if dilation in params:
            lists[dilation] = params[dilation]
    return _lists(lists)


@rule("reduce_window_sum", "reduce_window_max", "reduce_window_min")
def _pooling(b: Importer, eqn: Equation) -> Value:
    type = b.type(eqn.outvars[0].aval)
    return b.op(f"bm.{eqn.primitive.name}", b.read_all(eqn), type, _windows(eqn.params))


@rule("select_and_gather_add", "select_and_scatter_add")
def _select(b: Importer, eqn: Equation) -> Value:
    attributes = _windows(eqn.params)
    if eqn.params["select_prim"].name == "le":
        attributes += ", least"
    type = b.type(eqn.outvars[0].aval)
    return b.op(f"bm.{eqn.primitive.name}", b.read_all(eqn), type, attributes)


# -- Fourier transforms --------------------------------------------------------------------------


@rule("fft")
def _fft(b: Importer, eqn: Equation) -> Value:
    kind, lengths = eqn.params["fft_type"].name.lower(), eqn.params["fft_lengths"]
    attributes = f"kind = #bm<fft {kind}>, lengths = {i64_array(lengths)}"
    return b.op("bm.fft", b.read_all(eqn), b.type(eqn.outvars[0].aval), attributes)
