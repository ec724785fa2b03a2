"""Kernels: JAX primitives that a program calls and whose lowering JAX supplies.

In: a primitive with its parameters. Out: a number for `bm.kernel` ops to hold, and
at lowering the function `@bm_kernel_<number>` that the StableHLO text only declares.

A program is text and cannot hold a Python object, so this registry keeps the
objects alive for as long as the process runs; equal ones share a number.
"""

import dataclasses
import functools
import itertools
import re
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive

from bmgrad.runtime import _jax_internals, _vendor
from bmgrad.runtime._batchers import Batch
from bmgrad.runtime._errors import reason_of_batching, without_rule_of_jax
from bmgrad.runtime._jax_internals import Declaration, LoweringContext, ShapedArray
from bmgrad.runtime._types import aval_of, batched_aval

# The functions that StableHLO text declares for kernels: `@bm_kernel_3`.
SYMBOL_PREFIX = "bm_kernel_"
_SYMBOL = re.compile(SYMBOL_PREFIX + r"(\d+)(?:_.*)?")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A primitive bound with these parameters on operands of these avals.

    One that reads or changes a reference has the aval of what that holds as `reference`. It draws
    random bits as `jax_threefry_partitionable` said where the function bound it.
    """

    primitive: Primitive
    params: tuple[tuple[str, Any], ...] = dataclasses.field(compare=False)
    in_avals: tuple[ShapedArray, ...]
    is_partitionable: bool
    reference: ShapedArray | None = None
    # The parameters, of which 0.0 and -0.0, and 1 and True, are different ones.
    exact_params: Hashable = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "exact_params", _exact(self.params))

    def __call__(self, *args: Any) -> list[Any]:
        """Binds the primitive; always a list of results."""
        params = self.primitive.get_bind_params(dict(self.params))
        with jax.threefry_partitionable(self.is_partitionable):
            results = self.primitive.bind(*args, **params)
        return list(results) if self.primitive.multiple_results else [results]


def _exact(value: Any) -> Hashable:
    """Equal for what is the same to code that asks for types and signs."""
    if type(value) in (tuple, list):
        return type(value), tuple(map(_exact, value))
    return type(value), repr(value) if isinstance(value, (float, complex)) else value


_lock = threading.Lock()
_kernels: list[Kernel] = []
_numbers: dict[Kernel, int] = {}


def register(
    primitive: Primitive,
    params: Mapping[str, Any],
    in_avals: Sequence[ShapedArray],
    reference: ShapedArray | None = None,
    *,
    is_partitionable: bool = True,
) -> int:
    """The number of this kernel, the same for equal primitives, parameters and avals."""
    avals = tuple(map(_jax_internals.plain_aval, in_avals))
    sorted_params = tuple(sorted(params.items()))
    kernel = Kernel(primitive, sorted_params, avals, is_partitionable, reference)
    with _lock:
        try:
            number = _numbers.get(kernel)
        except TypeError:  # A parameter cannot be hashed: a kernel of its own.
            _kernels.append(kernel)
            return len(_kernels) - 1
        if number is None:
            number = _numbers[kernel] = len(_kernels)
            _kernels.append(kernel)
        return number


def get(number: int) -> Kernel:
    """The kernel with this number."""
    return _kernels[number]


def is_check(number: int) -> bool:
    """Whether it is a `checkify.check`."""
    return _jax_internals.is_check(get(number).primitive)


def branch_of(kernel: Kernel, platform: str) -> int:
    """Which of the branches that `platform_index` chooses from is for `platform`."""
    branches = dict(kernel.params)["platforms"]
    for number, platforms in enumerate(branches):
        if platforms is None or platform in platforms:
            return number
    raise NotImplementedError(
        f"jax.lax.platform_dependent has no branch for platform {platform!r}, but for {branches}; "
        "give it a default"
    )


def define(ctx: LoweringContext, declared: Declaration) -> str:
    """Lowers a declared kernel into the module of `ctx`; returns the name of its function.

    Declarations of the same kernel in one module share a function.
    """
    try:
        return _defined(ctx, declared)
    except NotImplementedError as error:
        if (ours := without_rule_of_jax(str(error), declared.location)) is None:
            raise
        raise ours from None


def _defined(ctx: LoweringContext, declared: Declaration) -> str:
    types = [aval_of(type) for type in declared.in_types]
    if declared.kernel:
        named = (declared.kernel, tuple(sorted((k, str(v)) for k, v in declared.params.items())))
        kernel_of_op = functools.partial(_vendor.run, declared.kernel, declared.params)
        return _jax_internals.define_function(ctx, declared.symbol, kernel_of_op, types, named)
    match = _SYMBOL.fullmatch(declared.symbol)
    if match is None:
        raise ValueError(f"a bmgrad program declares @{declared.symbol}, which is not a kernel")
    kernel = get(int(match[1]))
    leading = [0] * len(kernel.in_avals)
    for axes in declared.in_axes:
        leading = [n + (axis >= 0) for n, axis in zip(leading, axes, strict=True)]
    in_avals = [
        ShapedArray((*batched.shape[:n], *aval.shape), aval.dtype)
        for aval, batched, n in zip(kernel.in_avals, types, leading, strict=True)
    ]
    key = (kernel, declared.in_axes, declared.out_axes)
    if kernel.reference is not None:
        on_value = functools.partial(_run_on_value, kernel, declared.in_axes)
        in_avals = [kernel.reference, *in_avals]
        return _jax_internals.define_function(ctx, declared.symbol, on_value, in_avals, key)
    batch = _batched(kernel, declared.in_axes, declared.out_axes)
    return _jax_internals.define_function(
        ctx, declared.symbol, batch, in_avals, key, declared.tokens, kernel.primitive
    )


def _batched(
    fun: Callable[..., list[Any]],
    batches: Sequence[Sequence[int]],
    results: Sequence[Sequence[int]] = (),
) -> Callable[..., list[Any]]:
    """`fun` over these batches, innermost first; its results have them all, or as `results` say."""
    for axes, of_results in itertools.zip_longest(batches, results):
        out_axes = 0 if of_results is None else [_or_none(axis) for axis in of_results]
        fun = jax.vmap(fun, in_axes=tuple(map(_or_none, axes)), out_axes=out_axes)
    return fun


def _or_none(axis: int) -> int | None:
    return None if axis < 0 else axis


def _run_on_value(
    kernel: Kernel, batches: Sequence[Sequence[int]], value: Any, *args: Any
) -> list[Any]:
    """What a reference that holds `value` holds after the kernel, and the kernel's results."""
    reference = jax.new_ref(value)
    results = _batched(functools.partial(kernel, reference), batches)(*args)
    return [jax.freeze(reference), *results]


