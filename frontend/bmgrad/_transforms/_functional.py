"""The functional forms: ``vjp``, ``jvp`` and ``linearize`` at a point.

In: a function and primal values (concrete, or tracers of any trace). Out: its value
and its derivative there, as values or as a function that is cheap to call again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._import import decoded
from bmgrad._transforms._arguments import Arguments, Static, aval_of
from bmgrad._transforms._held_primals import HeldPrimals, check_gradient, check_reference
from bmgrad._transforms._held_reference import as_primals
from bmgrad._transforms._targets import split_aux
from bmgrad._transforms._trace import (
    TracedFunction,
    may_have_values,
    trace_at_need,
    trace_function,
)
from bmgrad.runtime import bind
from bmgrad.runtime._errors import ReverseModeError
from bmgrad.runtime._jax_internals import (
    NotNeeded,
    api_boundary,
    has_tangent,
    is_reference,
    is_reference_aval,
    put_together,
    taken_apart,
    tangent_aval,
    tangents_put_together,
    tangents_taken_apart,
)
from bmgrad.runtime._linearized import Linearized
from bmgrad.runtime._origin import Origin
from bmgrad.runtime._program import LinearProgram, Program

# JAX's type annotations say that this is a module.
_ad: Any = vars(jax)["ad"]

_Of = TypeVar("_Of")


@api_boundary
def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value of ``fun`` and the function from output cotangents to input cotangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays, or references; the point.
      has_aux: whether ``fun`` returns auxiliary data as well.

    Returns:
      ``(out, vjp_fn)`` or ``(out, vjp_fn, aux)``. ``vjp_fn(ct)`` takes a cotangent with the
      tree, shapes and dtypes of ``out`` and returns a tuple with one cotangent for each
      primal (float0 zeros for integers, None for references). ``vjp_fn`` is a pytree of its
      residuals and references, which ``jax.jit`` functions may take, and return if there are no
      references. As with ``jax.vjp``, its attribute ``args_res`` has the primals that are
      residuals, which may be dropped and given again, and ``opaque_residuals`` the others.

    Raises:
      TypeError: if ``has_aux`` and no pair is returned.
      ValueError: if a cotangent does not fit.

    Example:
      >>> import bmgrad.math as bm
      >>> out, vjp_fn = bm.vjp(bm.sin, bm.zeros(2))
      >>> vjp_fn(bm.ones(2))[0].tolist()
      [1.0, 1.0]
    """
    result, parts = _linearized(fun, primals, has_aux, in_reverse=True)
    (out, aux), derivative = put_together(result), VjpFunction(*parts)
    return (out, derivative, aux) if has_aux else (out, derivative)


