"""Has imported what was put off, when a pass asks for it: derivative rules, and batches.

In: a module, and what to do with it. Out: what that gives for the module with the rules that it
asks for. Next: `_put_off.py` for what stands in a module in the place of a rule, `_batchers.py`
for batches, which passes call back for.
"""

import operator
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from bmgrad.mlir import ir, set_batching_rules
from bmgrad.mlir.dialects import func
from bmgrad.runtime import _batchers, _linking, _put_off
from bmgrad.runtime._errors import RulesWanted, UnsupportedError, reason_of_batching
from bmgrad.runtime._kernels import ask_batching_rule, batches_of
from bmgrad.runtime._put_off import Flags, PutOff
from bmgrad.runtime._source import MAIN, Source, attribute, bytecode, opened, read

_T = TypeVar("_T")


class _Running(threading.local):
    """The rules that passes which run in this thread have asked for."""

    wanted: Mapping[PutOff, Flags] = MappingProxyType({})


_running = _Running()


def with_rules_at_need(source: Source, act: Callable[[ir.Module], _T]) -> _T:
    """What `act` gives for `source`, with those put-off derivative rules that it asks for."""
    wanted: dict[PutOff, Flags] = {}
    module_now = source
    while True:
        around, _running.wanted = _running.wanted, wanted
        try:
            with opened(module_now) as module:
                return act(module)
        except RulesWanted as asked:
            known = dict(wanted)
            for call, flags in asked.calls:
                before = wanted.get(call, (False,) * len(flags))
                wanted[call] = tuple(map(operator.or_, before, flags))
            if wanted == known:
                raise UnsupportedError(
                    "a derivative rule was imported and is still wanted: this is a fault of bmgrad"
                ) from None
        finally:
            _running.wanted = around
        # Where a call has rules already and needs others, what has them is of no use.
        is_new = all(wanted[call] == flags for call, flags in known.items())
        module_now = _with_rules(module_now if is_new else source, wanted)


def make_batch(number: int, batch: str) -> bytes | str:
    """The module of what a batching rule makes of a call, for passes; see `_batchers.py`.

    If that raises: what they are to say.
    """
    try:
        (wanted,) = batches_of(batch)
        module = _batchers.find(number).module(wanted)
        if _running.wanted:
            return _with_rules(module, _running.wanted)
        return module.encode() if isinstance(module, str) else module
    except BaseException as error:  # None may pass through C++; it is raised after the pass.
        return reason_of_batching(error)


set_batching_rules(ask_batching_rule, make_batch)


def _with_rules(source: Source, wanted: Mapping[PutOff, Flags]) -> bytes:
    """`source`, where the `wanted` calls have the derivative rules for those of their operands."""
    with opened(source) as module:
        # What comes in may call what was imported before.
        while _replace_told_less(module, wanted) or _replace_put_off(module, wanted):
            pass
        return bytecode(module)


def _replace_put_off(module: ir.Module, wanted: Mapping[PutOff, Flags]) -> bool:
    """Replaces what has no rules yet; whether there was something. What comes in may lack some."""
    calls: dict[str, list[Any]] = {}

    def collect(op: Any) -> Any:
        if op.name == "bm.custom_jvp":
            rules = [op.attributes["rule"]] if "rule" in op.attributes else []
            for rule in (*rules, *op.attributes.get("transposes", ())):
                calls.setdefault(rule.value, []).append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    symbols, callees = ir.SymbolTable(module.operation), {}
    replaced: set[int] = set()
    for function in list(module.body.operations):
        symbol, attributes = function.sym_name.value, function.attributes
        put_off = _put_off.find(attributes["bm.reason"].value if "bm.reason" in attributes else "")
        if put_off is None or put_off not in wanted:
            continue
        # The name of a batch of a rule says what it is, so what has the rules gets another.
        with_rules = f"{symbol}.imported"
        while with_rules in symbols:
            with_rules += "_"
        callees[with_rules] = callee = read(put_off.module(wanted[put_off]))
        of_callee = ir.SymbolTable(callee.operation)[MAIN].type
        batches = attributes.get("bm.batches", [])
        called = _batched(module, with_rules, of_callee, batches, put_off.num_captured)
        symbols.erase(function)
        for op in calls.get(symbol, ()):
            # What replaces one that lacks several rules may still lack the others.
            if id(op) not in replaced:
                _replace_by_call(op, called, put_off, wanted[put_off])
                replaced.add(id(op))
    _linking.link(module, callees)
    return bool(callees)


