"""Runs the passes on a module, and the few edits that programs need around them.

In: a module of the bm dialect as text or bytecode. Out: bytecode, or text to read.
The names of passes and pipelines are written here and nowhere else in Python.
"""

import dataclasses
import io
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from bmgrad.mlir import ir
from bmgrad.mlir.dialects import func
from bmgrad.mlir.passmanager import PassManager
from bmgrad.runtime import _linking, _put_off
from bmgrad.runtime._errors import (
    RulesWanted,
    UnsupportedError,
    from_diagnostics,
)
from bmgrad.runtime._options import Options
from bmgrad.runtime._put_off import Flags, PutOff


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

# What a pass reports that is about the IR, and not about what the user wrote.
PassFailed = ir.MLIRError
_T = TypeVar("_T")

MAIN = "main"
FWD, LIN = "main.fwd", "main.lin"
# The primitive that says on which platform a program runs.
_PLATFORM = "platform_index"


def differentiate() -> str:
    """Transform ops, innermost first, and calls become what they mean."""
    return "bm-differentiate"


def optimize(options: Options) -> str:
    """Forward and adjoint together, loops included."""
    return "bm-optimize" + _braced(dict(options.pass_options()))


def lower() -> str:
    """To StableHLO."""
    return "bm-lower"


def linearize(wrt: Sequence[int]) -> str:
    """`@main` becomes `@main.fwd` and `@main.lin`."""
    return "bm-linearize" + _braced({"function": MAIN, "wrt": ",".join(map(str, wrt))})


def transpose(num_residuals: int) -> str:
    """`@main`, linear in what follows its residuals, is turned round in place."""
    return "bm-transpose" + _braced({"function": MAIN, "residuals": str(num_residuals)})


def _braced(options: Mapping[str, str]) -> str:
    if not options:
        return ""
    return "{" + " ".join(f"{name}={value}" for name, value in options.items()) + "}"


def run(source: Source, pipeline: str) -> bytes:
    """`source` after `pipeline`."""

    def act(module: ir.Module) -> bytes:
        _run(PassManager.parse(f"builtin.module({pipeline})"), module)
        return _bytecode(module)

    return _with_rules_at_need(source, act)


def stablehlo(source: Source, options: Options) -> tuple[bytes, list[int]]:
    """`source` after all pipelines, and which arguments of `@main` nothing reads then.

    jaxlib, which has the dialects, reads our unregistered ops as its own. Text would do as well,
    but printing and parsing it costs ten times as much.
    """
    pipelines = ",".join([differentiate(), optimize(options), lower()])

    def act(module: ir.Module) -> tuple[bytes, list[int]]:
        manager = PassManager.parse(f"builtin.module({pipelines})")
        # The module was verified when it was read, and will be by jaxlib.
        manager.enable_verifier(False)
        _run(manager, module)
        return _bytecode(module), _unused_arguments(module)

    return _with_rules_at_need(source, act)


def batched_results(source: Source, batched: Sequence[int], size: int, axis: str) -> list[bool]:
    """Which results differ between elements of a batch of these arguments.

    The batch is over the axis that collectives call `axis`; it may be empty.
    """
    options = {
        "function": MAIN,
        "axis": axis,
        "size": str(size),
        "batched": ",".join(map(str, batched)),
    }
    options = {name: value for name, value in options.items() if value}
    with _opened(source) as module:
        _run(PassManager.parse(f"builtin.module(bm-find-batched{_braced(options)})"), module)
        main = ir.SymbolTable(module.operation)[MAIN]
        return list(main.attributes["bm.batched"])


def chooses_platform(source: Source) -> bool:
    """Whether something in it depends on where it runs (`jax.lax.platform_dependent`)."""
    if isinstance(source, Wrapped):
        return chooses_platform(source.source)
    return _PLATFORM in source if isinstance(source, str) else _PLATFORM.encode() in source


def on_platform(source: Source, number_of: Callable[[int], int]) -> bytes:
    """`source` where it runs, with the branches for there only.

    `number_of` says which of its branches a kernel that asks for the platform stands for.
    """

    def choose(op: Any) -> Any:
        if op.name == "bm.kernel" and op.attributes["name"].value == _PLATFORM:
            number = number_of(op.attributes["id"].value)
            with ir.InsertionPoint(op), op.location:
                op.results[0].replace_all_uses_with(_constant(op.results[0].type, number))
        return ir.WalkResult.ADVANCE

    with _opened(source) as module:
        module.operation.walk(choose)
        _run(PassManager.parse("builtin.module(canonicalize,symbol-dce)"), module)
        return _bytecode(module)


