"""Everything bmgrad takes from JAX below its public surface, and nothing else.

In: avals, Python functions, jaxpr equations, StableHLO text. Out: jaxprs, user
locations, results of merged modules. Tested with the two JAX versions that
`pyproject.toml` names; a new version of JAX should cost changes here alone.
Next: `_primitive.py` uses the lowering half, the frontend the tracing half.
"""

import contextlib
import functools
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import numpy as np
from jax._src import core, dtypes, source_info_util, xla_bridge
from jax._src import effects as jax_effects
from jax._src.interpreters import ad as internal_ad
from jax._src.interpreters import partial_eval, pxla
from jax._src.interpreters.mlir import lower_per_platform
from jax._src.lib.mlir.dialects import func as func_dialect
from jax.custom_derivatives import SymbolicZero
from jax.extend import core as extend_core
from jax.extend.core import DebugInfo
from jax.extend.mlir import lower_with_sharding_in_types
from jax.extend.source_info_util import register_exclusion
from jax.interpreters import ad, mlir
from jax.sharding import PartitionSpec

from bmgrad.runtime._valued_trace import ValuedTrace

# jaxlib's values and contexts are untyped on one of the two versions.
# One version defines it elsewhere, which its own type annotations do not say.
_ClosedJaxpr: Any = vars(extend_core)["ClosedJaxpr"]
IrValue: TypeAlias = Any
LoweringContext: TypeAlias = Any
ShapedArray = jax.core.ShapedArray
# What rules of hijax add cotangents to, those that count and the others.
NullAccum: Any = internal_ad.NullAccum
ValAccum: Any = internal_ad.ValAccum

# bmgrad's own frames are not the user's: neither for the locations below nor
# for the ones that JAX puts on its errors.
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
register_exclusion(_PACKAGE)


# -- Avals ---------------------------------------------------------------------------------------


def plain_aval(aval: Any) -> ShapedArray:
    """`aval` without sharding or memory space: shape, dtype and weak type only."""
    return ShapedArray(aval.shape, aval.dtype, weak_type=aval.weak_type)


def physical_aval(aval: ShapedArray) -> ShapedArray:
    """The aval of the buffer behind `aval`: PRNG keys become uint32, the rest stays."""
    physical: ShapedArray = core.physical_aval(aval)
    return physical


def tangent_aval(aval: ShapedArray) -> ShapedArray:
    """The aval of `aval`'s tangents: its own, or float0 where it is not differentiable."""
    tangent: ShapedArray = aval.to_tangent_aval()
    return tangent


def has_tangent(aval: ShapedArray) -> bool:
    """Whether `aval` is differentiable: float or complex."""
    return bool(aval.to_tangent_aval().dtype != jax.dtypes.float0)


def is_reference(value: Any) -> bool:
    """Whether `value` is a mutable array, as `jax.new_ref` makes them."""
    try:
        return isinstance(jax.typeof(value), jax.ref.AbstractRef)
    except TypeError:
        return False


def match_varying(args: Sequence[Any]) -> Sequence[Any]:
    """Makes `args` vary over the same manual mesh axes, as JAX does before an `add`.

    Matters inside `jax.shard_map` only.
    """
    matched: Sequence[Any] = core.auto_insert_reshard(*args)
    return matched


def placed_like(
    name: str, out_avals: Sequence[ShapedArray], in_avals: Sequence[ShapedArray]
) -> list[ShapedArray]:
    """`out_avals` as results on the current mesh of an operation on `in_avals`.

    They vary over the manual axes that the operands vary over (inside `shard_map`),
    and are replicated over explicit axes.
    """
    if core.get_cur_mesh_sharding().mesh.empty:
        return list(out_avals)
    mat = core.ManualAxisType(varying=core.standard_vma_rule(name, *in_avals))
    return [
        ShapedArray(
            aval.shape,
            aval.dtype,
            weak_type=aval.weak_type,
            sharding=core.get_cur_mesh_sharding(PartitionSpec(*[None] * aval.ndim)),
            manual_axis_type=mat,
        )
        for aval in out_avals
    ]


def placed_as_cotangent(ct: Any, primal: ShapedArray) -> Any:
    """`ct` on the explicit mesh axes that JAX expects of a cotangent of `primal`."""
    wanted = primal.to_ct_aval().sharding
    if wanted.mesh.empty or jax.typeof(ct).sharding == wanted:
        return ct
    return jax.reshard(ct, wanted)


