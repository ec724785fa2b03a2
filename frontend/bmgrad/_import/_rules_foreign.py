"""The rules that primitives of third parties bring, traced when such a primitive is imported.

In: an equation. Out: a `bm.custom_jvp` whose functions are the primitive and its rules. Which
operands are linear in a tangent shows later only, so there is a transpose for each operand, and for
all together, which waits until it is needed or is traced at once. What the rule raises then is
raised where that one is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bmgrad._import._errors import RuleRaised, asking_a_rule
from bmgrad._import._module import Body
from bmgrad._import._perturbed import unmarked_params
from bmgrad._import._registry import Equation, WithRule
from bmgrad._import._rules_custom import differentiable, side_effect, union, with_tangents
from bmgrad._import._text import TensorType, Value, i64, i64_array
from bmgrad.runtime import _foreign
from bmgrad.runtime._errors import put_off
from bmgrad.runtime._jax_internals import TracedJaxpr, has_tangent, tangent_aval, trace_rule

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

Write = Callable[[list[Value]], list[Value]]


class TracedJvp(NamedTuple):
    """`is_zero` says for each result whether the rule gives it no tangent."""

    traced: TracedJaxpr
    num_primals: int
    is_zero: list[bool]


class _Transpose(NamedTuple):
    """With respect to the operands `linear`; `is_zero` likewise says which get no cotangent.

    `traced` is an error where the rule raised one, None where it waits.
    """

    traced: TracedJaxpr | Exception | None
    linear: list[int]
    is_zero: list[bool]


class ForeignRules(NamedTuple):
    """What a primitive brings; `jvp` is an error where the rule raised one.

    `linear` are operands of which a transpose may be needed together; `jvp_waits` until it is
    needed.
    """

    in_avals: list[Any]
    out_avals: list[Any]
    jvp: TracedJvp | RuleRaised | None
    transposes: list[_Transpose]
    linear: tuple[tuple[int, ...], ...]
    jvp_waits: bool


def has_rules(primitive: Any, in_avals: Sequence[Any], out_avals: Sequence[Any]) -> bool:
    """Whether `primitive` brings a rule, and has something to differentiate."""
    if not any(map(has_tangent, in_avals)) or not any(map(has_tangent, out_avals)):
        return False
    return bool(_foreign.jvp_of(primitive) or _foreign.transpose_of(primitive))


def foreign_rules(
    eqn: Equation,
    in_avals: list[Any],
    out_avals: list[Any],
    active: Sequence[bool],
    linear: tuple[tuple[int, ...], ...],
    jvp_waits: bool,
    transposes_wait: bool,
    wanted: tuple[tuple[int, ...], ...],
) -> ForeignRules | None:
    """The rules of the equation's primitive; None if there is none or nothing to differentiate.

    `active` says which operands have a tangent, as the rule is told; with respect to the
    operands `linear` it may be transposed as well. With `jvp_waits` the forward rule is put off,
    with `transposes_wait` the transposes are but the `wanted` ones.
    """
    if not has_rules(eqn.primitive, in_avals, out_avals):
        return None
    inexact = tuple(i for i, aval in enumerate(in_avals) if has_tangent(aval))
    jvp, transpose = _foreign.jvp_of(eqn.primitive), _foreign.transpose_of(eqn.primitive)
    params = unmarked_params(eqn)
    traced: TracedJvp | RuleRaised | None = None
    if (rule := jvp) is not None and not jvp_waits:
        try:
            with asking_a_rule():
                traced = trace_jvp(
                    lambda primals, tangents: rule(primals, tangents, params),
                    in_avals,
                    eqn.primitive.name,
                    active,
                )
        except RuleRaised as raised:
            traced = raised
    transposes = []
    if transpose is not None:
        for each in dict.fromkeys([*linear, *((i,) for i in inexact), inexact]):
            if transposes_wait and each not in wanted:
                transposes.append(_Transpose(None, [*each], []))
            elif found := _trace_transpose(transpose, eqn, in_avals, out_avals, [*each]):
                transposes.append(found)
    waits = jvp_waits and jvp is not None
    return ForeignRules(in_avals, out_avals, traced, transposes, linear, waits)


def call_foreign(
    b: Importer, eqn: Equation, key: tuple[Any, ...], rules: ForeignRules, emit: Write
) -> list[Value]:
    """The call of the primitive with its rules; `emit` writes the primitive itself.

    Calls with the same `key` are the same but for what they are linear in.
    """
    name, jvp, transposes = eqn.primitive.name, rules.jvp, rules.transposes
    names = [name] + ([f"{name}.jvp"] if jvp or rules.jvp_waits else [])
    names += [f"{name}.transpose.{'_'.join(map(str, t.linear))}" for t in transposes]

    def define(symbols: list[str]) -> WithRule:
        primal = b.module.body([b.type(aval) for aval in rules.in_avals], emit)
        forward = [jvp_body(b, jvp, rules.out_avals)] if isinstance(jvp, TracedJvp) else []
        reverse = [_transpose_body(b, rules, t) for t in transposes]
        written = [primal, *forward, *(body for body in reverse if isinstance(body, Body))]
        captures = union(*(body.captures() for body in written))
        avals = [b.module.aval(array) for array in captures]
        for body in forward:
            # Captured arrays are inputs as well, so the rule gets tangents for them.
            unused = [b.module.new_value(b.type(aval)) for aval in avals if has_tangent(aval)]
            body.args[len(rules.in_avals) : len(rules.in_avals)] = unused
        unwritten = iter(symbols)
        b.module.function(next(unwritten), primal, captures)
        if rules.jvp_waits or isinstance(jvp, RuleRaised):
            ins, outs = (
                with_tangents(b, some) for some in ([*avals, *rules.in_avals], rules.out_avals)
            )
            if isinstance(jvp, RuleRaised):
                reason = put_off(jvp.error)
            else:
                # Calls that are linear in other operands wait for one rule, for all that any needs.
                later = ("later", *key, *map(id, captures))
                reason = b.once((), lambda: b.import_later(eqn, captures), later)
            b.module.declare(next(unwritten), ins, outs, reason)
        for symbol, made in zip(unwritten, (*forward, *reverse), strict=True):
            if isinstance(made, Body):
                b.module.function(symbol, made, captures)
                continue
            if made.error is None:
                asked = (*rules.linear, made.linear)
                reason = b.transpose_later(eqn, captures, asked, rules.jvp_waits)
            else:
                reason = put_off(made.error)
            b.module.declare(symbol, [*map(b.type, avals), *made.ins], made.outs, reason)
        return WithRule(symbols, captures)

    in_progress = (*key, rules.linear, rules.jvp_waits)
    made = b.once((), lambda: b.with_rule(in_progress, names, define), in_progress)
    return _emit_call(b, eqn, key, rules, made)


def _emit_call(
    b: Importer, eqn: Equation, key: tuple[Any, ...], rules: ForeignRules, made: WithRule
) -> list[Value]:
    symbols, count = iter(made.symbols), len(made.captures)
    attributes = f"primal = @{next(symbols)}"
    if rules.jvp or rules.jvp_waits:
        attributes += f", rule = @{next(symbols)}"
    # None, if the primitive has none: the kernel cannot be transposed either.
    linear = [i64_array(count + i for i in t.linear) for t in rules.transposes]
    attributes += f", transposes = [{', '.join(f'@{symbol}' for symbol in symbols)}]"
    attributes += f", linear = [{', '.join(linear)}]"
    attributes += batcher(b, eqn, key, made.captures, rules.linear, rules.jvp_waits)
    operands = [*(b.module.capture(array) for array in made.captures), *b.read_all(eqn)]
    types = [b.type(var.aval) for var in eqn.outvars]
    return b.multi_op("bm.custom_jvp", operands, types, attributes + side_effect(eqn))


def batcher(
    b: Importer,
    eqn: Equation,
    key: tuple[Any, ...],
    captures: Sequence[Any],
    linear: tuple[tuple[int, ...], ...] = (),
    waits: bool = False,
) -> str:
    """What says that batches of the call are what the primitive's batching rule makes of it.

    Calls with the same `key` are the same. `linear` are operands that they are linear in together;
    with `waits` their rules are put off.
    """
    if not _foreign.batches_by_rule(eqn.primitive):
        return ""
    named = ("batcher", *key, linear, waits, *map(id, captures))
    made = b.once((eqn,), lambda: b.batcher(eqn, captures, linear, waits), named)
    return f", batcher = {i64(made.number)}"


# -- Forward -------------------------------------------------------------------------------------


def trace_jvp(
    jvp: Callable[[Sequence[Any], Sequence[Any]], tuple[list[Any], list[Any]]],
    in_avals: Sequence[Any],
    name: str,
    active: Sequence[bool],
) -> TracedJvp:
    """The rule `jvp`, which takes and returns None for tangents that are zero, traced.

    The traced rule takes tangents for all operands that can have one, `jvp` the `active` ones.
    """
    is_zero: list[bool] = []

    def run(*values: Any) -> list[Any]:
        primals, given = values[: len(in_avals)], iter(values[len(in_avals) :])
        all_tangents = [next(given) if has_tangent(aval) else None for aval in in_avals]
        tangents = [t if flag else None for t, flag in zip(all_tangents, active, strict=True)]
        results, out_tangents = jvp(primals, tangents)
        is_zero.extend(t is None for t in out_tangents)
        return [*results, *(t for t in out_tangents if t is not None)]

    avals = [*in_avals, *(tangent_aval(aval) for aval in in_avals if has_tangent(aval))]
    return TracedJvp(trace_flat(run, avals, f"{name}.jvp"), len(in_avals), is_zero)


def jvp_body(b: Importer, jvp: TracedJvp, out_avals: Sequence[Any]) -> Body:
    """The block of a forward rule, with a tangent for each result that can have one."""

    def write(values: list[Value]) -> list[Value]:
        jaxpr = jvp.traced.jaxpr
        b.note_checks(jaxpr)
        b.tangents.note(jaxpr, jaxpr.invars[jvp.num_primals :])
        given = b.evaluate_closed(jvp.traced, values)
        results, nonzero = given[: len(out_avals)], iter(given[len(out_avals) :])
        tangents = [None if zero else next(nonzero) for zero in jvp.is_zero]
        return [*results, *differentiable(b, tangents, out_avals)]

    return b.rule_body([b.type(aval) for aval in jvp.traced.in_avals], write)


# -- Reverse -------------------------------------------------------------------------------------


def _trace_transpose(
    transpose: _foreign.Transpose,
    eqn: Equation,
    in_avals: Sequence[Any],
    out_avals: Sequence[Any],
    linear: list[int],
) -> _Transpose | None:
    known = [aval for i, aval in enumerate(in_avals) if i not in linear]
    ct_avals = [tangent_aval(aval) for aval in out_avals if has_tangent(aval)]
    is_zero: list[bool] = []

    def run(*values: Any) -> list[Any]:
        given, cts = iter(values[: len(known)]), iter(values[len(known) :])
        operands = [aval if i in linear else next(given) for i, aval in enumerate(in_avals)]
        of_results = [next(cts) if has_tangent(aval) else None for aval in out_avals]
        found = transpose(of_results, operands, unmarked_params(eqn))
        is_zero.extend(found[i] is None for i in linear)
        return [found[i] for i in linear if found[i] is not None]

    name = f"{eqn.primitive.name}.transpose"
    try:
        traced = trace_flat(run, [*known, *ct_avals], name)
    except Exception as error:
        # Most rules raise so for operands that they are not linear in.
        return _Transpose(error, linear, [])
    wanted = [in_avals[i] for i, zero in zip(linear, is_zero, strict=True) if not zero]
    if not wanted or any(
        got.shape != aval.shape or got.dtype != aval.dtype
        for got, aval in zip(traced.out_avals, wanted, strict=True)
    ):
        return None
    return _Transpose(traced, linear, is_zero)


class _Declared(NamedTuple):
    """A transpose that waits or, with an error, is one; and what it would take and return."""

    error: Exception | None
    linear: tuple[int, ...]
    ins: list[TensorType]
    outs: list[TensorType]


def _transpose_body(b: Importer, rules: ForeignRules, transpose: _Transpose) -> Body | _Declared:
    traced, linear = transpose.traced, transpose.linear
    if not isinstance(traced, TracedJaxpr):
        known = [aval for i, aval in enumerate(rules.in_avals) if i not in linear]
        ins = [b.type(aval) for aval in (*known, *filter(has_tangent, rules.out_avals))]
        return _Declared(traced, tuple(linear), ins, [b.type(rules.in_avals[i]) for i in linear])

    b.note_checks(traced.jaxpr)

    def write(values: list[Value]) -> list[Value]:
        nonzero = iter(b.evaluate_closed(traced, values))
        cts = [None if zero else next(nonzero) for zero in transpose.is_zero]
        return differentiable(b, cts, [rules.in_avals[i] for i in linear])

    return b.rule_body([b.type(aval) for aval in traced.in_avals], write)


def trace_flat(fun: Callable[..., list[Any]], avals: Sequence[Any], name: str) -> TracedJaxpr:
    """`fun`, which takes arguments of these avals and returns a list, as a jaxpr."""
    names = [f"x{i}" for i in range(len(avals))]
    return trace_rule(lambda _, *args: fun(*args), avals, name=name, arg_names=names)