@api_boundary
def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value of ``fun`` and its derivative, a linear function of tangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays, or references; the point.

    Returns:
      ``(out, jvp_fn)`` or ``(out, jvp_fn, aux)``. ``jvp_fn(*tangents)`` gives the tangent of
      ``out`` without computing the value again; it is a pytree, as what :func:`vjp` returns.

    Example:
      >>> import bmgrad.math as bm
      >>> out, jvp_fn = bm.linearize(bm.sin, 0.0)
      >>> float(jvp_fn(2.0))
      2.0
    """
    result, parts = _linearized(fun, primals, has_aux, in_reverse=False)
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
    leaves = _matching_leaves(tree, tuple(tangents), avals, "jvp")

    def derive(traced: TracedFunction) -> tuple[HeldPrimals, Program]:
        held = HeldPrimals.of(traced, arguments)
        held.check_all("jvp")
        return held, traced.program.jvp(_active_inputs(traced, arguments, held))

    traced, (held, program) = _derived(fun, arguments, has_aux, derive)
    value_tree, aux_tree = traced.out_tree.children()
    moved = [t for t, aval in zip(leaves, avals, strict=True) if has_tangent(aval)]
    references = [t for t, aval in zip(leaves, avals, strict=True) if is_reference_aval(aval)]
    moved += held.read_tangents(references)
    outputs = traced.bind(program, arguments, *moved, origin=Origin.with_derivatives)
    num_primal = len(traced.program.out_avals)
    results = traced.commit(outputs[:num_primal])
    held.write_tangents(references, outputs[num_primal:])
    out, aux = put_together(_unflatten_results(results, value_tree, aux_tree))
    values = [aval_of(value) for value in results[: value_tree.num_leaves]]
    tangents_out = _with_zeros(values, outputs[num_primal:])
    tangent = tangents_put_together(jax.tree.unflatten(value_tree, tangents_out))
    return (out, tangent, aux) if has_aux else (out, tangent)


@dataclasses.dataclass(frozen=True)
class _Logs:
    """What backward rules log: a tree of arrays, each the cotangent of one of ``count`` slots."""

    tree: Any
    avals: tuple[Any, ...]
    slots: tuple[int, ...]
    count: int
    refusal: str

    @classmethod
    def of(cls, traced: TracedFunction) -> _Logs:
        entries, tree = jax.tree.flatten(traced.logs)
        inputs = sorted({entry.input for entry in entries})
        slots = tuple(inputs.index(entry.input) for entry in entries)
        avals = tuple(entry.aval for entry in entries)
        return cls(tree, avals, slots, len(inputs), traced.no_logs_because)

    def read(self, cotangents: Sequence[Any]) -> Any:
        logged = [cotangents[i] for i in self.slots]
        return jax.tree.unflatten(self.tree, map(decoded, self.avals, logged))


@dataclasses.dataclass(frozen=True)
class _Point:
    """Where a function was linearized: what is known of the derivative but its residuals."""

    lin: LinearProgram
    # For each residual which primal leaf it is; None for the opaque ones, which follow in order.
    residuals: tuple[int | None, ...]
    static: Static
    in_tree: Any
    # Of the primals, and of those that are no references.
    primal_avals: tuple[Any, ...]
    in_avals: tuple[Any, ...]
    held: HeldPrimals
    logs: _Logs
    out_tree: Any
    value_tree: Any
    out_avals: tuple[Any, ...]
    # Tangents of auxiliary and written outputs follow those of the value.
    num_tangents: int
    all_tangents: int


def _linearized(
    fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, *, in_reverse: bool
) -> tuple[tuple[Any, Any], tuple[list[Any], list[Any], dict[str, Any], _Point]]:
    """Value and aux at ``primals``, and the parts of the derivative there."""
    arguments = Arguments.of(primals, {}, fun)
    _refuse_others(arguments, "vjp" if in_reverse else "linearize")

    def derive(traced: TracedFunction) -> tuple[HeldPrimals, Linearized]:
        held = HeldPrimals.of(traced, arguments)
        if not in_reverse:
            held.check_all("linearize")
        return held, traced.program.linearize(_active_inputs(traced, arguments, held))

    def lacks_values(derived: tuple[HeldPrimals, Linearized]) -> bool:
        return in_reverse and derived[1].lin.has_open_loop

    traced, (held, linearized) = _derived(
        fun, arguments, has_aux, derive, lacks_values, with_logs=in_reverse
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
    tree, primal_avals = _tree_and_avals(primals)
    point = _Point(
        linearized.lin,
        sources,
        arguments.static,
        tree,
        tuple(primal_avals),
        tuple(map(aval_of, arguments.leaves)),
        held,
        _Logs.of(traced),
        jax.tree.structure(_plain(out)),
        value_tree,
        tuple(map(aval_of, values)),
        sum(map(_inexact, values)),
        sum(map(_inexact, outputs[:num_primal])),
    )
    opaque = [x for x, source in zip(residuals, sources, strict=True) if source is None]
    opaque = [x if isinstance(x, jax.Array) else jnp.array(x) for x in opaque]
    references = traced.references_in(arguments)
    return (out, aux), (_args_res(arguments, frozenset(sources)), opaque, references, point)


def _args_res(arguments: Arguments, kept: frozenset[int | None]) -> list[Any]:
    """The leaves of each primal in tuples, the `kept` ones and `NotNeeded` for the others."""
    args, _ = arguments.rebuild(range(len(arguments.leaves)))

    def leaf(position: Any) -> Any:
        if type(position) is not int:
            return ()  # No array.
        return arguments.leaves[position] if position in kept else NotNeeded()

    leaves, tree = jax.tree.flatten(_plain(args))
    walk: Any = vars(type(tree))["walk"]  # Which JAX's type annotations do not know.
    return list(walk(tree, lambda children, _: tuple(children), leaf, leaves))


@dataclasses.dataclass(eq=False)
class _Derivative:
    """A derivative at a point: a pytree of its residuals, which may cross ``jax.jit``.

    Attributes:
      args_res: for each primal its leaves in tuples, those that are no residuals as an object
        of JAX that says so. They may be replaced, by equal arrays in any pytree.
      opaque_residuals: what else is needed.
      references: those that the function, or a rule in it, reads or writes, by name.
    """

    args_res: list[Any]
    opaque_residuals: list[Any]
    references: dict[str, Any]
    point: _Point = dataclasses.field(metadata={"static": True})

    def _residuals(self) -> list[Any]:
        leaves = jax.tree.leaves(self.args_res, is_leaf=lambda x: isinstance(x, NotNeeded))
        opaque, count = iter(self.opaque_residuals), len(self.point.in_avals)
        if len(leaves) != count:
            raise ValueError(
                f"args_res has {len(leaves)} leaves, but the primals have {count}; give back "
                "what was taken out of it"
            )
        return [next(opaque) if i is None else leaves[i] for i in self.point.residuals]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False)
class VjpFunction(_Derivative):
    """From cotangents of the outputs to cotangents of the inputs, at one point."""

    wants_logs: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def with_logs(self) -> VjpFunction:
        """The same function, which returns what backward rules log beside its cotangents.

        That is a dict of what each rule given by ``jax.custom_vjp.defvjp_with_logs`` returned,
        stacked where it is called in a ``jax.lax.scan``.

        Raises:
          ValueError: if two rules log under one key, or one logs what is no array of numbers.
        """
        if self.point.logs.refusal:
            raise ValueError(self.point.logs.refusal)
        return dataclasses.replace(self, wants_logs=True)

    @api_boundary
    def __call__(self, cotangent: Any, *more: Any) -> Any:
        """A cotangent for each primal; ``cotangent`` has the tree and shapes of the output."""
        point = self.point
        if more:
            name = point.lin.name.removesuffix(".lin").rpartition(".")[2]
            raise TypeError(
                f"the function returned by vjp applied to {name} was called with {1 + len(more)} "
                "arguments; it takes one cotangent, with the tree of the output"
            )
        references = [None] * len(point.held.references)
        wanted = [True] * len(point.in_avals)
        found, logs = self._cotangents(cotangent, wanted, references)
        args, _ = tangents_put_together(point.static.rebuild(found))
        return (args, logs) if self.wants_logs else args

    def with_refs(self, *kinds: Any) -> Callable[[Any], tuple[Any, ...]]:
        """The same function, which adds cotangents to references, or leaves some out.

        Args:
          kinds: for each primal a tree like it, whose leaves are references
            (``jax.new_ref``) for cotangents to be added to, ``jax.ad.GradValue()`` for those
            to return, and ``jax.ad.DontWant()`` for those that need not be computed.

        Returns:
          A function like this one. It returns what ``jax.vjp`` does in place of the cotangents
          that it does not return.
        """
        leaves, tree = jax.tree.flatten(kinds)
        if tree != self.point.in_tree:
            raise ValueError(
                f"the tree structures differ: with_refs was given {tree}, but the primals have "
                f"{self.point.in_tree}; None is an empty tree, say jax.ad.DontWant() in its place"
            )
        point = self.point
        of_references = [is_reference_aval(aval) for aval in point.primal_avals]
        given = list(itertools.compress(leaves, of_references))
        point.held.check_kinds(given)
        of_arrays = [k for k, flag in zip(leaves, of_references, strict=True) if not flag]
        for kind, aval in zip(of_arrays, point.in_avals, strict=True):
            if is_reference(kind):
                check_gradient(kind, aval)
        wanted = [not isinstance(kind, _ad.DontWant) for kind in of_arrays]
        references = [kind if is_reference(kind) else None for kind in given]

        @api_boundary
        def call(cotangent: Any) -> Any:
            results, logs = self._cotangents(cotangent, wanted, references)
            for position, kind in enumerate(of_arrays):
                if not wanted[position]:
                    results[position] = _ad.DidntWant()
                elif is_reference(kind):
                    jax.ref.addupdate(kind, ..., results[position])
                    results[position] = _ad.GradRef()
            said = [_ad.DidntWant() if each is None else _ad.GradRef() for each in references]
            args, _ = point.static.rebuild(results, said)
            return (args, logs) if self.wants_logs else args

        return call

    def _cotangents(
        self, cotangent: Any, wanted: Sequence[bool], references: Sequence[Any]
    ) -> tuple[list[Any], Any]:
        """A cotangent for each primal leaf, zeros for those that are not wanted; what is logged.

        Those of primals that are references go to `references`, where they are not None.
        """
        point = self.point
        leaves = _matching_leaves(point.out_tree, cotangent, point.out_avals, "vjp")
        cotangents = [c for c, v in zip(leaves, point.out_avals, strict=True) if has_tangent(v)]
        asked = [w for w, v in zip(wanted, point.in_avals, strict=True) if has_tangent(v)]
        asked_of_held, changed, of_changed = point.held.cotangents(references)
        nonzero = [i < point.num_tangents or i in changed for i in range(point.all_tangents)]
        asked_of_logs = [self.wants_logs] * point.logs.count
        program = point.lin.transpose([*asked, *asked_of_held, *asked_of_logs], nonzero)
        given = [*self._residuals(), *cotangents, *of_changed]
        found = iter(bind(program, *given, references=self.references))
        inexact = [next(found) if flag else None for flag in asked]
        point.held.accumulate(references, found)
        logs = point.logs.read(list(found)) if self.wants_logs else None
        return _with_zeros(point.in_avals, inexact), logs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False)
class LinearFunction(_Derivative):
    """From tangents of the inputs to the tangent of the output, at one point."""

    @api_boundary
    def __call__(self, *tangents: Any) -> Any:
        """The tangent of the output; ``tangents`` have the trees and shapes of the primals."""
        point = self.point
        avals = point.primal_avals
        leaves = _matching_leaves(point.in_tree, tangents, avals, "linearize")
        active = [t for t, p in zip(leaves, avals, strict=True) if has_tangent(p)]
        references = [t for t, p in zip(leaves, avals, strict=True) if is_reference_aval(p)]
        active += point.held.read_tangents(references)
        outputs = bind(point.lin, *self._residuals(), *active, references=self.references)
        point.held.write_tangents(references, outputs)
        given = _with_zeros(point.out_avals, outputs[: point.num_tangents])
        return tangents_put_together(jax.tree.unflatten(point.value_tree, given))


def _tree_and_avals(primals: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """The tree of the primals, and the avals of its leaves, references among them."""
    leaves, tree = jax.tree.flatten(_plain(taken_apart(primals)))
    return tree, [jax.typeof(x) if is_reference(x) else aval_of(x) for x in leaves]


def _refuse_others(arguments: Arguments, function: str) -> None:
    for position, _ in arguments.static.positions:
        value = jax.tree.leaves(arguments.rebuild(arguments.leaves))[position]
        raise TypeError(
            f"a primal of {function} is {value!r} of type {type(value).__name__}, which is not a "
            f"valid JAX type and has no tangent; close over it, as in "
            f"{function}(lambda x: f(x, other), ...)"
        )


def _derived(
    fun: Callable[..., Any],
    arguments: Arguments,
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
                wrt=range(len(arguments.leaves)),
                with_logs=with_logs,
            )

    if not may_have_values(arguments):
        return (traced := trace(trace_at_need)), derive(traced)
    at_values = partial(trace_function, at_values=True)
    for how in (trace_at_need, at_values):
        with contextlib.suppress(ReverseModeError):
            traced = trace(how)
            if not lacks_values(derived := derive(traced)):
                return traced, derived
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
    traced: TracedFunction, arguments: Arguments, held: HeldPrimals
) -> tuple[bool, ...]:
    further = held.inputs | {entry.input for entry in jax.tree.leaves(traced.logs)}
    others = range(len(arguments.leaves), len(traced.program.in_avals))
    return (*(_inexact(leaf) for leaf in arguments.leaves), *(i in further for i in others))


def _with_zeros(avals: Sequence[Any], inexact: Sequence[Any]) -> list[Any]:
    """``inexact`` for the avals that have a derivative, float0 zeros for the others."""
    rest = iter(inexact)
    return [
        next(rest) if has_tangent(aval) else np.zeros(aval.shape, jax.dtypes.float0)
        for aval in avals
    ]


# What each function is given, what that belongs to, and what is raised where tree or dtype do not
# fit: as JAX does, and in words that contain JAX's, which people search for.
_GIVEN = {
    "jvp": (
        "tangent",
        "primal",
        TypeError,
        TypeError,
        "primal and tangent arguments to jvp must have the same tree structure",
        "jvp called with different primal and tangent shapes or dtypes",
    ),
    "linearize": (
        "tangent",
        "primal",
        TypeError,
        ValueError,
        "unexpected tree structure",
        "linearized function called on tangent values inconsistent with the original primal values",
    ),
    "vjp": (
        "cotangent",
        "output",
        ValueError,
        ValueError,
        "unexpected tree structure",
        "vjp called with unexpected JAX type",
    ),
}


def _matching_leaves(tree: Any, given: Any, avals: Sequence[Any], function: str) -> list[Any]:
    """The leaves of ``given``, checked to fit the tree and the avals of what it belongs to."""
    what, of, wrong_tree, wrong_dtype, say_tree, say_aval = _GIVEN[function]
    leaves, found = jax.tree.flatten(tangents_taken_apart(tree, _plain(given)))
    if found != tree:
        raise wrong_tree(
            f"{say_tree}: the {what} has the tree {found}, but the {of} has {tree}; "
            "they must be equal"
        )
    for position, (leaf, aval) in enumerate(zip(leaves, avals, strict=True)):
        if is_reference_aval(aval):
            check_reference(leaf, aval, f"{what} {position} of {function}")
            continue
        came, wanted = aval_of(leaf), tangent_aval(aval)
        # Python's floats are of any width.
        wide = not hasattr(leaf, "dtype") and came.dtype.kind in ("f", wanted.dtype.kind)
        fits = came.dtype == wanted.dtype or (wide and wanted.dtype.kind in "fc")
        # JAX takes cotangents of integers, which say nothing, of any dtype.
        fits |= function == "vjp" and not has_tangent(aval)
        if came.shape != wanted.shape or not fits:
            raise (wrong_dtype if came.shape == wanted.shape else ValueError)(
                f"{say_aval}: {what} {position} has shape "
                f"{came.shape} and dtype {came.dtype}, but its {of} asks for shape {wanted.shape} "
                f"and dtype {np.dtype(wanted.dtype)}"
            )
        if has_tangent(aval) and not hasattr(leaf, "dtype"):
            leaves[position] = jnp.asarray(leaf, wanted.dtype)
    return leaves


def _plain(tree: Any) -> Any:
    """The tree with ``bm.Array`` nodes replaced by their values: they are one kind of leaf."""
    from bmgrad._array import Array

    return jax.tree.map(
        lambda x: x.value if isinstance(x, Array) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Array),
    )