def without_mesh() -> contextlib.AbstractContextManager[Any]:
    """A scope in which values belong to no mesh, as inside a program they do not.

    What a program does is placed where it is called; see `placed_like`.
    """
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))


def accept_as_array(cls: type, value: Callable[[Any], Any]) -> None:
    """Lets every JAX operation take objects of class `cls` as the arrays that `value` gives.

    JAX calls `__jax_array__` in `jax.numpy` only; this is for `jax.lax` and the rest.
    """
    dtypes.register_canonicalize_value_handler(cls, lambda x: dtypes.canonicalize_value(value(x)))
    core.pytype_aval_mappings[cls] = lambda x: core.typeof(value(x))


# -- Tracing -------------------------------------------------------------------------------------

# JAX caches the jaxpr of each inner `jit`, `scan`, ... by function and avals.
# Where such a function reads a variable, its cached jaxpr closes over a tracer
# that is right for one trace and one state of the variables only. So traces run
# under a context value that is part of JAX's cache keys, and that is renewed
# once a variable has been read inside an inner trace and the state may differ
# from then on. Traces without such reads share one value, and with it what JAX
# has cached for `jnp` functions.
_epoch_context = jax.make_user_context(0)
_epoch_numbers = itertools.count(1)


class _Epoch(threading.local):
    """The cache epoch of this thread, and its open traces, innermost last."""

    def __init__(self) -> None:
        self.number = next(_epoch_numbers)
        self.tainted = False
        self.open: list[OpenTrace] = []

    def renew_if_tainted(self) -> None:
        if not self.tainted:
            return
        self.number = next(_epoch_numbers)
        self.tainted = False
        if self.open:
            self.open[-1]._contexts.enter_context(_epoch_context(self.number))


_epoch = _Epoch()


class TracedJaxpr(NamedTuple):
    """A jaxpr and what it closes over.

    `jaxpr.invars` are the given inputs followed by the lifted ones, and
    `jaxpr.constvars` stand for `consts`: concrete arrays or tracers of an
    enclosing trace.
    """

    jaxpr: Any
    consts: list[Any]
    in_avals: list[ShapedArray]
    out_avals: list[ShapedArray]
    in_names: list[str]


class OpenTrace:
    """A jaxpr being traced, whose inputs may still grow. See `trace`."""

    def __init__(self, inner: Any, names: Sequence[str]) -> None:
        self._inner = inner
        self._names = list(names)
        self._contexts = contextlib.ExitStack()

    def lift(self, aval: ShapedArray, name: str, value: Any = None) -> Any:
        """A tracer for a new input of `aval`, called `name` in messages and IR.

        May be called while an inner trace (a `scan` body, a `jit`) is running; the
        input still belongs to this jaxpr. `value` is for traces that know values.
        """
        if self._inner is None:
            raise RuntimeError(
                f"cannot lift {name!r}: its trace has finished. If a derivative rule reads it "
                "(jax.custom_vjp, custom_jvp), read it in the function that has the rule too"
            )
        self._names.append(name)
        return self._new_arg(aval, value)

    def _new_arg(self, aval: ShapedArray, value: Any) -> Any:
        tracer = self._inner.new_arg(aval, source_info_util.current())
        if self.knows_values:
            self._inner.give(tracer, value)
        return tracer

    @property
    def knows_values(self) -> bool:
        """Whether the tracers may know their values."""
        return isinstance(self._inner, ValuedTrace)

    def owns(self, value: Any) -> bool:
        """Whether `value` is a tracer of this very trace, not of one inside or around it."""
        return isinstance(value, jax.core.Tracer) and value._trace is self._inner

    @property
    def is_innermost(self) -> bool:
        """Whether operations issued now go straight into this jaxpr."""
        return core.trace_ctx.trace is self._inner

    def on_read(self) -> None:
        """Call whenever a variable is read: a cached inner jaxpr may now depend on it."""
        if core.trace_ctx.trace is not self._inner:
            _epoch.tainted = True

    def on_write(self) -> None:
        """Call whenever a variable is assigned: cached inner jaxprs that read it are stale."""
        _epoch.renew_if_tainted()


