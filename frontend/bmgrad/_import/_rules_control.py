"""Rules of loops and branches, which stay ops with regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i32_array, i64, i64_array
from bmgrad.runtime._jax_internals import scan_counts

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


def _captured(b: Importer, arrays: Sequence[Any]) -> list[Value]:
    return [b.module.capture(array) for array in arrays]


@rule("scan", keys=True)
def _scan(b: Importer, eqn: Equation) -> list[Value]:
    params = eqn.params
    num_consts, num_carries = scan_counts(params)
    body = b.body(params["jaxpr"])
    captures = body.captures()
    operands = [*_captured(b, captures), *b.read_all(eqn)]
    sizes = [len(captures) + num_consts, num_carries]
    segments = i32_array([*sizes, len(operands) - sum(sizes)])
    attributes = f"length = {i64(params['length'])}, operandSegmentSizes = {segments}"
    if params["reverse"]:
        attributes += ", reverse"
    types = [b.type(var.aval) for var in eqn.outvars]
    region = b.module.region(body, captures)
    return b.multi_op("bm.scan", operands, types, attributes, [region])


@rule("while", keys=True)
def _while(b: Importer, eqn: Equation) -> list[Value]:
    params, operands = eqn.params, b.read_all(eqn)
    cond_jaxpr, body_jaxpr = params["cond_jaxpr"], params["body_jaxpr"]
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, operands = operands[:num_cond], operands[num_cond:]
    body_consts, inits = operands[:num_body], operands[num_body:]
    # Under `jax.vmap` the predicate may be an array: run while any lane is active,
    # and leave the carries of those that are done as they are.
    lanes = cond_jaxpr.out_avals[0].shape

    def is_any_active(args: list[Value]) -> list[Value]:
        (active,) = b.evaluate_closed(cond_jaxpr, args)
        axes = i64_array(range(len(lanes)))
        scalar = active.type.with_shape(())
        return [b.op("bm.reduce_or", [active], scalar, f"axes = {axes}")]

    def advance_active(args: list[Value]) -> list[Value]:
        of_cond, of_body, carries = (
            args[:num_cond],
            args[num_cond : num_cond + num_body],
            args[num_cond + num_body :],
        )
        (active,) = b.evaluate_closed(cond_jaxpr, [*of_cond, *carries])
        after = b.evaluate_closed(body_jaxpr, [*of_body, *carries])
        return [_select_lanes(b, active, *pair) for pair in zip(after, carries, strict=True)]

    if lanes:
        cond_types = [b.type(aval) for aval in cond_jaxpr.in_avals]
        body_types = [b.type(aval) for aval in body_jaxpr.in_avals]
        cond = b.module.body(cond_types, is_any_active)
        body = b.module.body([*cond_types[:num_cond], *body_types], advance_active)
        body_consts = [*cond_consts, *body_consts]
    else:
        cond, body = b.body(cond_jaxpr), b.body(body_jaxpr)
    of_cond = [*_captured(b, cond.captures()), *cond_consts]
    of_body = [*_captured(b, body.captures()), *body_consts]
    segments = i32_array([len(of_cond), len(of_body), len(inits)])
    types = [value.type for value in inits]
    regions = [b.module.region(block, block.captures()) for block in (cond, body)]
    return b.multi_op(
        "bm.while",
        [*of_cond, *of_body, *inits],
        types,
        f"operandSegmentSizes = {segments}",
        regions,
    )


def _select_lanes(b: Importer, active: Value, new: Value, old: Value) -> Value:
    if active.type.shape != new.type.shape:
        active = b.spread(active, new.type.shape)
    return b.op("bm.select", [active, new, old], new.type)


@rule("cond", keys=True)
def _cond(b: Importer, eqn: Equation) -> list[Value]:
    index, *inputs = b.read_all(eqn)
    if index.type.dtype != np.int32:
        index = b.op("bm.convert", [index], index.type.with_dtype(np.int32))
    branches = [b.body(branch) for branch in eqn.params["branches"]]
    # Every branch takes what any of them captures.
    captures = list({id(a): a for branch in branches for a in branch.captures()}.values())
    operands = [index, *_captured(b, captures), *inputs]
    types = [b.type(var.aval) for var in eqn.outvars]
    regions = [b.module.region(branch, captures) for branch in branches]
    return b.multi_op("bm.cond", operands, types, "", regions)
