"""Runs the passes on a module.

In: a module of the bm dialect as text or bytecode. Out: bytecode.
The names of passes and pipelines are written here and nowhere else in Python. Next: `_source.py`
for what a module is outside of MLIR, `_edits.py` for the changes that need no pass.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bmgrad.mlir import ir
from bmgrad.mlir.passmanager import PassManager
from bmgrad.runtime._at_need import with_rules_at_need
from bmgrad.runtime._edits import unused_arguments
from bmgrad.runtime._errors import from_diagnostics
from bmgrad.runtime._options import Options
from bmgrad.runtime._source import MAIN, Source, Wrapped, bytecode, constant, opened

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
        return bytecode(module)

    return with_rules_at_need(source, act)


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
        return bytecode(module), unused_arguments(module)

    return with_rules_at_need(source, act)


def batched_results(
    source: Source, batched: Sequence[int], size: int, axis: str, tangents: bool
) -> list[bool]:
    """Which results differ between elements of a batch of these arguments.

    The batch is over the axis that collectives call `axis`; it may be empty. With `tangents` those
    count whose tangents differ.
    """
    options = {
        "function": MAIN,
        "axis": axis,
        "size": str(size),
        "batched": ",".join(map(str, batched)),
        "tangents": "true" if tangents else "false",
    }
    options = {name: value for name, value in options.items() if value}

    def act(module: ir.Module) -> list[bool]:
        _run(PassManager.parse(f"builtin.module(bm-find-batched{_braced(options)})"), module)
        main = ir.SymbolTable(module.operation)[MAIN]
        return list(main.attributes["bm.batched"])

    return with_rules_at_need(source, act)


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
                op.results[0].replace_all_uses_with(constant(op.results[0].type, number))
        return ir.WalkResult.ADVANCE

    with opened(source) as module:
        module.operation.walk(choose)
        _run(PassManager.parse("builtin.module(canonicalize,symbol-dce)"), module)
        return bytecode(module)