def trace(
    fun: Callable[..., Sequence[Any]],
    in_avals: Sequence[ShapedArray],
    *,
    name: str,
    arg_names: Sequence[str],
    values: Sequence[Any] | None = None,
) -> TracedJaxpr:
    """Traces `fun(open_trace, *tracers)`, which returns a flat sequence, to a jaxpr.

    While `fun` runs, `open_trace.lift` adds inputs. Works at top level, under any
    JAX transform, and inside itself. Exceptions of `fun` pass through. With `values`, one
    for each input or None, Python code in `fun` may ask for what is computed from them.
    """
    debug_info = DebugInfo("bmgrad", name, tuple(arg_names), None)
    kind = partial_eval.DynamicJaxprTrace if values is None else ValuedTrace
    inner = kind(debug_info, parent_trace=core.trace_ctx.trace)
    opened = OpenTrace(inner, arg_names)
    _epoch.renew_if_tainted()
    _epoch.open.append(opened)
    try:
        with (
            opened._contexts,
            _epoch_context(_epoch.number),
            without_mesh(),
            core.ensure_no_leaks(inner),
            source_info_util.reset_name_stack(),
            partial_eval.TracebackScope(),
        ):
            source_info = source_info_util.current()
            tracers = list(map(opened._new_arg, in_avals, values or [None] * len(in_avals)))
            with core.set_current_trace(inner):
                results = [dtypes.canonicalize_value(x) for x in fun(opened, *tracers)]
            results = [inner.to_jaxpr_tracer(x, source_info) for x in results]
            debug_info = debug_info._replace(
                arg_names=tuple(opened._names), result_paths=("",) * len(results)
            )
            jaxpr, consts = inner.frame.to_jaxpr(inner, results, debug_info, source_info)
            opened._inner = None
            del inner, tracers, results
    finally:
        opened._inner = None
        _epoch.open.pop()
        _epoch.renew_if_tainted()
    # ClosedJaxpr is how both versions say which leading variables are constants.
    closed: Any = _ClosedJaxpr(jaxpr, consts)
    if core.internal_mutable_array_effect in closed.effects:
        # References that the function makes and keeps to itself become values.
        closed = pxla._discharge_internal_refs(closed)
    jaxpr, consts = closed.jaxpr, closed.consts
    return TracedJaxpr(
        jaxpr,
        list(consts),
        [v.aval for v in jaxpr.invars],
        [v.aval for v in jaxpr.outvars],
        opened._names,
    )


def is_dead(value: Any) -> bool:
    """Whether `value` is a tracer of a trace that has finished."""
    trace = core.trace_ctx.trace
    while isinstance(value, jax.core.Tracer):
        if trace is value._trace:
            return False
        if trace is None:
            return True
        trace = getattr(trace, "parent_trace", None)
    return False


def has_value(x: Any) -> bool:
    """Whether `x` is an array, or a tracer that knows its value."""
    return core.is_concrete(x) and not isinstance(x, jax.ShapeDtypeStruct)


def variable_of(value: Any) -> Any:
    """The jaxpr variable that a tracer stands for; None where it stands for none."""
    variable = getattr(value, "val", None)
    return variable if isinstance(variable, core.Var) else None


# -- Locations -----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def _user_frame(traceback: Any) -> tuple[str, int, int] | None:
    frame = next(source_info_util.user_frames(traceback), None)
    return frame and (frame.file_name, frame.start_line, frame.start_column)


def user_location(eqn: Any) -> tuple[str, int, int] | None:
    """File, line and column of the user's code that made jaxpr equation `eqn`.

    Frames of JAX, of the standard library and of bmgrad are skipped.
    """
    # Equations of one source line mostly have equal tracebacks: 0.2 us each.
    return _user_frame(eqn.source_info.traceback)


# -- Parameters of equations ---------------------------------------------------------------------


def scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many constants and carries a `scan` with these parameters has."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carries, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carries))


def sparse_definition(primitive: str) -> Callable[..., Any]:
    """What a primitive of JAX's sparse formats computes, as a function of JAX operations."""
    form = "api" if primitive == "todense" else primitive.partition("_")[0]
    module = importlib.import_module(f"jax.experimental.sparse.{form}")
    definition: Callable[..., Any] = getattr(module, f"_{primitive}_impl")
    return definition


class CustomJvp(NamedTuple):
    """The rule of a `custom_jvp_call`: `(x..., dx...) -> (y..., dy...)`.

    The arguments are those of the call but its constants; tangents are there for the
    active arguments and for the results that `out_zeros` does not name zero.
    """

    jaxpr: Any
    consts: list[Any]
    out_zeros: list[bool]