def _replace_told_less(module: ir.Module, wanted: Mapping[PutOff, Flags]) -> bool:
    """Replaces calls that have rules, which were told less than is `wanted` to be perturbed.

    They were imported for a derivative that is part of the module now. Whether there was one.
    """
    marks: dict[Any, tuple[PutOff, Flags]] = {}

    def collect(op: Any) -> Any:
        if op.name == "bm.unperturbed":
            marked = _put_off.wanted(op.attributes["reason"].value)
            if marked and marked[0] in wanted:
                marks[op.results[0]] = marked
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    calls: dict[Any, PutOff] = {}
    for value, (put_off, operand) in marks.items():
        if any(map(operator.and_, operand, wanted[put_off])):
            for use in value.uses:
                if use.owner.name in ("bm.custom_jvp", "bm.custom_vjp"):
                    calls[use.owner] = put_off
    symbols, callees = ir.SymbolTable(module.operation), {}
    for op, put_off in calls.items():
        told = [marks.get(value, (None,))[0] is not put_off for value in op.operands]
        flags = tuple(map(operator.or_, told, wanted[put_off]))
        symbol = "imported_again"
        while symbol in symbols or symbol in callees:
            symbol += "_"
        callees[symbol] = callee = read(put_off.module(flags))
        of_callee = ir.SymbolTable(callee.operation)[MAIN].type
        for i, value in enumerate(list(op.operands)):
            if marks.get(value, (None,))[0] is put_off:
                op.operands[i] = value.owner.operands[0]
        primal = symbols[op.attributes["primal"].value]
        batches = primal.attributes.get("bm.batches", [])
        called = _batched(module, symbol, of_callee, batches, put_off.num_captured)
        _replace_by_call(op, called, put_off, flags)
    for value in marks:
        if not any(True for _ in value.uses):
            value.owner.erase()
    _linking.link(module, callees)
    return bool(callees)


def _replace_by_call(op: Any, callee: str, put_off: PutOff, flags: Flags) -> None:
    """`op` becomes a call of `callee`, whose rule knows of the flagged operands to be perturbed."""
    count = put_off.num_captured
    operands = list(op.operands)
    with ir.InsertionPoint(op), op.location:
        for i in range(count, len(operands)):
            if not flags[i] and not put_off.is_transpose:
                reason = put_off.reason_for(tuple(i == k for k in range(len(flags))))
                guarded = ir.Operation.create(
                    "bm.unperturbed",
                    results=[operands[i].type],
                    operands=[operands[i]],
                    attributes={"reason": ir.StringAttr.get(reason)},
                )
                operands[i] = guarded.result
        call = func.CallOp(
            [result.type for result in op.results],
            ir.FlatSymbolRefAttr.get(callee),
            [*operands[count:], *operands[:count]],
        )
    for old, new in zip(op.results, call.results, strict=True):
        old.replace_all_uses_with(new)
    op.operation.erase()


def _batched(
    module: ir.Module, symbol: str, type: Any, batches: Iterable[Any], num_captured: int
) -> str:
    """A function that applies `symbol`, of this type, to each element of all `batches`.

    In their `in_axes` the captured operands are the first, here they are the last.
    """
    for batch in batches:
        size, count = batch["size"].value, len(type.inputs)
        axes = list(batch["in_axes"])[:count]
        axes = [*axes[num_captured:], *axes[:num_captured]]
        ins = [t if a < 0 else _over(t, size) for t, a in zip(type.inputs, axes, strict=True)]
        out_axes = list(batch["out_axes"])[: len(type.results)]
        outs = [t if a < 0 else _over(t, size) for t, a in zip(type.results, out_axes, strict=True)]
        attributes = {
            "callee": ir.FlatSymbolRefAttr.get(symbol),
            "in_axes": attribute(axes),
            "out_axes": attribute(out_axes),
            "size": batch["size"],
            **({"axis_name": batch["axis_name"]} if "axis_name" in batch else {}),
        }
        symbol, type = f"{symbol}.over", ir.FunctionType.get(ins, outs)
        with ir.InsertionPoint(module.body), ir.Location.unknown():
            function = func.FuncOp(symbol, type, visibility="private")
        with ir.InsertionPoint(function.add_entry_block()), ir.Location.unknown():
            applied = ir.Operation.create(
                "bm.batch", results=outs, operands=list(function.arguments), attributes=attributes
            )
            func.ReturnOp(list(applied.results))
    return symbol


def _over(tensor: Any, size: int) -> Any:
    element = ir.RankedTensorType(tensor)
    return ir.RankedTensorType.get([size, *element.shape], element.element_type)
