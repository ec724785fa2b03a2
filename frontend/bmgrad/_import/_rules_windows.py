"""Rules of convolutions, reductions over windows or by a computation, and Fourier transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from bmgrad._import._errors import Unsupported
from bmgrad._import._importer import open_jaxpr
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._rules_reduction import precisions
from bmgrad._import._text import Value, i64, i64_array

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def _lists(lists: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {i64_array(values)}" for name, values in lists.items())


@rule("conv_general_dilated")
def _convolution(b: Importer, eqn: Equation) -> Value:
    params = eqn.params
    if any(atom.aval.dtype == np.bool_ for atom in eqn.invars):
        return import_kernel(b, eqn)[0]
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


# -- Computations of one's own -------------------------------------------------------------------

# What joins the initial value with a named reduction of all elements, where that is the same to
# any order of derivative. Of maxima it is not: equal elements share their derivative otherwise.
_JOINS = {
    "add": ("bm.add", "bm.reduce_sum"),
    "mul": ("bm.mul", "bm.reduce_prod"),
    "and": ("bm.and", "bm.reduce_and"),
    "or": ("bm.or", "bm.reduce_or"),
    "xor": ("bm.xor", "bm.reduce_xor"),
}


def _joiner(jaxpr: Any) -> str | None:
    """The primitive that the computation of one array consists in."""
    if len(jaxpr.eqns) != 1 or len(jaxpr.invars) != 2 or jaxpr.constvars:
        return None
    (eqn,) = jaxpr.eqns
    operands = {id(atom) for atom in eqn.invars}
    whole = operands == {id(var) for var in jaxpr.invars} and jaxpr.outvars == eqn.outvars
    return str(eqn.primitive.name) if whole else None


def _fold(
    b: Importer, eqn: Equation, jaxpr: Any, consts: Sequence[Any], attributes: str
) -> list[Value]:
    def write(args: list[Value]) -> list[Value]:
        return b.evaluate(jaxpr, [b.module.capture(const) for const in consts], args)

    inputs = [*jaxpr.constvars, *jaxpr.invars][len(consts) :]
    body = b.module.body([b.type(var.aval) for var in inputs], write)
    if body.captures():
        raise Unsupported("its computation reads an array from outside; pass it in as an operand")
    types = [b.type(var.aval) for var in eqn.outvars]
    region = b.module.region(body, [])
    return b.multi_op(f"bm.{eqn.primitive.name}", b.read_all(eqn), types, attributes, [region])


@rule("reduce")
def _reduce(b: Importer, eqn: Equation) -> list[Value]:
    jaxpr, consts = open_jaxpr(eqn.params["jaxpr"])
    axes = f"axes = {i64_array(eqn.params['dimensions'])}"
    join = _JOINS.get(_joiner(jaxpr) or "")
    if join is None:
        return _fold(b, eqn, jaxpr, consts, axes)
    op, reduction = join
    x, init = b.read_all(eqn)
    type = b.type(eqn.outvars[0].aval)
    return [b.op(op, [b.spread(init, type.shape), b.op(reduction, [x], type, axes)], type)]


@rule("reduce_window")
def _reduce_window(b: Importer, eqn: Equation) -> list[Value]:
    jaxpr, attributes = eqn.params["jaxpr"], _windows(eqn.params)
    # Sums are linear; JAX makes them such only if it is told so by `jax.lax.add`.
    init = eqn.invars[-1]
    is_sum = _joiner(jaxpr) == "add" and jnp.issubdtype(init.aval.dtype, np.number)
    if is_sum and isinstance(init, Literal) and init.val == 0:
        x, type = b.read(eqn.invars[0]), b.type(eqn.outvars[0].aval)
        return [b.op("bm.reduce_window_sum", [x], type, attributes)]
    return _fold(b, eqn, jaxpr, eqn.params["consts"], attributes)


# -- Fourier transforms --------------------------------------------------------------------------


@rule("fft")
def _fft(b: Importer, eqn: Equation) -> Value:
    kind, lengths = eqn.params["fft_type"].name.lower(), eqn.params["fft_lengths"]
    attributes = f"kind = #bm<fft {kind}>, lengths = {i64_array(lengths)}"
    return b.op("bm.fft", b.read_all(eqn), b.type(eqn.outvars[0].aval), attributes)