def without_kernels(source: Source, drop: Callable[[int], bool]) -> bytes:
    """`source` without the kernels that have no results and whose number `drop` says."""

    def visit(op: Any) -> Any:
        if op.name == "bm.kernel" and not op.results and drop(op.attributes["id"].value):
            op.erase()
            return ir.WalkResult.SKIP
        return ir.WalkResult.ADVANCE

    with _opened(source) as module:
        module.operation.walk(visit, ir.WalkOrder.POST_ORDER)
        return _bytecode(module)


def _unused_arguments(module: ir.Module) -> list[int]:
    main = ir.SymbolTable(module.operation)[MAIN]
    arguments = list(main.arguments)[_num_tokens(main) :]
    return [i for i, value in enumerate(arguments) if next(iter(value.uses), None) is None]


def _num_tokens(function: Any) -> int:
    """How many tokens and values of references a lowered function takes before its arguments."""
    return len(function.attributes["bm.tokens"]) if "bm.tokens" in function.attributes else 0


def without_arguments(source: Source, unused: Sequence[int]) -> bytes:
    """`source` without those arguments of `@main`, which nothing reads."""
    with _opened(source) as module:
        main = ir.SymbolTable(module.operation)[MAIN]
        for number in reversed(unused):
            main.entry_block.erase_argument(_num_tokens(main) + number)
        types = [value.type for value in main.arguments]
        main.attributes["function_type"] = ir.TypeAttr.get(
            ir.FunctionType.get(types, main.type.results)
        )
        return _bytecode(module)


def to_transpose(source: Source, order: Sequence[int], names: Sequence[str]) -> bytes:
    """`source`, where `@main` takes its arguments in this order, under these names.

    Functions with derivative rules are called without, for a transpose is of what they compute.
    """
    with _opened(source) as module:
        inner = ir.SymbolTable(module.operation)[MAIN]
        callee = _rename(module, inner, "primal")
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
        return _bytecode(module)


def has_custom_rules(source: Source) -> bool:
    """Whether a function in it brings its own derivative rule."""
    if isinstance(source, Wrapped):
        return has_custom_rules(source.source)
    if isinstance(source, str):
        return "bm.custom_" in source or "bm.linear_solve" in source
    return b"custom_" in source or b"linear_solve" in source


def has_side_effects(source: Source) -> bool:
    """Whether something in it does more than compute results."""
    if isinstance(source, Wrapped):
        return has_side_effects(source.source)
    found = False

    def visit(op: Any) -> Any:
        nonlocal found
        found |= "has_side_effect" in op.attributes
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    with _opened(source) as module:
        module.operation.walk(visit)
    return found


def linked(source: Source, callees: Mapping[str, tuple[Source, Mapping[str, str]]]) -> bytes:
    """`source` with each declaration named in `callees` replaced by that module's `@main`.

    With each module is told what its references are called in `source`.
    """
    with _opened(source) as module:
        modules = {symbol: read(callee) for symbol, (callee, _) in callees.items()}
        for symbol, (_, references) in callees.items():
            _linking.rename_references(modules[symbol], references)
        _linking.link(module, modules)
        return _bytecode(module)


def _with_rules_at_need(source: Source, act: Callable[[ir.Module], _T]) -> _T:
    """What `act` gives for `source`, with those put-off derivative rules that it asks for."""
    wanted: dict[PutOff, Flags] = {}
    module_now = source
    while True:
        try:
            with _opened(module_now) as module:
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
        # Where a call has rules already and needs others, what has them is of no use.
        is_new = all(wanted[call] == flags for call, flags in known.items())
        module_now = _with_rules(module_now if is_new else source, wanted)


