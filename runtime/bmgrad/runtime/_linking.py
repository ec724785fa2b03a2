"""Modules that call functions of other modules: these are copied into the caller's.

In: a module that calls each callee's `@main` by a symbol of its own, and the callees.
Out: the module with them in it.
"""

from collections.abc import Mapping
from typing import Any

from bmgrad.mlir import ir


def link(module: ir.Module, callees: Mapping[str, ir.Module]) -> None:
    """Adds the `@main` of each module under its name in `callees`, where it may be declared."""
    symbols = ir.SymbolTable(module.operation)
    taken = {op.sym_name.value for op in module.body.operations}
    for symbol, callee in callees.items():
        if symbol in symbols:
            symbols.erase(symbols[symbol])
        taken.discard(symbol)
        _rename(callee, symbol, taken)
        for function in list(callee.body.operations):
            function.detach_from_parent()
            module.body.append(function)
    module.operation.verify()


def rename_references(module: ir.Module, names: Mapping[str, str]) -> None:
    """Calls the references that something in `module` uses as `names` says."""

    def rename(op: Any) -> Any:
        if "reference" in op.attributes:
            (name,) = op.attributes["ordered"]
            op.attributes["ordered"] = ir.ArrayAttr.get([ir.StringAttr.get(names[name.value])])
        return ir.WalkResult.ADVANCE

    if names:
        with module.context:
            module.operation.walk(rename)


def _rename(module: ir.Module, main: str, taken: set[str]) -> None:
    """Makes `@main` private and called `main`, and keeps the other names off `taken`."""
    symbols = ir.SymbolTable(module.operation)
    names = [op.sym_name.value for op in module.body.operations]
    reserved = taken | set(names) | {main}
    taken.add(main)
    for old in names:
        if old == "main" or old not in taken:
            taken.add(old)
            continue
        number = 1
        while (new := f"{old}_{number}") in reserved:
            number += 1
        _rename_symbol(module, symbols, old, new)
        taken.add(new)
        reserved.add(new)
    # Now nothing else in the module is called so.
    symbols["main"].attributes["sym_visibility"] = ir.StringAttr.get("private")
    _rename_symbol(module, symbols, "main", main)


def _rename_symbol(module: ir.Module, symbols: Any, old: str, new: str) -> None:
    symbols.set_symbol_name(symbols[old], new)
    symbols.replace_all_symbol_uses(old, new, module.operation)
