"""Rules of primitives that move elements: broadcast, reshape, concatenate, pad, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i64, i64_array

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("broadcast_in_dim")
def _broadcast_in_dim(b: Importer, eqn: Equation) -> Value:
    if len(eqn.invars) > 1:
        raise Unsupported("the result's shape is not known; give shapes as Python integers")
    shape = b.type(eqn.outvars[0].aval).shape
    return b.spread(b.read(eqn.invars[0]), shape, eqn.params["broadcast_dimensions"])


@rule("squeeze", "expand_dims")
def _squeeze(b: Importer, eqn: Equation) -> Value:
    return _to_shape(b, b.read(eqn.invars[0]), eqn.outvars[0].aval.shape)


@rule("reshape")
def _reshape(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    if eqn.params["dimensions"] is not None:
        x = _permute(b, x, eqn.params["dimensions"])
    return _to_shape(b, x, eqn.outvars[0].aval.shape)


def _to_shape(b: Importer, x: Value, shape: tuple[int, ...]) -> Value:
    return x if x.type.shape == shape else b.op("bm.reshape", [x], x.type.with_shape(shape))


@rule("transpose")
def _transpose(b: Importer, eqn: Equation) -> Value:
    return _permute(b, b.read(eqn.invars[0]), eqn.params["permutation"])


def _permute(b: Importer, x: Value, permutation: tuple[int, ...]) -> Value:
    type = x.type.with_shape(x.type.shape[i] for i in permutation)
    return b.op("bm.transpose", [x], type, f"permutation = {i64_array(permutation)}")


@rule("rev")
def _reverse(b: Importer, eqn: Equation) -> Value:
    x = b.read(eqn.invars[0])
    dimensions = i64_array(eqn.params["dimensions"])
    return b.op("bm.reverse", [x], x.type, f"dimensions = {dimensions}")


@rule("concatenate")
def _concatenate(b: Importer, eqn: Equation) -> Value:
    dimension = i64(eqn.params["dimension"])
    type = b.type(eqn.outvars[0].aval)
    return b.op("bm.concatenate", b.read_all(eqn), type, f"dimension = {dimension}")


@rule("stack")
def _stack(b: Importer, eqn: Equation) -> Value:
    axis, type = eqn.params["axis"], b.type(eqn.outvars[0].aval)
    shape = (*type.shape[:axis], 1, *type.shape[axis + 1 :])
    layers = [_to_shape(b, b.read(atom), shape) for atom in eqn.invars]
    return b.op("bm.concatenate", layers, type, f"dimension = {i64(axis)}")


@rule("split")
def _split(b: Importer, eqn: Equation) -> list[Value]:
    types = [b.type(var.aval) for var in eqn.outvars]
    attributes = f"sizes = {i64_array(eqn.params['sizes'])}, axis = {i64(eqn.params['axis'])}"
    return b.multi_op("bm.split", b.read_all(eqn), types, attributes)


@rule("unstack")
def _unstack(b: Importer, eqn: Equation) -> list[Value]:
    x, axis = b.read(eqn.invars[0]), eqn.params["axis"]
    count = x.type.shape[axis]
    if count == 0:
        return []
    shape = x.type.shape
    layer = x.type.with_shape((*shape[:axis], 1, *shape[axis + 1 :]))
    attributes = f"sizes = {i64_array([1] * count)}, axis = {i64(axis)}"
    layers = b.multi_op("bm.split", [x], [layer] * count, attributes)
    return [_to_shape(b, x, eqn.outvars[0].aval.shape) for x in layers]


@rule("tile")
def _tile(b: Importer, eqn: Equation) -> Value:
    x, reps = b.read(eqn.invars[0]), eqn.params["reps"]
    shape = [n for rep, size in zip(reps, x.type.shape, strict=True) for n in (rep, size)]
    spread = b.spread(x, tuple(shape), range(1, len(shape), 2))
    return _to_shape(b, spread, eqn.outvars[0].aval.shape)


@rule("pad")
def _pad(b: Importer, eqn: Equation) -> Value:
    low, high, interior = ([dim[i] for dim in eqn.params["padding_config"]] for i in range(3))
    attributes = (
        f"low = {i64_array(low)}, high = {i64_array(high)}, interior = {i64_array(interior)}"
    )
    return b.op("bm.pad", b.read_all(eqn), b.type(eqn.outvars[0].aval), attributes)


@rule("iota")
def _iota(b: Importer, eqn: Equation) -> Value:
    if eqn.invars:
        raise Unsupported("the result's shape is not known; give shapes as Python integers")
    type = b.type(eqn.outvars[0].aval)
    return b.op("bm.iota", [], type, f"dimension = {i64(eqn.params['dimension'])}")


@rule(
    "copy",
    "copy_p",
    "device_put",
    "layout_constraint",
    "name",
    "random_clone",
    "random_unwrap",
    "random_wrap",
    "reshard",
    "sharding_constraint",
    "stage",
    "xla_metadata_value",
    keys=True,
)
def _identity(b: Importer, eqn: Equation) -> list[Value]:
    # Where arrays lie is the caller's business: JAX places what goes in and comes out. What
    # metadata says is of an op, and passes may leave none.
    return b.read_all(eqn)
