"""Rules of functions with their own derivative rules.

The rules are Python functions that JAX has wrapped; they are traced here and become
functions of the module beside the one they are the derivative of.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bmgrad._import._backward_rules import Backward
from bmgrad._import._errors import (
    RuleRaised,
    Unsupported,
    asking_a_rule,
)
from bmgrad._import._logs import LogSpec, slot_aval
from bmgrad._import._module import Body
from bmgrad._import._perturbed import is_unperturbed, perturbed_arguments, read_results
from bmgrad._import._references import Reference, split_references, with_references
from bmgrad._import._registry import Equation, WithRule, rule
from bmgrad._import._text import TensorType, Value, i64, string
from bmgrad._import._unread import unread_in
from bmgrad.runtime._errors import UnsupportedError, put_off
from bmgrad.runtime._jax_internals import (
    CustomVjp,
    TracedJaxpr,
    custom_rule_key,
    custom_vjp_rule,
    has_tangent,
    is_reference_aval,
    keeps_order,
)

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

# What is said where a derivative is taken by what the rule of a function knows nothing of.
_CLOSED_OVER = "reason = " + string(
    "derivative with respect to a value that a function with a custom JVP rule closes over; pass "
    "the value to the function as an argument"
)


@rule("custom_jvp_call", keys=True)
def _custom_jvp(b: Importer, eqn: Equation) -> list[Value]:
    operands, count = b.read_operands(eqn), eqn.params["num_consts"]
    if split_references(operands[count:])[1]:
        raise Unsupported(
            "a function with a custom JVP takes no reference (jax.new_ref) in a program; close "
            "over the reference, or give the function a custom VJP"
        )
    active = perturbed_arguments(eqn, count)
    closed, given = b.bind(eqn.params["call_jaxpr"], operands)
    count -= len(operands) - len(given)
    in_avals, out_avals = closed.in_avals, closed.out_avals
    if not any(active) or not any(map(has_tangent, out_avals)):
        return b.call(closed, given, function_name(closed))

    rule_key = custom_rule_key(eqn.params) or eqn.params["jvp_jaxpr_fun"]
    key = rule_key, fingerprint(closed), active
    if b.puts_off(eqn, key, has_loops(closed)):
        functions = closed, eqn.params["jvp_jaxpr_fun"]
        return emit_put_off(b, eqn, function_name(closed), functions, lambda: b.primal_body(closed))

    def make() -> tuple[Body, Body]:
        jaxpr, consts, out_zeros, num_errors = b.asked.jvp(eqn.params, active)

        def jvp(values: list[Value]) -> list[Value]:
            primals, given = values[: len(in_avals)], iter(values[len(in_avals) :])
            of_inputs = [next(given) if has_tangent(aval) else None for aval in in_avals]
            # The rule knows nothing of what the function closes over.
            tangents = [
                tangent
                for tangent, asked in zip(of_inputs[count:], active, strict=True)
                if tangent is not None and asked
            ]
            captured = [b.module.operand(const) for const in consts]
            b.note_checks(jaxpr, closed.jaxpr)
            b.tangents.note(jaxpr, jaxpr.invars[len(primals) - count :])
            made = b.evaluate(jaxpr, captured, [*primals[count:], *tangents])
            results, nonzero = made[: len(out_zeros)], iter(made[len(out_zeros) :])
            errors = error_values(b, closed, primals, num_errors)
            out_tangents = [None if zero else next(nonzero) for zero in out_zeros]
            tangents_out = differentiable(b, [*[None] * num_errors, *out_tangents], out_avals)
            return [*errors, *results, *tangents_out]

        return b.primal_body(closed), b.rule_body(with_tangents(b, in_avals), jvp)

    try:
        made = b.once(
            (closed, eqn.params["jvp_jaxpr_fun"], active),
            lambda: jvp_functions(b, function_name(closed), key, make),
            (id(closed), id(eqn.params["jvp_jaxpr_fun"]), active),
        )
    except RuleRaised as raised:
        return emit_raising(b, eqn, closed, raised.error, given)
    first = len(made.captures)
    closed_over = (*range(made.num_closed_over), *range(first, first + count))
    return emit_custom_jvp(b, eqn, made, given, closed_over=closed_over)


def error_values(b: Importer, closed: Any, args: Sequence[Value], count: int) -> list[Value]:
    """The first `count` results of a function, which are errors that `checkify` found in it.

    They are results of the function, and its derivative rule knows nothing of them.
    """
    return b.call(closed, args, function_name(closed))[:count] if count else []


def emit_raising(
    b: Importer, eqn: Equation, closed: Any, error: Exception, operands: Sequence[Value]
) -> list[Value]:
    """The call of a function whose derivative is an error."""
    name, avals = function_name(closed), (closed.in_avals, closed.out_avals)
    made = b.once(
        (closed, emit_raising),
        lambda: without_rule(b, name, avals, b.primal_body(closed), lambda _: put_off(error)),
    )
    return emit_custom_jvp(b, eqn, made, operands)


def emit_put_off(
    b: Importer,
    eqn: Equation,
    name: str,
    objects: tuple[Any, ...],
    make: Callable[[], Body],
    attributes: str = "",
) -> list[Value]:
    """The call of a function, which `make` writes, whose rules wait until they are needed.

    Calls with the same `objects`, of which the same results are read, are calls of one function.
    """
    avals = [atom.aval for atom in eqn.invars], [var.aval for var in eqn.outvars]
    made = b.once(
        objects,
        lambda: without_rule(b, name, avals, make(), partial(b.import_later, eqn)),
        (emit_put_off, *map(id, objects), read_results(eqn)),
    )
    return emit_custom_jvp(b, eqn, made, attributes=attributes)


def without_rule(
    b: Importer,
    name: str,
    avals: tuple[Sequence[Any], Sequence[Any]],
    body: Body,
    reason: Callable[[Sequence[Any]], str],
) -> WithRule:
    """A function with a rule that is only declared; `reason` is given what `body` captures."""
    captures = body.captures()
    primal, rule = b.module.new_symbol(name), b.module.new_symbol(f"{name}.jvp")
    b.module.function(primal, body, captures)
    in_avals, out_avals = avals
    operands = [*map(b.module.aval, captures), *in_avals]
    ins, outs = (with_tangents(b, some) for some in (operands, out_avals))
    b.module.declare(rule, ins, outs, reason(captures))
    return WithRule([primal, rule], captures)


@rule("bmgrad_call_without_rule", keys=True)
def _call_without_rule(b: Importer, eqn: Equation) -> list[Value]:
    closed, operands = b.bind(eqn.params["jaxpr"], b.read_operands(eqn))
    error = UnsupportedError(
        f"the derivative rule of {eqn.params['name']} is for a reference (jax.new_ref), which "
        "the function that is differentiated makes and so has as a value; make it outside"
    )
    return emit_raising(b, eqn, closed, error, operands)


def with_tangents(b: Importer, avals: Sequence[Any]) -> list[TensorType]:
    """The types of `avals` and of their tangents: what a forward rule takes, or returns."""
    return [b.type(aval) for aval in (*avals, *filter(has_tangent, avals))]


def jvp_functions(
    b: Importer,
    name: str,
    key: Hashable,
    make: Callable[[], tuple[Body, Body]],
) -> WithRule:
    """Function and rule of a `bm.custom_jvp`, from their blocks.

    The arguments of the rule's block are those of the function's and their tangents.
    """

    def define(symbols: list[str]) -> WithRule:
        primal, jvp = make()
        if not all(map(b.module.reaches, jvp.captures())):
            raise RuleRaised(
                UnsupportedError(
                    f"the derivative rule of {name}, called in the derivative rule of another "
                    "function, reads a value of that rule, or of a trace around it, which JAX has "
                    "forgotten; pass the value to the function as an argument"
                )
            )
        captures = union(primal.captures(), jvp.captures())
        # Captured arrays are inputs as well, so the rule gets tangents for them.
        avals = [b.module.aval(array) for array in captures]
        unused = [b.module.new_value(b.type(aval)) for aval in avals if has_tangent(aval)]
        jvp.args[len(primal.args) : len(primal.args)] = unused
        for symbol, body in zip(symbols, (primal, jvp), strict=True):
            b.module.function(symbol, body, captures)
        return WithRule(symbols, captures, num_closed_over=len(primal.captures()))

    return b.with_rule(key, [name, f"{name}.jvp"], define)


def emit_custom_jvp(
    b: Importer,
    eqn: Equation,
    made: WithRule,
    operands: Sequence[Value] | None = None,
    attributes: str = "",
    closed_over: Sequence[int] = (),
) -> list[Value]:
    """The call of a function with a forward rule, on the equation's own operands or others.

    The rule knows nothing of the operands `closed_over`, counted with what the function captures.
    """
    primal, jvp = made.symbols
    given = b.read_all(eqn) if operands is None else operands
    operands = [*(b.module.capture(array) for array in made.captures), *given]
    for i in closed_over:
        operand = operands[i]
        operands[i] = b.op("bm.unperturbed", [operand], operand.type, _CLOSED_OVER)
    types = [b.type(var.aval) for var in eqn.outvars]
    attributes = f"primal = @{primal}, rule = @{jvp}{attributes}{side_effect(eqn)}"
    return b.multi_op("bm.custom_jvp", operands, types, attributes)


@rule("custom_vjp_call", keys=True)
def _custom_vjp(b: Importer, eqn: Equation) -> list[Value]:
    operands, count = b.read_operands(eqn), eqn.params["num_consts"]
    active, read = perturbed_arguments(eqn, count), read_results(eqn)
    closed, given = b.bind(eqn.params["call_jaxpr"], operands)
    references, name = split_references(operands)[1], function_name(closed)
    if not any(active) or not any(map(has_tangent, closed.out_avals)):
        return b.call(closed, given, name)

    logs = collects_logs(b, eqn)

    # The functions may be written twice; users' rules are asked once.
    @functools.cache
    def traced() -> TracedVjp:
        with asking_a_rule(closed.in_avals):
            custom = custom_vjp_rule(eqn.params, active)
        return traced_vjp(closed, custom, read, count, references, logs=logs)

    def define(symbols: list[str]) -> WithRule:
        return vjp_functions(b, symbols, closed, traced(), count, references)

    rule_key = custom_rule_key(eqn.params) or eqn.params["bwd"]
    key = rule_key, fingerprint(closed), active, read, logs, *references.values()
    if b.puts_off(eqn, key, has_loops(closed)):
        functions = closed, eqn.params["fwd_jaxpr_thunk"], eqn.params["bwd"]
        return emit_put_off(b, eqn, name, functions, lambda: b.primal_body(closed))
    try:
        made = b.once(
            (closed, eqn.params["fwd_jaxpr_thunk"], eqn.params["bwd"]),
            lambda: b.with_rule(key, vjp_names(name), define),
            (id(closed), id(eqn.params["fwd_jaxpr_thunk"]), active, read, logs),
        )
    except RuleRaised as raised:
        return emit_raising(b, eqn, closed, raised.error, given)
    return emit_custom_vjp(b, eqn, made, given)


def collects_logs(b: Importer, eqn: Equation) -> bool:
    """Whether what the reverse rule of a call logs is wanted."""
    return b.logs_here is not None and not is_unperturbed(eqn) and any(read_results(eqn))


def vjp_names(name: str) -> list[str]:
    """What the functions of a `bm.custom_vjp` are called."""
    return [name, f"{name}.fwd", f"{name}.bwd"]


class TracedVjp(NamedTuple):
    """A reverse rule whose backward part is traced, or what that raised.

    `residual_avals` are those of what it takes before cotangents; `is_zero` says which arguments
    of the function, counted without references, it gives no cotangent. With `logs` the backward
    part returns what it logs after cotangents.
    """

    custom: CustomVjp
    residual_avals: list[Any]
    bwd: TracedJaxpr | Exception
    is_zero: list[bool]
    logs: LogSpec | None = None


def traced_vjp(
    closed: Any,
    custom: CustomVjp,
    read: Sequence[bool],
    count: int = 0,
    references: Mapping[int, Reference] = MappingProxyType({}),
    *,
    logs: bool = False,
) -> TracedVjp:
    """Traces the backward rule of function `closed`; `read` says which results anybody reads.

    If that is none, nobody asks the rule. `count` and `references` as in `vjp_functions`. `logs`
    says whether somebody wants to know what it logs.
    """
    in_avals, out_avals = closed.in_avals, closed.out_avals
    num_results = len(custom.fwd.outvars) - custom.num_made + custom.num_errors
    if num_results != len(out_avals):
        raise RuleRaised(
            UnsupportedError(
                f"the function {function_name(closed)} has {len(out_avals)} results here, and its "
                f"derivative rule knows of {num_results}: something changed one and not the other; "
                "differentiate the function without that"
            )
        )
    all_avals = with_references(in_avals, {i: r.aval for i, r in references.items()})
    made_avals = [var.aval for var in custom.fwd.outvars[: custom.num_made]]
    residual_avals = [
        (all_avals if is_argument else made_avals)[number]
        for is_argument, number in custom.residuals
    ]
    name = f"{function_name(closed)}.bwd"
    if not any(read):
        custom = custom._replace(fwd=unread_in(custom.fwd))
        unknown = UnsupportedError(f"{name} was not known to be needed")
        return TracedVjp(custom, residual_avals, unknown, [])
    backward = Backward(custom, all_avals[count:], residual_avals, out_avals, read, logs, name)
    try:
        with asking_a_rule(backward.in_avals):
            bwd: TracedJaxpr | Exception = backward.trace()
    except RuleRaised as raised:
        bwd = raised.error
    return TracedVjp(custom, residual_avals, bwd, backward.is_zero, backward.spec)


def vjp_functions(
    b: Importer,
    symbols: list[str],
    closed: Any,
    traced: TracedVjp,
    count: int = 0,
    references: Mapping[int, Reference] = MappingProxyType({}),
) -> WithRule:
    """Writes function `closed` and its rule.

    `references` are at these positions among the arguments, in which they are counted here and no
    arguments of `closed`. The first `count` arguments are what the user's function closes over, and
    no arguments of the rule; `custom.num_closed_over` of the following are the former, but do reach
    it.
    """
    custom, residual_avals, bwd, is_zero, logs = traced
    in_avals, out_avals = closed.in_avals, closed.out_avals
    slots = list(map(slot_aval, logs.avals)) if logs else []
    kept = {
        i: references[number]
        for i, (is_argument, number) in enumerate(custom.residuals)
        if is_argument and number in references
    }
    in_order = keeps_order(custom.fwd.effects)
    bwd_body: Body | Exception = bwd if isinstance(bwd, Exception) else _bwd_body(b, bwd, kept)
    if not isinstance(bwd, Exception):
        in_order = in_order or keeps_order(bwd.jaxpr.effects)
    # What the backward rule closes over reaches it as residuals.
    bwd_captures = [] if isinstance(bwd_body, Exception) else bwd_body.captures()
    num_residuals = len(bwd_captures) + len(residual_avals) - len(kept)
    num_unknown = count + custom.num_closed_over

    def fwd(inputs: list[Value]) -> list[Value]:
        inputs = inputs[: len(in_avals)]
        captured = [b.module.operand(const) for const in custom.fwd_consts]
        b.note_checks(custom.fwd, closed.jaxpr)
        operands = with_references(inputs, references)
        given = b.evaluate(custom.fwd, captured, operands[count:])
        residuals, _ = split_references(
            [
                (operands if is_argument else given)[number]
                for is_argument, number in custom.residuals
            ]
        )
        errors = error_values(b, closed, inputs, custom.num_errors)
        results = [*errors, *given[custom.num_made :]]
        return [*results, *(b.module.capture(a) for a in bwd_captures), *residuals]

    primal_body = b.primal_body(closed)
    primal_body.args += [b.module.new_value(b.type(aval)) for aval in slots]
    fwd_body = b.rule_body([b.type(aval) for aval in (*in_avals, *slots)], fwd)
    captures = union(primal_body.captures(), fwd_body.captures())
    # The function does not depend on what its rule alone closes over.
    num_closed_over = len(primal_body.captures())
    if num_unknown:
        num_closed_over = len(captures) + num_unknown - sum(i < num_unknown for i in references)
    # No cotangent for what the user's function has no argument for.
    num_others = len(captures) + count - sum(i < count for i in references)
    avals = [*(b.module.aval(array) for array in captures), *in_avals, *slots]
    primal_symbol, fwd_symbol, bwd_symbol = symbols
    b.module.function(primal_symbol, primal_body, captures)
    b.module.function(fwd_symbol, fwd_body, captures)
    if isinstance(bwd_body, Exception):
        held = [a for i, a in enumerate(residual_avals) if i not in kept]
        given = [*held, *filter(has_tangent, out_avals)]
        ins, outs = (
            [b.type(aval) for aval in some] for some in (given, filter(has_tangent, avals))
        )
        b.module.declare(bwd_symbol, ins, outs, put_off(bwd_body))
    else:

        def fill(cts: list[Value]) -> list[Value]:
            given = iter(cts)
            own = [None if zero else next(given) for zero in is_zero]
            return differentiable(b, [*[None] * num_others, *own, *given], avals)

        bwd_body.results = b.module.extend(bwd_body, fill)
        b.module.function(bwd_symbol, bwd_body, bwd_captures)
    return WithRule(
        symbols, captures, num_residuals, num_closed_over, in_order, custom.optimizes_remat, logs
    )


def emit_custom_vjp(
    b: Importer, eqn: Equation, made: WithRule, operands: Sequence[Value] | None = None
) -> list[Value]:
    """The call of a function with a reverse rule; see `vjp_functions`."""
    given = b.read_all(eqn) if operands is None else operands
    operands = [*(b.module.capture(array) for array in made.captures), *given]
    if made.logs:
        assert b.logs_here is not None
        operands += map(b.module.capture, b.logs_here.new(made.logs))
    primal, fwd, bwd = made.symbols
    attributes = (
        f"primal = @{primal}, fwd = @{fwd}, bwd = @{bwd}, "
        f"num_residuals = {i64(made.num_residuals)}, "
        f"num_closed_over = {i64(made.num_closed_over)}"
        f"{', optimize_remat' if made.optimizes_remat else ''}"
        f"{side_effect(eqn) or (', has_side_effect' if made.rule_keeps_order else '')}"
    )
    types = [b.type(var.aval) for var in eqn.outvars]
    return b.multi_op("bm.custom_vjp", operands, types, attributes)


def _bwd_body(b: Importer, traced: TracedJaxpr, references: Mapping[int, Reference]) -> Body:
    """The block of a backward rule; `references` are at these positions among the residuals."""
    b.note_checks(traced.jaxpr)
    types = [b.type(aval) for aval in traced.in_avals if not is_reference_aval(aval)]
    return b.rule_body(
        types, lambda args: b.evaluate_closed(traced, with_references(args, references))
    )


def differentiable(
    b: Importer, tangents: Sequence[Value | None], avals: Sequence[Any]
) -> list[Value]:
    """The (co)tangents of the float and complex ones of `avals`, zeros for None."""
    kept = []
    for tangent, aval in zip(tangents, avals, strict=True):
        if not has_tangent(aval):
            continue
        type = b.type(aval)
        if tangent is None:
            tangent = b.constant(np.zeros((), type.dtype), type.shape)
        elif tangent.type.shape != type.shape:
            raise Unsupported(
                f"its derivative rule gives a value of shape {tangent.type.shape} where what it "
                f"belongs to asks for shape {type.shape}; return that from the rule, or, "
                "where a jaxpr holds a jax.vmap of the function, call the function itself"
            )
        elif tangent.type != type:
            tangent = b.op("bm.convert", [tangent], type)
        kept.append(tangent)
    return kept


def union(*lists: Sequence[Any]) -> list[Any]:
    """The arrays of all lists, each once, by identity."""
    return list({id(array): array for arrays in lists for array in arrays}.values())


def fingerprint(closed: Any) -> Hashable:
    """Tells the functions that share a rule from each other, as far as that is cheap."""
    jaxpr = closed.jaxpr
    avals = [(v.aval.shape, v.aval.dtype) for v in (*jaxpr.invars, *jaxpr.outvars)]
    return tuple(avals), tuple(eqn.primitive for eqn in jaxpr.eqns)


def has_loops(closed: Any) -> bool:
    """Whether a jaxpr, or one that it calls, has a loop."""
    return any(
        eqn.primitive.name in ("scan", "while")
        or any(
            has_loops(inner)
            for value in eqn.params.values()
            for inner in (value if isinstance(value, (tuple, list)) else (value,))
            if hasattr(inner, "eqns")
        )
        for eqn in closed.eqns
    )


def side_effect(eqn: Equation) -> str:
    """The attribute, to append, of an op that does more than compute its results."""
    return ", has_side_effect" if eqn.effects else ""


def function_name(closed: Any) -> str:
    """What the user calls the function that a jaxpr was traced from."""
    name = getattr(closed.jaxpr.debug_info, "func_name", "") or "function"
    return str(name)
