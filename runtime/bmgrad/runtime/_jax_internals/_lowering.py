"""How a primitive is lowered and pruned: modules merged into the one that JAX builds."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
from jax._src import effects as jax_effects
from jax._src import xla_bridge
from jax._src.interpreters import partial_eval
from jax._src.interpreters.mlir import TokenSet, lower_per_platform, token_type
from jax._src.lib.mlir.dialects import func as func_dialect
from jax.extend.mlir import lower_with_sharding_in_types
from jax.interpreters import mlir

from bmgrad.runtime._jax_internals._avals import ShapedArray, plain_aval, without_mesh
from bmgrad.runtime._jax_internals._axes import axes_of_mesh, real_effects, with_axes
from bmgrad.runtime._jax_internals._host_calls import rules_by_implementation

# jaxlib's values and contexts are untyped on one of the two versions.
IrValue: TypeAlias = Any
LoweringContext: TypeAlias = Any
LoweringRule: TypeAlias = Callable[..., Sequence[IrValue]]

# What the pass `bm-keep-shared` sets on calls.
_NOT_INLINED = "mhlo.frontend_attributes"


def mark_as_whole(function: Any) -> None:
    """Says of a function to be compiled that there is nothing in it to run one by one.

    That is what `jax.debug_nans` tries in order to find where a NaN came from.
    """
    function._apply_primitive = True


def canonical_platform(platform: str) -> str:
    """`platform` as modules name it: `gpu` becomes `cuda` or `rocm`, whichever is present."""
    return str(xla_bridge.canonicalize_platform(platform))


def platforms_of(ctx: LoweringContext) -> tuple[str, ...]:
    """The platforms that the module being lowered is for: `cpu`, `cuda`, `rocm`, `tpu`."""
    return tuple(ctx.platforms or ctx.module_context.platforms)


def lower_each_platform(
    ctx: LoweringContext,
    name: str,
    rule: LoweringRule,
    effects: frozenset[Any],
    *args: IrValue,
    **params: Any,
) -> Sequence[IrValue]:
    """Emits `rule` once for each platform of the module, and the choice between them."""
    rules = dict.fromkeys(platforms_of(ctx), rule)
    results: Sequence[IrValue] = lower_per_platform(
        ctx, name, rules, None, effects, *args, **params
    )
    return results


def ordered_effects(effects: Collection[Any]) -> tuple[str, ...]:
    """The names of those effects whose order counts, which tokens keep."""
    return tuple(sorted(str(e) for e in effects if jax_effects.ordered_effects.contains(e)))


def _effects_of_tokens(ctx: LoweringContext, names: Sequence[str]) -> list[Any]:
    by_name = {str(effect): effect for effect in ctx.tokens_in.effects()}
    return [by_name[name] for name in names]


class Declaration(NamedTuple):
    """A function that a StableHLO module declares and leaves to JAX to define.

    `in_axes` has one tuple for each `bm.batch` that was applied to it, in that
    order, with 0 (batched at axis 0) or -1 for each operand, `out_axes` the like for each
    result, or nothing where all are batched. `kernel` is the name
    of the op that it stands for, with the op's attributes in `params`; empty for a
    primitive of the registry. It takes and gives a token for each of the effects that
    `tokens` names, or the value of the reference, before its arguments and results. `location`
    finds where it is called, for messages.
    """

    symbol: str
    in_types: tuple[str, ...]
    in_axes: tuple[tuple[int, ...], ...]
    out_axes: tuple[tuple[int, ...], ...]
    kernel: str
    params: dict[str, Any]
    tokens: tuple[str, ...]
    location: Callable[[], Any]


def _declaration(function: Any, location: Callable[[], Any]) -> Declaration:
    attributes: Any = function.attributes
    in_axes, out_axes = (
        tuple(tuple(axes) for axes in attributes[name]) if name in attributes else ()
        for name in ("bm.in_axes", "bm.out_axes")
    )
    kernel, params = "", {}
    if "bm.kernel" in attributes:
        kernel = attributes["bm.kernel"].value
        params = {entry.name: _plain(entry.attr) for entry in attributes["bm.params"]}
    tokens = _tokens(function)
    in_types = tuple(str(t) for t in function.function_type.value.inputs[len(tokens) :])
    symbol = function.sym_name.value
    return Declaration(symbol, in_types, in_axes, out_axes, kernel, params, tokens, location)


def _location_of_call(module: Any, symbol: str) -> Any:
    """Where the first call of the function stands."""
    found: list[Any] = []

    def visit(op: Any) -> Any:
        if op.name == "func.call" and op.attributes["callee"].value == symbol:
            found.append(op.location)
            return mlir.ir.WalkResult.INTERRUPT
        return mlir.ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found[0] if found else module.operation.location


def _tokens(function: Any) -> tuple[str, ...]:
    """The names of the effects and references for which a function takes and gives tokens."""
    attributes = function.attributes
    return (
        tuple(name.value for name in attributes["bm.tokens"]) if "bm.tokens" in attributes else ()
    )


def _plain(attribute: Any) -> Any:
    """A builtin attribute as a Python value: a bool, a number, a string or a list of numbers."""
    if isinstance(attribute, mlir.ir.UnitAttr):
        return True
    if isinstance(attribute, mlir.ir.DenseI64ArrayAttr):
        return list(attribute)
    return attribute.value


def _holds(source: str | bytes, word: str) -> bool:
    return word in source if isinstance(source, str) else word.encode() in source


def _let_inline(module: Any) -> None:
    """Lets XLA inline calls that only its compiler for CPUs needs as they are."""

    def visit(op: Any) -> Any:
        if op.name == "func.call" and _NOT_INLINED in op.attributes:
            del op.attributes[_NOT_INLINED]
        return mlir.ir.WalkResult.ADVANCE

    module.operation.walk(visit)


def _rename_uses(module: Any, old: str, new: str) -> None:
    for user in module.body.operations:
        mlir.ir.SymbolTable.replace_all_symbol_uses(old, new, user.operation)


def call_module(
    ctx: LoweringContext,
    source: str | bytes,
    name: str,
    define: Callable[[LoweringContext, Declaration], str],
    args: Sequence[IrValue],
    references: Mapping[str, IrValue],
) -> list[IrValue]:
    """Moves a StableHLO module into the one being lowered and calls its `@main`.

    `references` are their values by name; the new ones follow the results. A function that
    the module only declares is replaced by the one that `define` puts into the destination
    and returns the name of. The others get fresh names, `@main` that of `name`.
    """
    target = ctx.module_context
    module: Any = mlir.ir.Module.parse(source, target.context)
    if platforms_of(ctx) != ("cpu",) and _holds(source, _NOT_INLINED):
        _let_inline(module)
    symbols: Any = mlir.ir.SymbolTable(module.operation)
    externals = [function for function in module.body.operations if function.is_external]
    declarations = [
        _declaration(
            function,
            functools.partial(_location_of_call, module, f"{function.sym_name.value}.declared"),
        )
        for function in externals
    ]
    # What one declaration becomes may have the name of another, so all are renamed first.
    for declared in declarations:
        _rename_uses(module, declared.symbol, f"{declared.symbol}.declared")
    for function, declared in zip(externals, declarations, strict=True):
        provided = define(ctx, declared)
        # Uses may dangle until the merge below brings both modules together.
        function.erase()
        _rename_uses(module, f"{declared.symbol}.declared", provided)
    main = symbols["main"]
    results = list(main.function_type.value.results)
    names = _tokens(main)
    ordered = [n for n in names if n not in references]
    effects = dict(zip(ordered, _effects_of_tokens(ctx, ordered), strict=True))
    if names:
        del main.attributes["bm.tokens"]
    threaded = [references[n] if n in references else ctx.tokens_in.get(effects[n]) for n in names]
    symbol = mlir.merge_mlir_modules(target.module, name, module, target.symbol_table)
    call = func_dialect.CallOp(results, mlir.ir.FlatSymbolRefAttr.get(symbol), [*threaded, *args])
    given = dict(zip(names, call.results[: len(names)], strict=True))
    values = [*call.results[len(names) :], *({**references, **given}[n] for n in references)]
    if len(ctx.tokens_in):
        tokens = TokenSet({effect: given[n] for n, effect in effects.items()})
        ctx.set_tokens_out(ctx.tokens_in.update_tokens(tokens))
    return [
        lower_with_sharding_in_types(ctx, result, aval)
        for result, aval in zip(values, ctx.avals_out, strict=True)
    ]


def define_function(
    ctx: LoweringContext,
    name: str,
    fun: Callable[..., Sequence[Any]],
    in_avals: Sequence[ShapedArray],
    key: Hashable,
    tokens: Sequence[str] = (),
    primitive: Any = None,
) -> str:
    """Lowers the JAX function `fun` to a private function of the module; returns its name.

    It takes and gives a token for each of the effects that `tokens` names, first. If `primitive`
    has only an implementation in Python, that runs on the host. The functions of one module
    that are defined with equal `key` and avals are one.
    """
    ir, target, platforms = mlir.ir, ctx.module_context, platforms_of(ctx)
    key = (key, tuple(in_avals), platforms)
    try:
        defined = target.cached_primitive_lowerings.get(key)
    except TypeError:  # A parameter cannot be hashed: nothing is equal to it.
        defined, key = None, object()
    if defined is not None:
        return str(defined.sym_name.value)
    # The axes of devices: collectives may be over these.
    axes = axes_of_mesh(ctx.module_context.axis_context)
    effects = _effects_of_tokens(ctx, tokens)
    in_types: Any = [token_type() for _ in effects]
    in_types += [mlir.aval_to_ir_type(target, aval) for aval in in_avals]
    function: Any = func_dialect.FuncOp(name, ir.FunctionType.get(in_types, []), ip=target.ip)
    function.attributes["sym_visibility"] = ir.StringAttr.get("private")
    target.symbol_table.insert(function)
    target.cached_primitive_lowerings[key] = function
    block = function.add_entry_block()
    given, args = block.arguments[: len(effects)], block.arguments[len(effects) :]
    # The function is a scope of its own: it sees no constants, dimensions or tokens
    # of the place where it is called.
    parameters = target.lowering_parameters
    rules = (
        *(parameters.override_lowering_rules or ()),
        *rules_by_implementation(primitive, platforms),
    )
    inner = ctx.replace(
        module_context=target.replace(
            platforms=platforms,
            shape_poly_state=mlir.ShapePolyLoweringState((), platforms),
            lowering_parameters=dataclasses.replace(parameters, override_lowering_rules=rules),
        ),
        platforms=None,
        avals_in=tuple(in_avals),
        avals_out=None,
        tokens_in=TokenSet(dict(zip(effects, given, strict=True))),
        tokens_out=None,
        const_lowering={},
        dim_var_values=(),
    )
    with ir.InsertionPoint(block), without_mesh(), with_axes(axes):
        results = list(mlir.lower_fun(fun)(inner, *args))
        tokens_out: Any = inner.tokens_out
        returned = func_dialect.ReturnOp([*map(tokens_out.get, effects), *results])
    # Only now are the types of the results known: to ask for them before would trace `fun` twice.
    out_types = [result.type for result in returned.operands]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(in_types, out_types))
    return str(function.sym_name.value)


def result_avals(
    fun: Callable[..., Sequence[Any]], in_avals: Sequence[ShapedArray]
) -> list[ShapedArray]:
    """What the JAX function `fun` returns for such arguments."""
    with without_mesh():
        return [plain_aval(aval) for aval in jax.eval_shape(fun, *in_avals)]


def register_pruning(
    primitive: Any,
    prune: Callable[..., tuple[dict[str, Any], Sequence[bool], Sequence[bool]]],
) -> None:
    """Lets JAX leave out results of `primitive` that nothing reads, and operands only for them.

    `prune(used, **params)` gives the parameters for the `used` results, and which operands
    and results are kept.
    """

    # One of the two versions also says which inputs are live, for their effects.
    def rule(used_outputs: list[bool], *live_inputs_and_eqn: Any) -> tuple[list[bool], Any]:
        eqn = live_inputs_and_eqn[-1]
        if not any(used_outputs) and not real_effects(eqn.effects):
            return [False] * len(eqn.invars), None
        params, kept, kept_results = prune(used_outputs, **eqn.params)
        pruned = eqn.replace(
            invars=list(itertools.compress(eqn.invars, kept)),
            outvars=list(itertools.compress(eqn.outvars, kept_results)),
            params=params,
        )
        return list(kept), pruned

    partial_eval.dce_rules[primitive] = rule
