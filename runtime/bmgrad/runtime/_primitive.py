"""The JAX primitive through which JAX runs and transforms bmgrad's programs.

In: `bind(program, *args)` at any place where JAX runs or traces. Out: the results;
under `jit`, `grad`, `vmap`, `export`, `shard_map` the rules below answer with
programs that bmgrad derived. JAX differentiates nothing inside a program.

Forward and reverse mode share one rule: a program is linearized into `fwd`, which
JAX can run early, and a linear program, which JAX may evaluate (forward mode) or
transpose (reverse mode).

The references of a program are operands after its inputs. When JAX has no derivatives left to take
it puts values in their place; then the new values are results after the outputs.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from bmgrad.runtime import _jax_internals, _kernels, _taylor
from bmgrad.runtime._errors import UnsupportedError, put_off_in
from bmgrad.runtime._jax_internals import Checks, IrValue, LoweringContext, ShapedArray
from bmgrad.runtime._origin import Origin
from bmgrad.runtime._platform import get_platform
from bmgrad.runtime._program import JvpProgram, LinearProgram, Program

_T = TypeVar("_T")

program_p = Primitive("bmgrad_program")
# JAX asks primitives, not what they hold, whether their lowering needs to know the devices.
program_on_devices_p = Primitive("bmgrad_program")


def bind(
    program: Program,
    *args: Any,
    references: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
) -> list[jax.Array]:
    """Runs `program`, or records the call where JAX is tracing.

    `args` are flat; `references` has those of the program, and may have more. `origin` is known
    of programs that were traced just now, and of what is derived from them.
    """
    _taylor.register_series((program_p, program_on_devices_p), _series)
    held = [(references or {})[name] for name in program.references]
    primitive = program_on_devices_p if program.needs_devices else program_p
    operands = *_jax_internals.match_varying(args), *held
    try:
        results: list[jax.Array] = primitive.bind(*operands, program=program, origin=origin)
        return results
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # A rule that ran on the host may have raised it.
        if raised := put_off_in(str(error)):
            raise raised from None
        raise


_making = threading.Lock()


def jitted(program: Program) -> Any:
    """`program` as a `jax.jit` function of its operands; a call takes JAX's C++ path."""
    with _making:
        return _jitted(program)


# No program holds its own: JAX keeps what it has traced, and so the program, for as long as the
# function lives.
@functools.lru_cache(maxsize=512)
def _jitted(program: Program) -> Any:
    def call(*operands: Any) -> list[jax.Array]:
        args, references = _split(program, operands)
        return bind(program, *args, references=references)

    call.__name__ = call.__qualname__ = program.name
    _jax_internals.mark_as_whole(call)
    return jax.jit(call)


def _split(program: Program, operands: Sequence[_T]) -> tuple[Sequence[_T], dict[str, _T]]:
    """The operands of a call: its inputs, and the references by name."""
    count = len(program.in_avals)
    return operands[:count], dict(zip(program.references, operands[count:], strict=True))


def _impl(*args: Any, program: Program, origin: Origin | None) -> list[jax.Array]:
    # A program has no operations to run one by one, as `jax.disable_jit` asks for.
    with jax.disable_jit(False):
        results: list[jax.Array] = jitted(_first_like(program))(*args)
    return results


@dataclasses.dataclass(frozen=True)
class _Code:
    """What a program runs; equal where that is."""

    key: Hashable
    program: Program = dataclasses.field(compare=False)


def _first_like(program: Program) -> Program:
    """The first program that runs the same code, so that XLA compiles it once.

    Programs with rules that wait are made anew at each call outside `jit`, and differ in these.
    """
    if not program.put_off:
        return program
    source = program.stablehlo(_jax_internals.canonical_platform(get_platform()))
    avals, beside = (program.in_avals, program.out_avals), (program.effects, program.references)
    return _first(_Code((source, program.name, avals, beside), program))


@functools.lru_cache(maxsize=512)
def _first(code: _Code) -> Program:
    return code.program


def _abstract_eval(
    *avals: Any, program: Program, origin: Origin | None
) -> tuple[list[ShapedArray], frozenset[Any]]:
    count = len(program.in_avals)
    inputs, held = avals[:count], avals[count:]
    check_avals(program, inputs)
    results = _jax_internals.placed_like(program.name, program.out_avals, inputs)
    references = [i for i, aval in enumerate(held, count) if _jax_internals.is_reference_aval(aval)]
    # JAX has put values in the place of the others, whose new ones are results.
    results += [aval for i, aval in enumerate(held, count) if i not in references]
    return results, program.effects | _jax_internals.effects_on(references)