def custom_jvp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomJvp:
    """`active` says for each argument but the constants whether it has a tangent."""
    jaxpr, consts, out_zeros = params["jvp_jaxpr_fun"].call_wrapped(*(not a for a in active))
    return CustomJvp(jaxpr, list(consts), list(out_zeros))


class CustomVjp(NamedTuple):
    """The rule of a `custom_vjp_call`.

    `fwd` takes the arguments of the call but its constants and returns `num_made` values
    for `bwd`, then results. `residuals` says of each one that `bwd` takes whether it is an
    argument, and which of the arguments, constants counted, or of the former. `bwd` takes
    residuals and a cotangent, or None, for each result; it returns a cotangent, or
    None, for each argument but the constants. `num_closed_over` of the arguments are
    constants as well, of a call that `jax.vmap` has evaluated from a jaxpr.
    """

    fwd: Any
    fwd_consts: list[Any]
    num_made: int
    residuals: list[tuple[bool, int]]
    bwd: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    num_closed_over: int = 0


def custom_vjp_rule(params: Mapping[str, Any], active: Sequence[bool]) -> CustomVjp:
    """`active` says for each argument but the constants whether it has a tangent."""
    num_closed_over = _num_lifted(params["fwd_jaxpr_thunk"])
    wanted = [False] * num_closed_over + list(active[num_closed_over:])
    # Not by way of JAX's cache: what `bwd` gets is known of the last call only.
    trace_fwd = _closed_over(params["fwd_jaxpr_thunk"], "fn")
    with core.set_current_trace(None):
        fwd, consts = trace_fwd(*wanted)
    _, _, forwarded = params["out_trees"]()
    made = itertools.count()
    sources = [(False, next(made)) if f is None else (True, f) for f in forwarded]
    # Flags and numbers that the rule keeps stay what they are: `bwd` may branch on them.
    known = {
        i: fwd.outvars[number].val
        for i, (is_argument, number) in enumerate(sources)
        if not is_argument and isinstance(fwd.outvars[number], core.Literal)
    }
    out_avals = [tangent_aval(aval) for aval in params["call_jaxpr"].out_avals]

    def zero(aval: ShapedArray) -> Any:
        if params["symbolic_zeros"]:
            return SymbolicZero(aval)
        return np.zeros(aval.shape, aval.dtype)

    def bwd(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        filled = [zero(aval) if ct is None else ct for ct, aval in zip(cts, out_avals, strict=True)]
        given = iter(residuals)
        kept = [known[i] if i in known else next(given) for i in range(len(sources))]
        results = params["bwd"].call_wrapped(*kept, *filled)
        # One of the two versions returns log entries beside the cotangents.
        results = results[0] if isinstance(results, tuple) else results
        zeros = (ad.Zero, SymbolicZero)
        return [None if isinstance(ct, zeros) else ct for ct in results]

    residuals = [source for i, source in enumerate(sources) if i not in known]
    return CustomVjp(fwd, list(consts), next(made), residuals, bwd, num_closed_over)


def refused_effects(effects: Collection[Any]) -> list[str]:
    """Those of an equation's effects that a program cannot have, by name.

    They are ordered ones, and what JAX cannot lower either, such as writes to references.
    """
    return sorted(
        str(effect)
        for effect in effects
        if not jax_effects.lowerable_effects.contains(effect)
        or jax_effects.ordered_effects.contains(effect)
    )


def custom_rule_key(params: Mapping[str, Any]) -> Hashable:
    """Equal for calls of one function with one rule, though JAX wraps each call anew.

    Rules mostly call the function that they belong to, so an importer that follows
    rules meets the same one inside. None where it cannot be told.
    """
    if "jvp_jaxpr_fun" in params:
        return _wrapped_key(_closed_over(params["jvp_jaxpr_fun"], "fn", "jvp"))
    fwd = _wrapped_key(_closed_over(params["fwd_jaxpr_thunk"], "fn", "fwd"))
    bwd = params["bwd"]
    # Under `vmap` the user's function is inside.
    while inner := _closed_over(bwd, "bwd"):
        bwd = inner
    return fwd and (fwd, _wrapped_key(bwd))


def _num_lifted(thunk: Any) -> int:
    """How many constants of a call became arguments when JAX evaluated it from a jaxpr."""
    count = 0
    while (fwd := _closed_over(thunk, "fn", "fwd")) is not None:
        count += _closed_over(fwd, "num_consts") or 0
        thunk = _closed_over(fwd, "fwd_jaxpr_thunk")
    return count


def _closed_over(wrapped: Any, *path: str) -> Any:
    """What the function inside `wrapped` closes over under these names, one in the other."""
    value: Any = getattr(wrapped, "f", None)
    for name in path:
        names = getattr(getattr(value, "__code__", None), "co_freevars", ())
        if name not in names:
            return None
        value = value.__closure__[names.index(name)].cell_contents
    return value


def _wrapped_key(wrapped: Any) -> Hashable:
    if wrapped is None:
        return None
    steps: list[Hashable] = []
    while True:
        steps += [(step, _static_key(params)) for step, params in wrapped.transforms]
        # A call that JAX evaluates from a jaxpr again (`vmap` of `jit`) has its rule there.
        inner = _closed_over(_closed_over(wrapped, "jvp_jaxpr_fun"), "fn", "jvp")
        inner = inner or _closed_over(_closed_over(wrapped, "fwd_jaxpr_thunk"), "fn", "fwd")
        if inner is None:
            return wrapped.f, tuple(steps)
        wrapped = inner


def _static_key(value: Any) -> Hashable:
    """The part of a parameter that is the same at each call."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_static_key, value))
    if isinstance(value, (bool, int, float, str, ShapedArray, jax.tree_util.PyTreeDef)):
        return value
    if hasattr(value, "val"):  # A static argument of the user.
        try:
            hash(value.val)
        except TypeError:
            return id(value.val)
        return type(value.val), value.val
    return str(type(value))


def register_pruning(
    primitive: Any,
    prune: Callable[..., tuple[dict[str, Any], Sequence[bool]]],
) -> None:
    """Lets JAX leave out results of `primitive` that nothing reads, and operands only for them.

    `prune(used, **params)` gives the parameters for the `used` results, and which operands
    are kept.
    """

    # One of the two versions also says which inputs are live, for their effects.
    def rule(used_outputs: list[bool], *live_inputs_and_eqn: Any) -> tuple[list[bool], Any]:
        eqn = live_inputs_and_eqn[-1]
        if not any(used_outputs) and not eqn.effects:
            return [False] * len(eqn.invars), None
        params, kept = prune(used_outputs, **eqn.params)
        pruned = eqn.replace(
            invars=list(itertools.compress(eqn.invars, kept)),
            outvars=list(itertools.compress(eqn.outvars, used_outputs)),
            params=params,
        )
        return list(kept), pruned

    partial_eval.dce_rules[primitive] = rule


# -- Lowering ------------------------------------------------------------------------------------

LoweringRule: TypeAlias = Callable[..., Sequence[IrValue]]


def canonical_platform(platform: str) -> str:
    """`platform` as modules name it: `gpu` becomes `cuda` or `rocm`, whichever is present."""
    return str(xla_bridge.canonicalize_platform(platform))


def platforms_of(ctx: LoweringContext) -> tuple[str, ...]:
    """The platforms that the module being lowered is for: `cpu`, `cuda`, `rocm`, `tpu`."""
    return tuple(ctx.platforms or ctx.module_context.platforms)


def lower_each_platform(
    ctx: LoweringContext, name: str, rule: LoweringRule, *args: IrValue, **params: Any
) -> Sequence[IrValue]:
    """Emits `rule` once for each platform of the module, and the choice between them."""
    rules = dict.fromkeys(platforms_of(ctx), rule)
    results: Sequence[IrValue] = lower_per_platform(
        ctx, name, rules, None, frozenset(), *args, **params
    )
    return results


class Declaration(NamedTuple):
    """A function that a StableHLO module declares and leaves to JAX to define.

    `in_axes` has one tuple for each `bm.batch` that was applied to it, in that
    order, with 0 (batched at axis 0) or -1 for each operand. `kernel` is the name
    of the op that it stands for, with the op's attributes in `params`; empty for a
    primitive of the registry.
    """

    symbol: str
    in_types: tuple[str, ...]
    in_axes: tuple[tuple[int, ...], ...]
    kernel: str
    params: dict[str, Any]


def _declaration(function: Any) -> Declaration:
    attributes: Any = function.attributes
    in_axes: tuple[tuple[int, ...], ...] = ()
    if "bm.in_axes" in attributes:
        in_axes = tuple(tuple(axes) for axes in attributes["bm.in_axes"])
    kernel, params = "", {}
    if "bm.kernel" in attributes:
        kernel = attributes["bm.kernel"].value
        params = {entry.name: _plain(entry.attr) for entry in attributes["bm.params"]}
    in_types = tuple(str(t) for t in function.function_type.value.inputs)
    return Declaration(function.sym_name.value, in_types, in_axes, kernel, params)


def _plain(attribute: Any) -> Any:
    """A builtin attribute as a Python value: a bool, a number, a string or a list of numbers."""
    if isinstance(attribute, mlir.ir.UnitAttr):
        return True
    if isinstance(attribute, mlir.ir.DenseI64ArrayAttr):
        return list(attribute)
    return attribute.value


def _rename_uses(module: Any, old: str, new: str) -> None:
    for user in module.body.operations:
        mlir.ir.SymbolTable.replace_all_symbol_uses(old, new, user.operation)


def call_module(
    ctx: LoweringContext,
    source: str | bytes,
    name: str,
    define: Callable[[LoweringContext, Declaration], str],
    args: Sequence[IrValue],
) -> list[IrValue]:
    """Moves a StableHLO module into the one being lowered and calls its `@main`.

    A function that the module only declares is replaced by the one that `define`
    puts into the destination and returns the name of. The others get fresh names,
    `@main` that of `name`.
    """
    target = ctx.module_context
    module: Any = mlir.ir.Module.parse(source, target.context)
    symbols: Any = mlir.ir.SymbolTable(module.operation)
    externals = [function for function in module.body.operations if function.is_external]
    declarations = [_declaration(function) for function in externals]
    # What one declaration becomes may have the name of another, so all are renamed first.
    for declared in declarations:
        _rename_uses(module, declared.symbol, f"{declared.symbol}.declared")
    for function, declared in zip(externals, declarations, strict=True):
        provided = define(ctx, declared)
        # Uses may dangle until the merge below brings both modules together.
        function.erase()
        _rename_uses(module, f"{declared.symbol}.declared", provided)
    results = list(symbols["main"].function_type.value.results)
    symbol = mlir.merge_mlir_modules(target.module, name, module, target.symbol_table)
    call = func_dialect.CallOp(results, mlir.ir.FlatSymbolRefAttr.get(symbol), list(args))
    return [
        lower_with_sharding_in_types(ctx, result, aval)
        for result, aval in zip(call.results, ctx.avals_out, strict=True)
    ]


def define_function(
    ctx: LoweringContext,
    name: str,
    fun: Callable[..., Sequence[Any]],
    in_avals: Sequence[ShapedArray],
    key: Hashable,
) -> str:
    """Lowers the JAX function `fun` to a private function of the module; returns its name.

    The functions of one module that are defined with equal `key` and avals are one.
    """
    ir, target, platforms = mlir.ir, ctx.module_context, platforms_of(ctx)
    key = (key, tuple(in_avals), platforms)
    if key in target.cached_primitive_lowerings:
        return str(target.cached_primitive_lowerings[key].sym_name.value)
    with without_mesh():
        out_avals = [plain_aval(aval) for aval in jax.eval_shape(fun, *in_avals)]
    types: Any = [
        [mlir.aval_to_ir_type(target, a) for a in avals] for avals in (in_avals, out_avals)
    ]
    function = func_dialect.FuncOp(name, ir.FunctionType.get(*types), ip=target.ip)
    function.attributes["sym_visibility"] = ir.StringAttr.get("private")
    target.symbol_table.insert(function)
    target.cached_primitive_lowerings[key] = function
    # The function is a scope of its own: it sees no constants, dimensions or tokens
    # of the place where it is called.
    inner = ctx.replace(
        module_context=target.replace(
            platforms=platforms, shape_poly_state=mlir.ShapePolyLoweringState((), platforms)
        ),
        platforms=None,
        avals_in=tuple(in_avals),
        avals_out=tuple(out_avals),
        tokens_in=mlir.TokenSet(),
        tokens_out=None,
        const_lowering={},
        dim_var_values=(),
    )
    block = cast(Any, function).add_entry_block()
    with ir.InsertionPoint(block), without_mesh():
        func_dialect.ReturnOp(list(mlir.lower_fun(fun)(inner, *block.arguments)))
    return str(function.sym_name.value)
