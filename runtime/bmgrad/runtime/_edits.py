"""What programs ask of modules and change in them, other than by passes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bmgrad.mlir import ir
from bmgrad.mlir.dialects import func
from bmgrad.mlir.passmanager import PassManager
from bmgrad.runtime import _linking
from bmgrad.runtime._source import MAIN, Source, Wrapped, bytecode, opened, read, rename


def without_kernels(source: Source, drop: Callable[[int], bool]) -> bytes:
    """`source` without the kernels that have no results and whose number `drop` says."""

    def visit(op: Any) -> Any:
        if op.name == "bm.kernel" and not op.results and drop(op.attributes["id"].value):
            op.erase()
            return ir.WalkResult.SKIP
        return ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(visit, ir.WalkOrder.POST_ORDER)
        return bytecode(module)


def unused_arguments(module: ir.Module) -> list[int]:
    main = ir.SymbolTable(module.operation)[MAIN]
    arguments = list(main.arguments)[_num_tokens(main) :]
    return [i for i, value in enumerate(arguments) if next(iter(value.uses), None) is None]


def _num_tokens(function: Any) -> int:
    """How many tokens and values of references a lowered function takes before its arguments."""
    return len(function.attributes["bm.tokens"]) if "bm.tokens" in function.attributes else 0


def without_arguments(source: Source, unused: Sequence[int]) -> bytes:
    """`source` without those arguments of `@main`, which nothing reads."""
    with opened(source) as module:
        main = ir.SymbolTable(module.operation)[MAIN]
        for number in reversed(unused):
            main.entry_block.erase_argument(_num_tokens(main) + number)
        types = [value.type for value in main.arguments]
        main.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(types, main.type.results)
        )
        return bytecode(module)


def to_transpose(source: Source, order: Sequence[int], names: Sequence[str]) -> bytes:
    """`source`, where `@main` takes its arguments in this order, under these names.

    Functions with derivative rules are called without, for a transpose is of what they compute.
    """
    with opened(source) as module:
        inner = ir.SymbolTable(module.operation)[MAIN]
        callee = rename(module, inner, "primal")
        inner.attributes["sym_visibility"] = ir.StringAttr.get("private")
        types = [inner.type.inputs[i] for i in order]
        with ir.InsertionPoint.at_block_begin(module.body), inner.location:
            main = func.FuncOp(MAIN, ir.FunctionType.get(types, inner.type.results))
        block = main.add_entry_block([ir.Location.name(name) for name in names])
        by_position = dict(zip(order, block.arguments, strict=True))
        operands = [by_position[i] for i in range(len(order))]
        with ir.InsertionPoint(block), inner.location:
            call = func.CallOp(inner.type.results, ir.FlatSymbolRefAttr.get(callee), operands)
            func.ReturnOp(list(call.results))
        with_rules: list[Any] = []

        def collect(op: Any) -> Any:
            if op.name in ("bm.custom_jvp", "bm.custom_vjp") and not list(
                op.attributes.get("transposes", ())
            ):
                with_rules.append(op)
            return ir.WalkResult.ADVANCE

        module.operation.walk(collect)
        for op in with_rules:
            with ir.InsertionPoint(op), op.location:
                types = [result.type for result in op.results]
                call = func.CallOp(types, op.attributes["primal"], list(op.operands))
            for old, new in zip(op.results, call.results, strict=True):
                old.replace_all_uses_with(new)
            op.operation.erase()
        return bytecode(module)


def has_custom_rules(source: Source) -> bool:
    """Whether a function in it brings its own derivative rule."""
    if isinstance(source, Wrapped):
        return has_custom_rules(source.source)
    if isinstance(source, str):
        return "bm.custom_" in source or "bm.linear_solve" in source
    return b"custom_" in source or b"linear_solve" in source


def has_while(source: Source) -> bool:
    """Whether there is a `bm.while` in it."""
    if isinstance(source, bytes) and b"while" not in source:
        return False
    found = False

    def visit(op: Any) -> Any:
        nonlocal found
        found |= op.name == "bm.while"
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(visit)
    return found


def has_side_effects(source: Source) -> bool:
    """Whether something in it does more than compute results."""
    if isinstance(source, Wrapped):
        return has_side_effects(source.source)
    found = False

    def visit(op: Any) -> Any:
        nonlocal found
        found |= "has_side_effect" in op.attributes
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(visit)
    return found


def linked(source: Source, callees: Mapping[str, tuple[Source, Mapping[str, str]]]) -> bytes:
    """`source` with each declaration named in `callees` replaced by that module's `@main`.

    With each module is told what its references are called in `source`.
    """
    with opened(source) as module:
        modules = {symbol: read(callee) for symbol, (callee, _) in callees.items()}
        for symbol, (_, references) in callees.items():
            _linking.rename_references(modules[symbol], references)
        _linking.link(module, modules)
        return bytecode(module)


def references(source: Source) -> set[str]:
    """The names of the references that something in it reads or changes."""
    if isinstance(source, Wrapped):
        return references(source.source)
    found: set[str] = set()

    def visit(op: Any) -> Any:
        if "reference" in op.attributes:
            found.update(name.value for name in op.attributes["ordered"])
        return ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(visit)
    return found


def with_shared_references(source: Source) -> bytes:
    """`source`, in which to write to a reference is an error of whoever runs it."""

    def mark(op: Any) -> Any:
        if "reference" in op.attributes and op.attributes["name"].value != "get":
            op.attributes["bm.shared"] = ir.UnitAttr.get()
        return ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(mark)
        return bytecode(module)


def text(source: Source, *, generic: bool = False, locations: bool = False) -> str:
    """`source` as text; `generic` is the form that any MLIR parser reads."""
    with opened(source) as module:
        if not locations:
            module.operation.walk(_drop_scope)
        asm = module.operation.get_asm(
            enable_debug_info=locations,
            print_generic_op_form=generic,
            use_name_loc_as_prefix=not generic,
        )
        return str(asm)


def _drop_scope(op: Any) -> Any:
    """Only inputs are to be printed with their names."""
    if op.location.is_a_callsite():
        op.location = op.location.caller
    return ir.WalkResult.ADVANCE


def further_results(source: Source, count: int) -> list[tuple[str, int | None]]:
    """For each result of `@main` after the first `count` its type, and where it is already.

    That is its number among the arguments and the first results; None for one of its own.
    """
    with opened(source) as module:
        block = ir.SymbolTable(module.operation)[MAIN].entry_block
        returned = list(block.operations[len(block.operations) - 1].operands)
        known = [*block.arguments, *returned[:count]]
        return [
            (str(value.type), known.index(value) if value in known else None)
            for value in returned[count:]
        ]


def extract(source: Source, symbol: str) -> bytes:
    """The module of function `symbol` as `@main` and of what it calls."""
    with opened(source) as module:
        symbols = ir.SymbolTable(module.operation)
        if symbol != MAIN:
            if MAIN in symbols:
                symbols.erase(symbols[MAIN])
            rename(module, symbols[symbol], MAIN)
        for function in module.body.operations:
            is_main = function.sym_name.value == MAIN
            function.attributes["sym_visibility"] = ir.StringAttr.get(
                "public" if is_main else "private"
            )
        PassManager.parse("builtin.module(symbol-dce)").run(module.operation)
        return bytecode(module)


def select_results(source: Source, keep: Sequence[bool]) -> Source:
    """`source` with only those results of `@main` that `keep` says."""
    if all(keep):
        return source
    if isinstance(source, Wrapped) and source.keep is None:
        return dataclasses.replace(source, keep=keep)
    with opened(source) as module:
        main = ir.SymbolTable(module.operation)[MAIN]
        returned = main.entry_block.operations[len(main.entry_block.operations) - 1]
        kept = [value for value, k in zip(returned.operands, keep, strict=True) if k]
        with ir.InsertionPoint(returned), returned.location:
            func.ReturnOp(kept)
        returned.erase()
        kept_types = [value.type for value in kept]
        main.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(main.type.inputs, kept_types)
        )
        return bytecode(module)