def check_avals(program: Program, avals: Sequence[ShapedArray]) -> None:
    """Raises TypeError where `avals` are not the shapes and dtypes that `program` takes."""
    if len(avals) != len(program.in_avals):
        raise TypeError(
            f"{program.name} takes {len(program.in_avals)} arrays, but {len(avals)} were given"
        )
    for name, given, wanted in zip(program.in_names, avals, program.in_avals, strict=True):
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            raise TypeError(
                f"{program.name} was compiled for {name} of type {wanted.str_short()}, "
                f"but was given {given.str_short()}"
            )


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, program: Program, origin: Origin | None
) -> tuple[list[Any], list[Any]]:
    primals, references = _split(program, primals)
    tangents, of_references = _split(program, tangents)
    for name, tangent in of_references.items():
        if not isinstance(tangent, ad.Zero):
            raise NotImplementedError(
                f"{program.name} reads or changes a reference ({name}) that was made inside a "
                "function which is differentiated around it; make the reference outside of that "
                "function, and close over it or pass it as an argument"
            )
    active = tuple(not _is_zero(t) for t in tangents)
    if isinstance(program, LinearProgram) and not any(active[: program.num_residuals]):
        # Linear in all that varies: no need to ask the compiler.
        residuals = primals[: program.num_residuals]
        moved = [ad.instantiate_zeros(t) for t in tangents[program.num_residuals :]]
        return (
            bind(program, *primals, references=references),
            bind(program, *residuals, *moved, references=references),
        )
    if not any(active):
        results = bind(program, *primals, references=references, origin=origin)
        return results, [_zero_tangent(jax.typeof(result)) for result in results]
    linearized = program.linearize(active)
    outputs = bind(
        linearized.fwd,
        *primals,
        references=references,
        origin=origin and origin.with_residuals(linearized.fwd),
    )
    results, residuals = outputs[: len(program.out_avals)], linearized.residuals(primals, outputs)
    moved = [t for t, is_active in zip(tangents, active, strict=True) if is_active]
    out_tangents = iter(bind(linearized.lin, *residuals, *moved, references=references))
    return results, [
        next(out_tangents) if _jax_internals.has_tangent(aval) else _zero_tangent(aval)
        for aval in program.out_avals
    ]


def _transpose(
    cts: Sequence[Any], *operands: Any, program: Program, origin: Origin | None
) -> list[Any]:
    args, references = _split(program, operands)
    is_linear = tuple(ad.is_undefined_primal(arg) for arg in args)
    nonzero = tuple(not _is_zero(ct) for ct in cts)
    of_references = [None] * len(references)
    if not any(nonzero):
        zeros = [ad.Zero(arg.aval) if ad.is_undefined_primal(arg) else None for arg in args]
        return [*zeros, *of_references]
    given = (ct for ct in cts if not _is_zero(ct))
    if isinstance(program, LinearProgram) and not any(is_linear[: program.num_residuals]):
        residuals = args[: program.num_residuals]
        transposed = program.transpose(is_linear[program.num_residuals :], nonzero)
    else:
        residuals = [arg for arg, flag in zip(args, is_linear, strict=True) if not flag]
        transposed = program.transpose_in(is_linear, nonzero)
    results = iter(bind(transposed, *residuals, *given, references=references))
    return [
        *(
            _jax_internals.placed_as_cotangent(next(results), arg.aval)
            if ad.is_undefined_primal(arg)
            else None
            for arg in args
        ),
        *of_references,
    ]


def _batch(
    size: int,
    axis_name: Any,
    _: Any,
    args: Sequence[Any],
    axes: Sequence[int | None],
    *,
    program: Program,
    origin: Origin | None,
) -> tuple[list[Any], list[int | None]]:
    args, references = _split(program, args)
    axes, of_references = _split(program, axes)
    if any(axis is not None for axis in of_references.values()):
        raise NotImplementedError(
            f"{program.name} reads or changes a reference that jax.vmap maps over, or that was "
            "made inside the function which jax.vmap maps; map over the value of the reference, or "
            "make it outside"
        )
    if isinstance(program, JvpProgram):
        args, axes = _batched_together(program, args, axes, size)
    in_axes = tuple(-1 if axis is None else axis for axis in axes)
    if all(axis is None for axis in axes) and not program.is_over(axis_name):
        results = bind(program, *args, references=references, origin=origin)
        return results, [None] * len(results)
    varying = program.batched_outputs(in_axes, size, axis_name)
    out_axes = [0 if v else -1 for v in varying]
    results = bind(
        program.mapped(in_axes, size, out_axes, axis_name),
        *args,
        references=references,
        origin=origin and origin.batch(in_axes, size, axis_name),
    )
    # New values of references may follow.
    placed = [0 if v else None for v in varying]
    return results, placed + [None] * (len(results) - len(placed))


def _batched_together(
    program: JvpProgram, args: Sequence[Any], axes: Sequence[int | None], size: int
) -> tuple[Sequence[Any], Sequence[int | None]]:
    args, axes = list(args), list(axes)
    for pair in program.together:
        if any(axes[i] is not None for i in pair):
            for i in pair:
                args[i], axes[i] = batching.bdim_at_front(args[i], axes[i], size), 0
    return args, axes


