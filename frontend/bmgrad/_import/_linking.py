"""Programs that call programs: their functions are copied into the caller's module.

In: the text of a module that declares each callee's `@main` under a symbol of its
own. Out: the module with the callees in it, as bytecode.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from bmgrad.mlir import ir
from bmgrad.runtime import _pipeline
from bmgrad.runtime._program import Program


def link(text: str, programs: Mapping[str, tuple[Program, Mapping[str, str]]]) -> bytes:
    """`text` with each declaration named in `programs` replaced by that program.

    With each program is told what its references are called in `text`.
    """
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        symbols = ir.SymbolTable(module.operation)
        taken = {op.sym_name.value for op in module.body.operations}
        for symbol, (program, references) in programs.items():
            symbols.erase(symbols[symbol])
            taken.discard(symbol)
            callee = _pipeline.read(program.source())
            _rename(callee, symbol, taken)
            _rename_references(callee, references)
            for function in list(callee.body.operations):
                function.detach_from_parent()
                module.body.append(function)
        module.operation.verify()
        buffer = io.BytesIO()
        module.operation.write_bytecode(buffer)
        return buffer.getvalue()


def _rename_references(module: Any, names: Mapping[str, str]) -> None:
    def rename(op: Any) -> Any:
        if "reference" in op.attributes:
            (name,) = op.attributes["ordered"]
            op.attributes["ordered"] = ir.ArrayAttr.get([ir.StringAttr.get(names[name.value])])
        return ir.WalkResult.ADVANCE

    if names:
        module.operation.walk(rename)


def _rename(module: Any, main: str, taken: set[str]) -> None:
    """Makes `@main` private and called `main`, and keeps the other names off `taken`."""
    symbols = ir.SymbolTable(module.operation)
    names = [op.sym_name.value for op in module.body.operations]
    reserved = taken | set(names) | {main}
    for old in names:
        function = symbols[old]
        new = main
        if old == "main":
            function.attributes["sym_visibility"] = ir.StringAttr.get("private")
        elif old in taken:
            number = 1
            while (new := f"{old}_{number}") in reserved:
                number += 1
        else:
            taken.add(old)
            continue
        symbols.set_symbol_name(function, new)
        symbols.replace_all_symbol_uses(old, new, module.operation)
        taken.add(new)
        reserved.add(new)
