"""The functional forms: ``vjp``, ``jvp`` and ``linearize`` at a point.

In: a function and primal values (concrete, or tracers of any trace). Out: its value
and its derivative there, as values or as a function that is cheap to call again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from bmgrad._transforms._arguments import Arguments, aval_of, plain
from bmgrad._transforms._derivatives import (
    LinearFunction,
    Logs,
    Point,
    VjpFunction,
    matching_leaves,
    with_zeros,
)
from bmgrad._transforms._held_primals import HeldPrimals
from bmgrad._transforms._held_reference import as_primals
from bmgrad._transforms._leaf_flags import flags_of_leaves
from bmgrad._transforms._skeleton import mirrored
from bmgrad._transforms._targets import split_aux
from bmgrad._transforms._trace import (
    TracedFunction,
    may_have_values,
    trace_at_need,
    trace_function,
)
from bmgrad.runtime._errors import ReverseModeError
from bmgrad.runtime._jax_internals import (
    NotNeeded,
    NotSaveable,
    api_boundary,
    aval_on_mesh,
    has_tangent,
    is_reference,
    is_reference_aval,
    put_together,
    taken_apart,
    tangents_put_together,
)
from bmgrad.runtime._linearized import Linearized
from bmgrad.runtime._origin import Origin
from bmgrad.runtime._program import Program

_Of = TypeVar("_Of")


@api_boundary
def vjp(
    fun: Callable[..., Any],
    *primals: Any,
    has_aux: bool = False,
    saveable_args: Any = True,
    in_nzs: Any = True,
) -> Any:
    """Value of ``fun`` and the function from output cotangents to input cotangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays, or references; the point.
      has_aux: whether ``fun`` returns auxiliary data as well.
      saveable_args: for each primal a bool or a tree of bools like it: False for those that
        ``vjp_fn`` is not to keep. They are given to it in ``args_res`` before it is called.
      in_nzs: likewise; False for those that have no tangent, so that their cotangents are zeros.

    Returns:
      ``(out, vjp_fn)`` or ``(out, vjp_fn, aux)``. ``vjp_fn(ct)`` takes a cotangent with the
      tree, shapes and dtypes of ``out`` and returns a tuple with one cotangent for each
      primal (float0 zeros for integers, None for references). ``vjp_fn`` is a pytree of its
      residuals and references, which ``jax.jit`` functions may take, and return if there are no
      references. As with ``jax.vjp``, its attribute ``args_res`` has the primals that are
      residuals, which may be dropped and given again, and ``opaque_residuals`` the others;
      ``out_nzs`` says which results have a tangent.

    Raises:
      TypeError: if ``has_aux`` and no pair is returned.
      ValueError: if a cotangent or a tree of bools does not fit, or what is not saveable was not
        given back.

    Example:
      >>> import bmgrad.math as bm
      >>> out, vjp_fn = bm.vjp(bm.sin, bm.zeros(2))
      >>> vjp_fn(bm.ones(2))[0].tolist()
      [1.0, 1.0]
    """
    result, parts = _linearized(
        fun, primals, has_aux, in_reverse=True, saveable=saveable_args, perturbed=in_nzs
    )
    (out, aux), derivative = put_together(result), VjpFunction(*parts)
    return (out, derivative, aux) if has_aux else (out, derivative)


@api_boundary
def linearize(
    fun: Callable[..., Any], *primals: Any, has_aux: bool = False, in_nzs: Any = True
) -> Any:
    """Value of ``fun`` and its derivative, a linear function of tangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays, or references; the point.
      in_nzs: for each primal a bool or a tree of bools like it: False for those whose tangents
        are zero, whatever ``jvp_fn`` is given.

    Returns:
      ``(out, jvp_fn)`` or ``(out, jvp_fn, aux)``. ``jvp_fn(*tangents)`` gives the tangent of
      ``out`` without computing the value again; it is a pytree, as what :func:`vjp` returns.

    Example:
      >>> import bmgrad.math as bm
      >>> out, jvp_fn = bm.linearize(bm.sin, 0.0)
      >>> float(jvp_fn(2.0))
      2.0
    """
    result, parts = _linearized(fun, primals, has_aux, in_reverse=False, perturbed=in_nzs)
    (out, aux), derivative = put_together(result), LinearFunction(*parts)
    return (out, derivative, aux) if has_aux else (out, derivative)


@api_boundary
def jvp(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> Any:
    """Value of ``fun`` and its directional derivative (forward mode).

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: a tuple or list of pytrees of arrays, or references; the point.
      tangents: a tuple or list with the same trees, shapes and dtypes; the direction. For
        integer arrays the tangent has dtype ``jax.dtypes.float0``, for references it is in a
        reference, which afterwards has that of what the primal holds then.

    Returns:
      ``(out, tangents_out)``, or ``(out, tangents_out, aux)``.

    Raises:
      TypeError: if primals and tangents differ in tree or dtypes.
      ValueError: if they differ in shapes.

    Example:
      >>> import bmgrad.math as bm
      >>> out, tangent = bm.jvp(bm.sin, (0.0,), (1.0,))
      >>> float(tangent)
      1.0
    """
    for given, what in ((primals, "primals"), (tangents, "tangents")):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"jvp takes {what} as a tuple or list, one entry for each argument of the "
                f"function, got {type(given).__name__}"
            )
    arguments = Arguments.of(tuple(primals), {}, fun)
    _refuse_others(arguments, "jvp")
    tree, avals = _tree_and_avals(tuple(primals))
    leaves = matching_leaves(tree, tuple(tangents), avals, "jvp")
    moving = [_inexact(leaf) for leaf in arguments.leaves]

    def derive(traced: TracedFunction) -> tuple[HeldPrimals, Program]:
        held = HeldPrimals.of(traced, arguments)
        held.check_all("jvp")
        return held, traced.program.jvp(_active_inputs(traced, moving, held))

    def lacks_values(derived: tuple[HeldPrimals, Program]) -> bool:
        return derived[1].lacks_bounds

    traced, (held, program) = _derived(fun, arguments, moving, has_aux, derive, lacks_values)
    value_tree, aux_tree = traced.out_tree.children()
    moved = [t for t, aval in zip(leaves, avals, strict=True) if has_tangent(aval)]
    references = [t for t, aval in zip(leaves, avals, strict=True) if is_reference_aval(aval)]
    moved += held.read_tangents(references)
    outputs = traced.bind(program, arguments, *moved, origin=Origin.with_derivatives)
    num_primal = len(traced.program.out_avals)
    results = traced.commit(outputs[:num_primal])
    held.write_tangents(references, outputs[num_primal:])
    out, aux = put_together(_unflatten_results(results, value_tree, aux_tree))
    values = [aval_on_mesh(value) for value in results[: value_tree.num_leaves]]
    tangents_out = with_zeros(values, outputs[num_primal:])
    tangent = tangents_put_together(jax.tree.unflatten(value_tree, tangents_out))
    return (out, tangent, aux) if has_aux else (out, tangent)


def _linearized(
    fun: Callable[..., Any],
    primals: tuple[Any, ...],
    has_aux: bool,
    *,
    in_reverse: bool,
    saveable: Any = True,
    perturbed: Any = True,
) -> tuple[tuple[Any, Any], tuple[list[Any], list[Any], dict[str, Any], Point]]:
    """Value and aux at ``primals``, and the parts of the derivative there."""
    arguments = Arguments.of(primals, {}, fun)
    _refuse_others(arguments, "vjp" if in_reverse else "linearize")
    tree, primal_avals = _tree_and_avals(primals)
    of_arrays = [not is_reference_aval(aval) for aval in primal_avals]
    flags = flags_of_leaves(True if perturbed is None else perturbed, tree, "in_nzs")
    held_flags = [flag for flag, is_array in zip(flags, of_arrays, strict=True) if not is_array]
    moving = tuple(
        flag and _inexact(leaf)
        for flag, leaf in zip(itertools.compress(flags, of_arrays), arguments.leaves, strict=True)
    )
    is_saveable = list(
        itertools.compress(flags_of_leaves(saveable, tree, "saveable_args"), of_arrays)
    )

    def derive(traced: TracedFunction) -> tuple[HeldPrimals, Linearized]:
        held = HeldPrimals.of(traced, arguments, held_flags)
        if not in_reverse:
            held.check_all("linearize")
        return held, traced.program.linearize(_active_inputs(traced, moving, held))

    def lacks_values(derived: tuple[HeldPrimals, Linearized]) -> bool:
        return in_reverse and derived[1].lin.has_open_loop

    traced, (held, linearized) = _derived(
        fun, arguments, moving, has_aux, derive, lacks_values, with_logs=in_reverse
    )
    value_tree, aux_tree = traced.out_tree.children()
    inputs = traced.inputs(arguments.leaves)
    outputs = traced.bind(linearized.fwd, arguments, origin=Origin.with_residuals)
    num_primal = len(traced.program.out_avals)
    results = traced.commit(outputs[:num_primal])
    values = results[: value_tree.num_leaves]
    out, aux = _unflatten_results(results, value_tree, aux_tree)
    residuals = linearized.residuals(inputs, outputs)
    # Of what is no array and may change a copy is made.
    is_kept = [isinstance(leaf, jax.Array) for leaf in arguments.leaves]
    sources = tuple(
        i if i is not None and i < len(is_kept) and is_kept[i] else None for i in linearized.sources
    )
    point = Point(
        linearized.lin,
        sources,
        arguments.static,
        tree,
        tuple(primal_avals),
        tuple(map(aval_on_mesh, arguments.leaves)),
        moving,
        held,
        Logs.of(traced),
        jax.tree.structure(plain(out)),
        value_tree,
        tuple(map(aval_on_mesh, values)),
        sum(map(_inexact, values)),
        sum(map(_inexact, outputs[:num_primal])),
    )
    opaque = [x for x, source in zip(residuals, sources, strict=True) if source is None]
    opaque = [x if isinstance(x, jax.Array) else jnp.array(x) for x in opaque]
    references = traced.references_in(arguments)
    args_res = _args_res(arguments, frozenset(sources), is_saveable)
    return (out, aux), (args_res, opaque, references, point)


def _args_res(
    arguments: Arguments, needed: frozenset[int | None], is_saveable: Sequence[bool]
) -> list[Any]:
    """The leaves of each primal, in place of what is not kept what says so."""

    def leaf(position: int | None) -> Any:
        if position is None:
            return ()  # No array.
        if position not in needed:
            return NotNeeded()
        return arguments.leaves[position] if is_saveable[position] else NotSaveable()

    return list(mirrored(arguments.static.args, map(leaf, arguments.numbers)))


def _tree_and_avals(primals: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """The tree of the primals, and the avals of its leaves, references among them."""
    leaves, tree = jax.tree.flatten(plain(taken_apart(primals)))
    return tree, [jax.typeof(x) if is_reference(x) else aval_of(x) for x in leaves]


def _refuse_others(arguments: Arguments, function: str) -> None:
    for value in arguments.static.plain_values:
        raise TypeError(
            f"a primal of {function} is {value!r} of type {type(value).__name__}, which is not a "
            f"valid JAX type and has no tangent; close over it, as in "
            f"{function}(lambda x: f(x, other), ...)"
        )


def _derived(
    fun: Callable[..., Any],
    arguments: Arguments,
    moving: Sequence[bool],
    has_aux: bool,
    derive: Callable[[TracedFunction], _Of],
    lacks_values: Callable[[_Of], bool] = lambda _: False,
    *,
    with_logs: bool = False,
) -> tuple[TracedFunction, _Of]:
    """`fun` as a program, and what `derive` makes of it.

    Both at the values of the arguments where the bounds of a loop are to be known: what is derived
    may be refused without, or be what `lacks_values` says.
    """
    name = getattr(fun, "__qualname__", type(fun).__qualname__).replace("<lambda>", "lambda")

    def paired(*args: Any) -> tuple[Any, Any]:
        return split_aux(fun(*args), has_aux, name)

    def trace(how: Callable[..., TracedFunction]) -> TracedFunction:
        with as_primals(arguments.references):
            return how(
                paired,
                arguments,
                name=name.replace("<locals>.", ""),
                owner=getattr(fun, "__self__", fun),
                wrt=[i for i, moves in enumerate(moving) if moves],
                with_logs=with_logs,
            )

    if not may_have_values(arguments):
        return (traced := trace(trace_at_need)), derive(traced)
    at_values = partial(trace_function, at_values=True)
    for how in (trace_at_need, at_values):
        without: TracedFunction | None = None
        with contextlib.suppress(ReverseModeError):
            without = trace(how)
            if not lacks_values(derived := derive(without)):
                return without, derived
        if without is not None:
            without.undo()
    # Those of transforms in it are what they were given.
    return (traced := trace(partial(at_values, as_given=True))), derive(traced)


def _unflatten_results(results: Sequence[Any], value_tree: Any, aux_tree: Any) -> tuple[Any, Any]:
    count = value_tree.num_leaves
    return (
        jax.tree.unflatten(value_tree, results[:count]),
        jax.tree.unflatten(aux_tree, results[count:]),
    )


def _inexact(x: Any) -> bool:
    return has_tangent(aval_of(x))


def _active_inputs(
    traced: TracedFunction, moving: Sequence[bool], held: HeldPrimals
) -> tuple[bool, ...]:
    further = held.inputs | {entry.input for entry in jax.tree.leaves(traced.logs)}
    others = range(len(moving), len(traced.program.in_avals))
    return (*moving, *(i in further for i in others))