def _with_rules(source: Source, wanted: Mapping[PutOff, Flags]) -> bytes:
    """`source`, where the `wanted` calls have the derivative rules for those of their operands."""
    with _opened(source) as module:
        while _replace_put_off(module, wanted):
            pass
        return _bytecode(module)


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
        outs = [_over(t, size) for t in type.results]
        attributes = {
            "callee": ir.FlatSymbolRefAttr.get(symbol),
            "in_axes": _attribute(axes),
            "out_axes": _attribute([0] * len(outs)),
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


def references(source: Source) -> set[str]:
    """The names of the references that something in it reads or changes."""
    if isinstance(source, Wrapped):
        return references(source.source)
    found: set[str] = set()

    def visit(op: Any) -> Any:
        if "reference" in op.attributes:
            found.update(name.value for name in op.attributes["ordered"])
        return ir.WalkResult.ADVANCE

    with _opened(source) as module:
        module.operation.walk(visit)
    return found


def with_shared_references(source: Source) -> bytes:
    """`source`, in which to write to a reference is an error of whoever runs it."""

    def mark(op: Any) -> Any:
        if "reference" in op.attributes and op.attributes["name"].value != "get":
            op.attributes["bm.shared"] = ir.UnitAttr.get()
        return ir.WalkResult.ADVANCE

    with _opened(source) as module:
        module.operation.walk(mark)
        return _bytecode(module)


def _run(manager: Any, module: ir.Module) -> None:
    error = None
    try:
        manager.run(module.operation)
    except ir.MLIRError as failure:
        error = from_diagnostics(failure.error_diagnostics)
        if error is None:
            raise
    if error is not None:
        raise error


def text(source: Source, *, generic: bool = False, locations: bool = False) -> str:
    """`source` as text; `generic` is the form that any MLIR parser reads."""
    with _opened(source) as module:
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
    with _opened(source) as module:
        block = ir.SymbolTable(module.operation)[MAIN].entry_block
        returned = list(block.operations[len(block.operations) - 1].operands)
        known = [*block.arguments, *returned[:count]]
        return [
            (str(value.type), known.index(value) if value in known else None)
            for value in returned[count:]
        ]


def extract(source: Source, symbol: str) -> bytes:
    """The module of function `symbol` as `@main` and of what it calls."""
    with _opened(source) as module:
        symbols = ir.SymbolTable(module.operation)
        if symbol != MAIN:
            if MAIN in symbols:
                symbols.erase(symbols[MAIN])
            _rename(module, symbols[symbol], MAIN)
        for function in module.body.operations:
            is_main = function.sym_name.value == MAIN
            function.attributes["sym_visibility"] = ir.StringAttr.get(
                "public" if is_main else "private"
            )
        PassManager.parse("builtin.module(symbol-dce)").run(module.operation)
        return _bytecode(module)


def select_results(source: Source, keep: Sequence[bool]) -> Source:
    """`source` with only those results of `@main` that `keep` says."""
    if all(keep):
        return source
    if isinstance(source, Wrapped) and source.keep is None:
        return dataclasses.replace(source, keep=keep)
    with _opened(source) as module:
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
        return _bytecode(module)


@contextmanager
def _opened(source: Source) -> Iterator[ir.Module]:
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
    inner_name = _rename(module, inner, "primal")
    inner.attributes["sym_visibility"] = ir.StringAttr.get("private")
    arguments = [ir.Type.parse(t) for t in source.in_types]
    results = [ir.Type.parse(t) for t in source.out_types]
    with ir.InsertionPoint.at_block_begin(module.body), inner.location:
        main = func.FuncOp(MAIN, ir.FunctionType.get(arguments, results))
    block = main.add_entry_block([ir.Location.name(name) for name in source.in_names])
    values = {name: _attribute(value) for name, value in source.attributes.items()}
    values["callee"] = ir.FlatSymbolRefAttr.get(inner_name)
    with ir.InsertionPoint(block), inner.location:
        operands = [*block.arguments, *(_constant(ir.Type.parse(t), 1) for t in source.ones)]
        for position, zeros in sorted(source.zeros.items()):
            operands.insert(position, _constant(ir.Type.parse(zeros), 0))
        applied = ir.Operation.create(
            source.op, results=results, operands=operands, attributes=values
        )
        kept = source.keep or [True] * len(results)
        func.ReturnOp(list(itertools.compress(applied.results, kept)))
    main.attributes["function_type"] = ir.TypeAttr.get(
        ir.FunctionType.get(arguments, list(itertools.compress(results, kept)))
    )
    return module


def _bytecode(module: ir.Module) -> bytes:
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    return buffer.getvalue()


def _attribute(value: Sequence[int] | int | str) -> Any:
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    return ir.DenseI64ArrayAttr.get(list(value))


def _constant(tensor: ir.Type, number: int) -> Any:
    element = ir.RankedTensorType(tensor).element_type
    if isinstance(element, ir.IntegerType):
        text = str(number) if element.width > 1 else str(bool(number)).lower()
    else:
        text = f"({number}.0,0.0)" if isinstance(element, ir.ComplexType) else f"{number}.0"
    # As text: the bindings have no class for an attribute of complex numbers.
    value = f"{{value = dense<{text}> : {tensor}}}"
    constant = ir.Operation.parse(f'"bm.constant"() {value} : () -> {tensor}')
    ir.InsertionPoint.current.insert(constant)
    return constant.result


def _rename(module: ir.Module, function: Any, wanted: str) -> str:
    """Gives `function` the name `wanted`, or one like it that is free; returns the name."""
    symbols = ir.SymbolTable(module.operation)
    old, new, tried = function.sym_name.value, wanted, 0
    while new in symbols:
        tried += 1
        new = f"{wanted}_{tried}"
    symbols.set_symbol_name(function, new)
    symbols.replace_all_symbol_uses(old, new, module.operation)
    return new