# -- What batching rules give ----------------------------------------------------------------------

_BATCH = re.compile(r"_(\d+)x([0n]*)")


def ask_batching_rule(symbol: str) -> list[bool] | str:
    """Which results of the kernel that is lowered as `symbol` have its outermost batch.

    What passes ask. If the rule raises: what they are to say.
    """
    match = _SYMBOL.fullmatch(symbol)
    assert match is not None, symbol
    batches = batches_of(symbol[match.end(1) :])
    try:
        return [bool(axis == 0) for axis in _result_axes(int(match[1]), batches)[-1]]
    except BaseException as error:  # None may pass through C++; it is raised after the pass.
        return reason_of_batching(error)


def batches_of(text: str) -> tuple[Batch, ...]:
    """The batches that the end of a kernel's name says."""
    return tuple(
        (int(size), tuple(-1 if axis == "n" else 0 for axis in axes))
        for size, axes in _BATCH.findall(text)
    )


def over_batches(
    number: int, batches: tuple[Batch, ...]
) -> tuple[Callable[..., list[Any]], list[ShapedArray]]:
    """A kernel over batches, its results as its batching rule gives them, and what it takes."""
    kernel = get(number)
    avals = list(kernel.in_avals)
    for size, axes in batches:
        avals = [batched_aval(aval, axis, size) for aval, axis in zip(avals, axes, strict=True)]
    results = _result_axes(number, batches)
    return _batched(kernel, [axes for _, axes in batches], results), avals


@functools.lru_cache(maxsize=1024)
def _result_axes(number: int, batches: tuple[Batch, ...]) -> tuple[tuple[int, ...], ...]:
    """For each batch, innermost first, 0 or -1 for each result."""
    if not batches:
        return ()
    before, (size, axes) = batches[:-1], batches[-1]
    fun, avals = over_batches(number, before)
    axes_of_results: list[int] = []

    def element(*args: Any) -> list[Any]:
        results: list[Any] = fun(*args)
        axes_of_results[:] = (0 if _jax_internals.is_batched(x) else -1 for x in results)
        return results

    avals = [batched_aval(aval, axis, size) for aval, axis in zip(avals, axes, strict=True)]
    _jax_internals.result_avals(jax.vmap(element, tuple(map(_or_none, axes))), avals)
    return (*_result_axes(number, before), tuple(axes_of_results))
