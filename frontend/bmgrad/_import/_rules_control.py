"""Rules of loops and branches, which stay ops with regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._logs import of_branches, saying_which
from bmgrad._import._references import split_references
from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i32_array, i64, i64_array
from bmgrad.runtime._jax_internals import (
    gives_references_to_rules,
    has_tangent,
    keeps_order,
    on_whole,
    scan_counts,
)

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer
    from bmgrad._import._module import Body


def _captured(b: Importer, arrays: Sequence[Any]) -> list[Value]:
    return [b.module.capture(array) for array in arrays]


@rule("scan", keys=True)
def _scan(b: Importer, eqn: Equation) -> list[Value]:
    params = eqn.params
    num_consts, num_carries = scan_counts(params)
    given = b.read_operands(eqn)
    # JAX lets a loop have references as constants and scan them, but not carry them.
    if scanned := [i for i in split_references(given)[1] if i >= num_consts]:
        if gives_references_to_rules(params["jaxpr"].jaxpr):
            raise Unsupported(
                "what it scans of a reference (jax.new_ref) from outside is given to a function "
                "with a derivative rule (jax.custom_vjp, custom_jvp); close over the reference, "
                "give it to the function as a whole, and index it there"
            )
        return b.evaluate_closed(on_whole(eqn, scanned), given)
    closed, values = b.bind(params["jaxpr"], given)
    num_consts -= len(given) - len(values)
    body = b.body(closed)
    captures, slots = body.captures(), []
    if logs := b.logs_here:
        slots = logs.slots_among(captures)
        captures = [array for array in captures if not logs.slots_among([array])]
        b.module.take_as_arguments(body, slots)
        slots = [logs.stacked(slot, params["length"]) for slot in slots]
    operands = [*_captured(b, captures), *values, *_captured(b, slots)]
    sizes = [len(captures) + num_consts, num_carries]
    segments = i32_array([*sizes, len(operands) - sum(sizes)])
    attributes = f"length = {i64(params['length'])}, operandSegmentSizes = {segments}"
    if params["reverse"]:
        attributes += ", reverse"
    # Zero steps a turn is JAX's word for all steps.
    if (unroll := params["unroll"] or params["length"]) > 1:
        attributes += f", unroll = {i64(unroll)}"
    types = [b.type(var.aval) for var in eqn.outvars]
    region = b.module.region(body, captures)
    return b.multi_op("bm.scan", operands, types, attributes, [region])


@rule("while", keys=True)
def _while(b: Importer, eqn: Equation) -> list[Value]:
    params, operands = eqn.params, b.read_operands(eqn)
    num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
    first = num_cond + num_body
    of_cond = [*operands[:num_cond], *operands[first:]]
    cond_jaxpr, given = b.bind(params["cond_jaxpr"], of_cond)
    num_cond = len(given) - len(operands[first:])
    cond_consts = given[:num_cond]
    body_jaxpr, given = b.bind(params["body_jaxpr"], operands[params["cond_nconsts"] :])
    num_body = len(given) - len(operands[first:])
    body_consts, inits = given[:num_body], given[num_body:]
    # Under `jax.vmap` the predicate may be an array: run while any lane is active,
    # and leave the carries of those that are done as they are.
    lanes = cond_jaxpr.out_avals[0].shape
    if not lanes and not keeps_order(cond_jaxpr.effects):
        blocks = b.body(cond_jaxpr), b.body(body_jaxpr)
        return _write_while(b, blocks, cond_consts, body_consts, inits)

    # The predicate is a carry, computed once a step, in the body: effects that keep an order
    # may be there only.
    def is_any_active(args: list[Value]) -> list[Value]:
        active = args[0]
        if not lanes:
            return [active]
        axes = i64_array(range(len(lanes)))
        return [b.op("bm.reduce_or", [active], active.type.with_shape(()), f"axes = {axes}")]

    def advance(args: list[Value]) -> list[Value]:
        of_cond, args = args[:num_cond], args[num_cond:]
        of_body, (active, *carries) = args[:num_body], args[num_body:]
        after = b.evaluate_closed(body_jaxpr, [*of_body, *carries])
        if lanes:
            pairs = zip(after, carries, strict=True)
            after = [_select_lanes(b, active, *pair) for pair in pairs]
        return [*b.evaluate_closed(cond_jaxpr, [*of_cond, *after]), *after]

    (first,) = b.evaluate_closed(cond_jaxpr, [*cond_consts, *inits])
    body_consts, inits = [*cond_consts, *body_consts], [first, *inits]
    types = [[value.type for value in values] for values in (body_consts, inits)]
    cond = b.module.body(types[1], is_any_active)
    body = b.module.body([*types[0], *types[1]], advance)
    return _write_while(b, (cond, body), [], body_consts, inits)[1:]


def _write_while(
    b: Importer,
    blocks: tuple[Body, Body],
    cond_consts: list[Value],
    body_consts: list[Value],
    inits: list[Value],
) -> list[Value]:
    captures = [block.captures() for block in blocks]
    of_cond = [*_captured(b, captures[0]), *cond_consts]
    of_body = [*_captured(b, captures[1]), *body_consts]
    segments = i32_array([len(of_cond), len(of_body), len(inits)])
    return b.multi_op(
        "bm.while",
        [*of_cond, *of_body, *inits],
        [value.type for value in inits],
        f"operandSegmentSizes = {segments}",
        [b.module.region(*pair) for pair in zip(blocks, captures, strict=True)],
    )


def _select_lanes(b: Importer, active: Value, new: Value, old: Value) -> Value:
    if active.type.shape != new.type.shape:
        active = b.spread(active, new.type.shape)
    return b.op("bm.select", [active, new, old], new.type)


@rule("cond", keys=True)
def _cond(b: Importer, eqn: Equation) -> list[Value]:
    index, operands = b.read(eqn.invars[0]), b.read_operands(eqn)[1:]
    bound = [b.bind(branch, operands) for branch in eqn.params["branches"]]
    inputs = bound[0][1]
    if index.type.dtype != np.int32:
        index = b.op("bm.convert", [index], index.type.with_dtype(np.int32))
    branches, logged = [], []
    for branch, _ in bound:
        with b.logged() as logs:
            branches.append(b.body(branch))
        logged.append(logs)
    # Every branch takes what any of them captures.
    captures = list({id(a): a for branch in branches for a in branch.captures()}.values())
    given = [index, *_captured(b, captures), *inputs]
    types = [b.type(var.aval) for var in eqn.outvars]
    regions = [b.module.region(branch, captures) for branch in branches]
    results = b.multi_op("bm.cond", given, types, "", regions)
    return _with_logs(b, eqn, index, results, logged) if any(logged) else results


def _with_logs(
    b: Importer,
    eqn: Equation,
    index: Value,
    results: list[Value],
    logged: Sequence[dict[Any, Any]],
) -> list[Value]:
    """The results of branches in which something is logged; so is which of them ran."""
    position = next(i for i, var in enumerate(eqn.outvars) if has_tangent(var.aval))
    aval = eqn.outvars[position].aval
    said = jax.make_jaxpr(saying_which)(aval, jax.ShapeDtypeStruct((), index.type.dtype))
    with b.logged() as which:
        (results[position],) = b.evaluate_closed(said, [results[position], index])
    if b.logs_here:
        b.logs_here.add(of_branches(which["index"], logged))
    return results