def _lower(
    ctx: LoweringContext, *args: IrValue, program: Program, origin: Origin | None = None
) -> Sequence[IrValue]:
    platform, *others = _jax_internals.platforms_of(ctx)
    if program.platform and (others or platform != program.platform):
        raise UnsupportedError(
            f"{program.name} was made for {program.platform}, as jax.lax.platform_dependent in it "
            f"has branches without a derivative, and is to run on {', '.join([platform, *others])}"
            "; give those a derivative, or use bm.grad, bm.jvp or bm.jacfwd"
        )
    source = program.stablehlo(None if others else platform)
    if _kernels.SYMBOL_PREFIX.encode() in source and others:
        # A kernel may be a different one on each platform of an exported module.
        return _jax_internals.lower_each_platform(
            ctx, program.name, _lower, program.effects, *args, program=program
        )
    inputs, references = _split(program, args)
    return _jax_internals.call_module(
        ctx, source, program.name, _kernels.define, inputs, references
    )


def _prune(
    used: Sequence[bool], program: Program, origin: Origin | None
) -> tuple[dict[str, Any], Sequence[bool], Sequence[bool]]:
    count = len(program.out_avals)
    pruned, kept = program.pruned(used[:count])
    # References stay, and what JAX puts in their place.
    further = [True] * len(program.references)
    params = {"program": pruned, "origin": origin and origin.pruned(program, used[:count], kept)}
    return params, [*kept, *further], [*used[:count], *further[: len(used) - count]]


def _series(
    primals: Sequence[Any],
    series: Sequence[Sequence[Any]],
    *,
    program: Program,
    origin: Origin | None,
) -> tuple[list[Any], list[list[Any]]]:
    if program.references:
        raise UnsupportedError(
            f"jet goes through no references (jax.new_ref), and {program.name} has some; pass "
            "their values"
        )
    return _taylor.series_of(program, lambda derived, args: bind(derived, *args), primals, series)


def _check(
    checks: Checks, *operands: Any, program: Program, origin: Origin | None
) -> Sequence[jax.Array]:
    """Runs the program, and beside it the function that it came from, which is checked."""
    args, references = _split(program, operands)
    results = bind(program.without_checks(), *args, references=references, origin=origin)
    looks_for_user_checks = checks.looks_for(program.effects)
    if not (checks.looks_at_operations or looks_for_user_checks):
        return results
    if isinstance(program, LinearProgram):
        origin = Origin.linear(program)
    if origin is None:
        raise UnsupportedError(
            f"checkify cannot look into {program.name}, whose source is not at hand; compile or "
            "differentiate the function that checkify returns instead, as in bm.grad(lambda x: "
            "checkify(f)(x)[::-1], has_aux=True)"
        )
    if looks_for_user_checks and origin.rules_check and any(origin.is_derivative):
        raise UnsupportedError(
            f"{program.name} has a checkify.check in a derivative rule, into which checkify cannot "
            "look; return what is to be checked, and check it outside"
        )
    checks.add_function(origin.evaluate, args[: origin.num_inputs])
    derivatives = list(itertools.compress(results, origin.is_derivative))
    # Residuals may be infinite for a division in another program.
    given = args[program.num_residuals :] if isinstance(program, LinearProgram) else args
    checks.add_derivatives(program.name, derivatives, given)
    return results


def _function(
    program: Program, origin: Origin | None
) -> tuple[Callable[..., Sequence[Any]], int] | None:
    return None if origin is None else (origin.evaluate, origin.num_inputs)


def _silence(program: Program, origin: Origin | None) -> dict[str, Any]:
    return {"program": program.with_checks_only(), "origin": origin}


def _is_zero(tangent: Any) -> bool:
    """Whether a (co)tangent is symbolically zero, or is of an integer and has no value."""
    # A tangent may be a Python number.
    return isinstance(tangent, ad.Zero) or jax.typeof(tangent).dtype == jax.dtypes.float0


def _zero_tangent(aval: ShapedArray) -> Any:
    return ad.Zero(_jax_internals.tangent_aval(aval))


def _count_outputs(program: Program, origin: Origin | None) -> int:
    return len(program.out_avals)


for _primitive in (program_p, program_on_devices_p):
    _primitive.multiple_results = True
    _primitive.def_impl(_impl)
    _primitive.def_effectful_abstract_eval(_abstract_eval)
    ad.primitive_jvps[_primitive] = _jvp
    ad.primitive_transposes[_primitive] = _transpose
    batching.axis_primitive_batchers[_primitive] = _batch
    mlir.register_lowering(_primitive, _lower)
    _jax_internals.register_pruning(_primitive, _prune)
    _jax_internals.register_checks(_primitive, _check, _silence)
    _jax_internals.register_key_uses(_primitive, _function)
    _jax_internals.register_discharge(_primitive, _primitive.bind, _count_outputs)
_jax_internals.register_needs_devices(program_on_devices_p)
