"""Derivatives at a point: the functions that ``vjp`` and ``linearize`` return.

In: a linear program and its residuals. Out: :class:`VjpFunction` and :class:`LinearFunction`,
pytrees of these residuals that check what they are given.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._import import decoded
from bmgrad._transforms._arguments import Static, aval_of, plain
from bmgrad._transforms._held_primals import HeldPrimals, check_gradient, check_reference
from bmgrad._transforms._skeleton import mirrored, skeleton
from bmgrad._transforms._trace import TracedFunction
from bmgrad.runtime import bind
from bmgrad.runtime._jax_internals import (
    NotNeeded,
    NotSaveable,
    api_boundary,
    has_tangent,
    is_reference,
    is_reference_aval,
    placed_as,
    tangent_aval,
    tangents_put_together,
    tangents_taken_apart,
)
from bmgrad.runtime._program import LinearProgram

# JAX's type annotations say that this is a module.
_ad: Any = vars(jax)["ad"]


@dataclasses.dataclass(frozen=True)
class Logs:
    """What backward rules log: a tree of arrays, each the cotangent of one of ``count`` slots."""

    tree: Any
    avals: tuple[Any, ...]
    slots: tuple[int, ...]
    count: int
    refusal: str

    @classmethod
    def of(cls, traced: TracedFunction) -> Logs:
        entries, tree = jax.tree.flatten(traced.logs)
        inputs = sorted({entry.input for entry in entries})
        slots = tuple(inputs.index(entry.input) for entry in entries)
        avals = tuple(entry.aval for entry in entries)
        return cls(tree, avals, slots, len(inputs), traced.no_logs_because)

    def read(self, cotangents: Sequence[Any]) -> Any:
        logged = [cotangents[i] for i in self.slots]
        return jax.tree.unflatten(self.tree, map(decoded, self.avals, logged))


@dataclasses.dataclass(frozen=True)
class Point:
    """Where a function was linearized: what is known of the derivative but its residuals."""

    lin: LinearProgram
    # For each residual which primal leaf it is; None for the opaque ones, which follow in order.
    residuals: tuple[int | None, ...]
    static: Static
    in_tree: Any
    # Of the primals, and of those that are no references.
    primal_avals: tuple[Any, ...]
    in_avals: tuple[Any, ...]
    # Which of the latter have a tangent.
    moving: tuple[bool, ...]
    held: HeldPrimals
    logs: Logs
    out_tree: Any
    value_tree: Any
    out_avals: tuple[Any, ...]
    # Tangents of auxiliary and written outputs follow those of the value.
    num_tangents: int
    all_tangents: int


@dataclasses.dataclass(eq=False)
class _Derivative:
    """A derivative at a point: a pytree of its residuals, which may cross ``jax.jit``.

    Attributes:
      args_res: the leaves of each primal, in its containers (those of users as tuples). Those
        that are no residuals, or not to be saved, are objects of JAX that say so. They may be
        replaced, by equal arrays in any pytree.
      opaque_residuals: what else is needed.
      references: those that the function, or a rule in it, reads or writes, by name.
    """

    args_res: list[Any]
    opaque_residuals: list[Any]
    references: dict[str, Any]
    point: Point = dataclasses.field(metadata={"static": True})

    def _residuals(self) -> list[Any]:
        leaves = jax.tree.leaves(self.args_res, is_leaf=lambda x: isinstance(x, _LEFT_OUT))
        opaque, count = iter(self.opaque_residuals), len(self.point.in_avals)
        if len(leaves) != count:
            raise ValueError(
                f"args_res has {len(leaves)} leaves, but the primals have {count}; give back "
                "what was taken out of it"
            )
        needed = [i for i in self.point.residuals if i is not None]
        if missing := [i for i in needed if isinstance(leaves[i], NotSaveable)]:
            names = ", ".join(self._name_of(i) for i in missing)
            raise ValueError(
                f"the not-saveable residuals {names} were not given back: before this function is "
                "called, its attribute args_res needs the values of these primals"
            )
        return [next(opaque) if i is None else leaves[i] for i in self.point.residuals]

    @property
    def out_nzs(self) -> Any:
        """Which results have a tangent that is not zero whatever the inputs', as a tree of bools.

        It has the containers of the results, and tuples in place of those of users.
        """
        lin = self.point.lin
        count = len(lin.in_avals) - lin.num_residuals
        axes = [-1] * lin.num_residuals + [0] * count
        moved = iter(lin.batched_outputs(axes, 2, None))
        flags = [has_tangent(aval) and next(moved) for aval in self.point.out_avals]
        return mirrored(self.point.out_tree, flags)

    def _name_of(self, position: int) -> str:
        """What a primal is called, `args[0]['w']`."""
        positions = range(len(self.point.in_avals))
        arrays = iter(positions)
        given = [next(arrays) if is_array else None for is_array in self.point.static.are_arrays]
        args = skeleton(self.point.static.args, given)
        paths, _ = jax.tree_util.tree_flatten_with_path(args)
        (found,) = (path for path, leaf in paths if leaf is positions[position])
        return f"args{jax.tree_util.keystr(found)}"


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
        point.held.check_left_out()
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
        leaves = matching_leaves(point.out_tree, cotangent, point.out_avals, "vjp")
        cotangents = [c for c, v in zip(leaves, point.out_avals, strict=True) if has_tangent(v)]
        asked = list(itertools.compress(wanted, point.moving))
        asked_of_held, changed, of_changed = point.held.cotangents(references)
        nonzero = [i < point.num_tangents or i in changed for i in range(point.all_tangents)]
        asked_of_logs = [self.wants_logs] * point.logs.count
        program = point.lin.transpose([*asked, *asked_of_held, *asked_of_logs], nonzero)
        given = [*self._residuals(), *cotangents, *of_changed]
        found = iter(bind(program, *given, references=self.references))
        inexact = [next(found) if flag else None for flag in asked]
        point.held.accumulate(references, found)
        logs = point.logs.read(list(found)) if self.wants_logs else None
        return with_zeros(point.in_avals, inexact, point.moving), logs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(eq=False)
class LinearFunction(_Derivative):
    """From tangents of the inputs to the tangent of the output, at one point."""

    @api_boundary
    def __call__(self, *tangents: Any) -> Any:
        """The tangent of the output; ``tangents`` have the trees and shapes of the primals."""
        point = self.point
        avals = point.primal_avals
        leaves = matching_leaves(point.in_tree, tangents, avals, "linearize")
        arrays = [t for t, p in zip(leaves, avals, strict=True) if not is_reference_aval(p)]
        active = list(itertools.compress(arrays, point.moving))
        references = [t for t, p in zip(leaves, avals, strict=True) if is_reference_aval(p)]
        active += point.held.read_tangents(references)
        outputs = bind(point.lin, *self._residuals(), *active, references=self.references)
        point.held.write_tangents(references, outputs)
        given = with_zeros(point.out_avals, outputs[: point.num_tangents])
        return tangents_put_together(jax.tree.unflatten(point.value_tree, given))


def with_zeros(
    avals: Sequence[Any], inexact: Sequence[Any], moving: Sequence[bool] | None = None
) -> list[Any]:
    """``inexact`` for the avals that have a derivative, float0 zeros for the others.

    Those that are not ``moving`` have a derivative of zeros.
    """
    rest = iter(inexact)
    flags = map(has_tangent, avals) if moving is None else moving
    return [
        placed_as(next(rest), aval) if moves else _zeros(aval)
        for aval, moves in zip(avals, flags, strict=True)
    ]


def _zeros(aval: Any) -> Any:
    if has_tangent(aval):
        return jnp.zeros(aval.shape, tangent_aval(aval).dtype)
    return np.zeros(aval.shape, jax.dtypes.float0)


# What stands for a primal that is not kept.
_LEFT_OUT = (NotNeeded, NotSaveable)


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


def matching_leaves(tree: Any, given: Any, avals: Sequence[Any], function: str) -> list[Any]:
    """The leaves of ``given``, checked to fit the tree and the avals of what it belongs to."""
    what, of, wrong_tree, wrong_dtype, say_tree, say_aval = _GIVEN[function]
    leaves, found = jax.tree.flatten(tangents_taken_apart(tree, plain(given)))
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
