"""Modules between passes: as text, as bytecode, or as a transform still to be written out.

In: such a source. Out: the module that it stands for, in an MLIR context of its own.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from bmgrad.mlir import ir
from bmgrad.mlir.dialects import func


@dataclasses.dataclass(frozen=True)
class Wrapped:
    """A module whose `@main` applies transform `op` to the `@main` of `source`.

    `attributes` of `op` are 64-bit integers, arrays of them or strings. Its operands are the
    arguments of `@main`, then arrays of ones of the types `ones`; at the positions in
    `zeros` are arrays of zeros. `@main` returns those of its results that `keep` says, by
    default all.
    """

    source: "Source"
    op: str
    attributes: Mapping[str, Sequence[int] | int | str]
    in_types: Sequence[str]
    out_types: Sequence[str]
    in_names: Sequence[str]
    ones: Sequence[str] = ()
    zeros: Mapping[int, str] = dataclasses.field(default_factory=dict)
    keep: Sequence[bool] | None = None


# What travels between contexts: MLIR text, bytecode, or what is made of another module
# when it is opened, so that no module is written and read just to be wrapped.
Source: TypeAlias = str | bytes | Wrapped


MAIN = "main"


@contextmanager
def opened(source: Source) -> Iterator[ir.Module]:
    with ir.Context() as context, ir.Location.unknown():
        # StableHLO is made here and read elsewhere; its dialects are not loaded.
        context.allow_unregistered_dialects = True
        yield read(source)


def read(source: Source) -> ir.Module:
    """The module of `source`, in the current context."""
    if not isinstance(source, Wrapped):
        return ir.Module.parse(source)
    module = read(source.source)
    inner = ir.SymbolTable(module.operation)[MAIN]
    inner_name = rename(module, inner, "primal")
    inner.attributes["sym_visibility"] = ir.StringAttr.get("private")
    arguments = [ir.Type.parse(t) for t in source.in_types]
    results = [ir.Type.parse(t) for t in source.out_types]
    with ir.InsertionPoint.at_block_begin(module.body), inner.location:
        main = func.FuncOp(MAIN, ir.FunctionType.get(arguments, results))
    block = main.add_entry_block([ir.Location.name(name) for name in source.in_names])
    values = {name: attribute(value) for name, value in source.attributes.items()}
    values["callee"] = ir.FlatSymbolRefAttr.get(inner_name)
    with ir.InsertionPoint(block), inner.location:
        operands = [*block.arguments, *(constant(ir.Type.parse(t), 1) for t in source.ones)]
        for position, zeros in sorted(source.zeros.items()):
            operands.insert(position, constant(ir.Type.parse(zeros), 0))
        applied = ir.Operation.create(
            source.op, results=results, operands=operands, attributes=values
        )
        kept = source.keep or [True] * len(results)
        func.ReturnOp(list(itertools.compress(applied.results, kept)))
    main.attributes["function_type"] = ir.TypeAttr.get(
        ir.FunctionType.get(arguments, list(itertools.compress(results, kept)))
    )
    return module


def bytecode(module: ir.Module) -> bytes:
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    return buffer.getvalue()


def attribute(value: Sequence[int] | int | str) -> Any:
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    return ir.DenseI64ArrayAttr.get(list(value))


def constant(tensor: ir.Type, number: int) -> Any:
    """An array of this type, each element of which is `number`, made at the insertion point."""
    element = ir.RankedTensorType(tensor).element_type
    if isinstance(element, ir.ComplexType):
        # As text: the bindings have no class for an attribute of complex numbers.
        value = f"dense<({number}.0, 0.0)> : {tensor}"
        made = ir.Operation.parse(f'"bm.constant"() {{value = {value}}} : () -> {tensor}')
        ir.InsertionPoint.current.insert(made)
        return made.result
    if isinstance(element, ir.IntegerType):
        text = str(number) if element.width > 1 else str(bool(number)).lower()
    else:
        text = f"{number}.0"
    # Not as text: what is parsed is returned by its class, and to load those of all ops takes
    # longer than to compile a small program.
    elements = ir.Attribute.parse(f"dense<{text}> : {tensor}")
    created = ir.Operation.create("bm.constant", results=[tensor], attributes={"value": elements})
    return created.result


def rename(module: ir.Module, function: Any, wanted: str) -> str:
    """Gives `function` the name `wanted`, or one like it that is free; returns the name."""
    symbols = ir.SymbolTable(module.operation)
    old, new, tried = function.sym_name.value, wanted, 0
    while new in symbols:
        tried += 1
        new = f"{wanted}_{tried}"
    symbols.set_symbol_name(function, new)
    symbols.replace_all_symbol_uses(old, new, module.operation)
    return new
