"""Rules of collectives over named axes: `psum`, `all_gather`, `ppermute`, `axis_index`, ...

In: an equation that names one axis or several. Out: ops over one axis each, without tiles:
of several axes the last varies fastest, and a tiled dimension is cut by reshaping. Of an axis of
a mesh of one device nothing is left: there is one element to sum, gather or permute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_kernel import import_kernel
from bmgrad._import._text import TensorType, Value, i64, i64_array, string
from bmgrad.runtime._collectives import word_of
from bmgrad.runtime._jax_internals import axis_effect, named_axes, says_varying

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def _names(b: Importer, eqn: Equation) -> list[Any]:
    """The axes of an equation, slowest first, without those of one element."""
    names = eqn.params["axes"] if "axes" in eqn.params else eqn.params["axis_name"]
    if eqn.params.get("axis_index_groups") is not None:
        raise Unsupported("axis_index_groups are not supported; give a second named axis instead")
    names = names if isinstance(names, (tuple, list)) else [names]
    return [name for name in names if name not in b.in_rules.lone_axes]


def _name(b: Importer, eqn: Equation) -> Any:
    """The axis of an equation, or None for one of one element."""
    names = _names(b, eqn)
    if len(names) > 1:
        raise Unsupported(
            f"it is over the axes {', '.join(map(str, names))}, and supported over one; "
            "map over one axis of their joint size instead"
        )
    return names[0] if names else None


def _axis(b: Importer, name: Any) -> str:
    if says_varying(name):
        raise Unsupported(
            f"it is over the axis {name!r} of devices, and a program cannot tell which of its "
            "values differ between them; pass check_vma=False to the jax.shard_map around it"
        )
    # Of some collectives JAX does not say so.
    b.needs.effects.add(axis_effect(name))
    return f"axis = {string(word_of(name))}"


def _zero(b: Importer, type: TensorType) -> Value:
    return b.constant(np.zeros((), type.dtype), type.shape)


def _reduced(b: Importer, eqn: Equation, over_dims: str) -> Value:
    names = _names(b, eqn)
    (x,) = b.read_all(eqn)
    # JAX has dimensions of the operand among the names.
    dims = [name for name in names if isinstance(name, int)]
    if dims:
        type = b.type(eqn.outvars[0].aval)
        x = b.op(over_dims, [x], type, f"axes = {i64_array(sorted(dims))}")
    for name in names:
        if name not in dims:
            x = b.op(f"bm.{eqn.primitive.name}", [x], x.type, _axis(b, name))
    return x


@rule("psum")
def _psum(b: Importer, eqn: Equation) -> Value:
    return _reduced(b, eqn, "bm.reduce_sum")


@rule("pmax")
def _pmax(b: Importer, eqn: Equation) -> Value:
    return _reduced(b, eqn, "bm.reduce_max")


@rule("pmin")
def _pmin(b: Importer, eqn: Equation) -> Value:
    return _reduced(b, eqn, "bm.reduce_min")


@rule("ppermute")
def _ppermute(b: Importer, eqn: Equation) -> Value:
    (x,) = b.read_all(eqn)
    sources, destinations = ([pair[i] for pair in eqn.params["perm"]] for i in range(2))
    if any(len(set(each)) < len(each) for each in (sources, destinations)):
        raise Unsupported(
            f"its sources and destinations must be unique, got perm={list(eqn.params['perm'])}"
        )
    attributes = f"sources = {i64_array(sources)}, destinations = {i64_array(destinations)}"
    name = _name(b, eqn)
    if name is not None:
        return b.op("bm.ppermute", [x], x.type, f"{_axis(b, name)}, {attributes}")
    return x if sources else _zero(b, x.type)


@rule("pbroadcast", "pvary")
def _pbroadcast(b: Importer, eqn: Equation) -> Value:
    (x,) = b.read_all(eqn)
    if "source" not in eqn.params:
        return x  # What other versions call so changes a type that programs do not have.
    attributes = f"source = {i64(eqn.params['source'])}"
    name = _name(b, eqn)
    if name is None:
        return x
    return b.op("bm.pbroadcast", [x], x.type, f"{_axis(b, name)}, {attributes}")


@rule("axis_index")
def _axis_index(b: Importer, eqn: Equation) -> Value:
    type = b.type(eqn.outvars[0].aval)
    name = _name(b, eqn)
    return _zero(b, type) if name is None else b.op("bm.axis_index", [], type, _axis(b, name))


# What collectives are where `jax.shard_map` knows which values differ between devices, and
# conversions that only it knows.
@rule(
    "preduced",
    "psum_invariant",
    "reduced_vary_cast",
    "reduced_vary_cast_p",
    "unreduced_pmax",
    "unreduced_pmin",
    "unreduced_psum",
    "vary_unreduced_cast",
    "vary_unreduced_cast_p",
)
def _between_devices(b: Importer, eqn: Equation) -> list[Value]:
    return import_kernel(b, eqn) if _names(b, eqn) else b.read_all(eqn)


# -- The axis and a dimension ----------------------------------------------------------------------


def _sizes(names: Sequence[Any]) -> list[int]:
    bound = dict(named_axes())
    return [bound[name] for name in names]


def _over_dim(b: Importer, name: Any, dim: int) -> str:
    return f"{_axis(b, name)}, dimension = {i64(dim)}"


def _to_shape(b: Importer, x: Value, shape: Sequence[int]) -> Value:
    type = x.type.with_shape(shape)
    return x if type == x.type else b.op("bm.reshape", [x], type)


@rule("all_gather_invariant", "all_gather_reduced", "unreduced_reduce_scatter")
def _shaping_between_devices(b: Importer, eqn: Equation) -> list[Value]:
    if _names(b, eqn):
        return import_kernel(b, eqn)
    (x,) = b.read_all(eqn)
    return [_to_shape(b, x, eqn.outvars[0].aval.shape)]


@rule("all_gather")
def _all_gather(b: Importer, eqn: Equation) -> Value:
    (x,) = b.read_all(eqn)
    names, dim = _names(b, eqn), eqn.params["all_gather_dimension"]
    for name, size in reversed(list(zip(names, _sizes(names), strict=True))):
        type = x.type.with_shape((*x.type.shape[:dim], size, *x.type.shape[dim:]))
        x = b.op("bm.all_gather", [x], type, _over_dim(b, name, dim))
    return _to_shape(b, x, eqn.outvars[0].aval.shape)


@rule("reduce_scatter")
def _reduce_scatter(b: Importer, eqn: Equation) -> Value:
    (x,) = b.read_all(eqn)
    names, dim = _names(b, eqn), eqn.params["scatter_dimension"]
    sizes, shape, result = _sizes(names), x.type.shape, eqn.outvars[0].aval.shape
    rest = result[dim : dim + len(result) - len(shape) + 1]
    x = _to_shape(b, x, (*shape[:dim], *sizes, *rest, *shape[dim + 1 :]))
    for name in names:
        type = x.type.with_shape((*x.type.shape[:dim], *x.type.shape[dim + 1 :]))
        x = b.op("bm.reduce_scatter", [x], type, _over_dim(b, name, dim))
    return x


@rule("all_to_all")
def _all_to_all(b: Importer, eqn: Equation) -> Value:
    (x,) = b.read_all(eqn)
    names, shape = _names(b, eqn), x.type.shape
    split, concat = eqn.params["split_axis"], eqn.params["concat_axis"]
    sizes = _sizes(names)
    part = shape[split] // math.prod(sizes)
    x = _to_shape(b, x, (*shape[:split], *sizes, part, *shape[split + 1 :]))
    for i, name in enumerate(names):
        x = b.op("bm.all_to_all", [x], x.type, _over_dim(b, name, split + i))
    # What was received from whom goes before the dimension that is joined.
    received = list(range(split, split + len(names)))
    others = [d for d in range(len(x.type.shape)) if d not in received]
    permutation = [*others[:concat], *received, *others[concat:]]
    if permutation != sorted(permutation):
        type = x.type.with_shape(x.type.shape[d] for d in permutation)
        x = b.op("bm.transpose", [x], type, f"permutation = {i64_array(permutation)}")
    return _to_shape(b, x, eqn.outvars[0].aval.shape)
