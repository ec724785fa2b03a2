"""``jit`` and ``vmap``: compile a function with variables, or map it over a batch.

In: a function. Out: transforms whose bodies bind its program, or that program's ``bm.batch``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.api_util import flatten_axes

from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._call import State, Transformed
from bmgrad._transforms._skeleton import skeleton
from bmgrad._transforms._static_arguments import StaticArguments, unpinned
from bmgrad._transforms._trace import TracedFunction
from bmgrad._transforms._transform import Transform
from bmgrad.runtime import Program
from bmgrad.runtime._jax_internals import (
    api_boundary,
    is_hi_arrays,
    is_jit_disabled,
    put_together,
    with_axes,
)
from bmgrad.runtime._origin import Origin
from bmgrad.runtime._stages import Traced


class JitTransform(Transform):
    """The function itself, compiled."""

    kind = "jit"
    may_ask_values = False
    sees_changes = False

    def __init__(self, function: Callable[..., Any], static: StaticArguments | None = None) -> None:
        self.static = static or StaticArguments()
        super().__init__(function, self.static)

    def on(self, function: Callable[..., Any]) -> JitTransform:
        return JitTransform(function, self.static.of_method())

    def is_disabled(self) -> bool:
        return is_jit_disabled()

    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments = self.arguments(args, kwargs)
        function = unpinned(self.function) if self.static else None
        traced = self.trace(state, arguments, function=function)
        results = traced.commit(traced.bind(traced.program, arguments))
        return put_together(jax.tree.unflatten(traced.out_tree, results))


class JitWithStatic(Transformed):
    """A compiled function with arguments that are compiled in."""

    _transform: JitTransform

    @api_boundary
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._transform.is_disabled():
            return self._function(*args, **kwargs)
        args, kwargs = self._transform.static.pin(self._function, args, kwargs)
        return super().__call__(*args, **kwargs)

    @api_boundary
    def trace(self, /, *args: Any, **kwargs: Any) -> Traced:
        """Trace for arguments like these; what is compiled takes those that are not static."""
        function, args, kwargs = self._transform.static.given(self._function, args, kwargs)
        return State(JitTransform(function)).stage(args, kwargs)


class VmapTransform(Transform):
    """The function applied to each element of a batch."""

    kind = "vmap"

    def __init__(
        self,
        function: Callable[..., Any],
        in_axes: Any,
        out_axes: Any,
        axis_size: int | None,
        axis_name: Hashable,
    ) -> None:
        _check_axes("in_axes", in_axes, "an int, None, or a tuple with an entry for each argument")
        _check_axes("out_axes", out_axes, "an int, None, or a pytree of them")
        if not (in_axes is None or isinstance(in_axes, (int, tuple, list))):
            raise TypeError(
                "vmap in_axes must be an int, None, or a tuple with an entry for each argument, "
                f"got {in_axes!r}"
            )
        self.in_axes, self.out_axes, self.axis_size = in_axes, out_axes, axis_size
        self.axis_name = axis_name
        leaves, tree = jax.tree.flatten((in_axes, out_axes), is_leaf=lambda x: x is None)
        super().__init__(function, (tuple(leaves), tree, axis_size, axis_name))

    def on(self, function: Callable[..., Any]) -> VmapTransform:
        return VmapTransform(function, self.in_axes, self.out_axes, self.axis_size, self.axis_name)

    def key_parts(self) -> dict[str, Any]:
        return {"options": (("axes", self.options),)}

    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = self.arguments(args, kwargs)
        of_references = self._reference_axes(given)
        mapped = [axis is not None for axis in of_references]
        if not any(mapped):
            return self._apply(state, given, None, self.out_axes)
        # What such references hold is mapped, and given back.
        arguments = given.holding(mapped)

        def on_elements(*args: Any, **kwargs: Any) -> Any:
            args, kwargs, references = arguments.static.with_references(args, kwargs)
            return self.function(*args, **kwargs), [reference[...] for reference in references]

        out_axes = self.out_axes, [axis for axis in of_references if axis is not None]
        result, held = self._apply(state, arguments, on_elements, out_axes)
        for reference, value in zip(
            itertools.compress(given.references, mapped), held, strict=True
        ):
            reference[...] = value
        return result

    def _apply(
        self,
        state: State,
        arguments: Arguments,
        function: Callable[..., Any] | None,
        out_axes_of: Any,
    ) -> Any:
        """A batch of ``function``, or of the function of this transform."""
        axes = self._leaf_axes(arguments)
        _refuse_mapped(arguments.skeleton(axes))
        size = self._batch_size(arguments, axes)
        element = arguments.map(lambda i, leaf: _element(leaf, axes[i]))
        named = [] if self.axis_name is None else [(self.axis_name, size)]
        with with_axes(named):
            traced = self.trace(state, element, function=function)
        in_axes = [-1] * len(traced.program.in_avals)
        for position, axis in enumerate(axes):
            if axis is not None:
                in_axes[position] = axis
        placed = flatten_axes("vmap out_axes", traced.out_tree, out_axes_of)
        _refuse_mapped(skeleton(traced.out_tree, placed))
        out_axes = [
            -1 if axis is None else 0 for i, axis in enumerate(placed) if i not in traced.float0
        ]
        # A variable keeps its shape: what is written to it must not depend on the batch.
        self._check_shared(traced.program, in_axes, size, out_axes)
        out_axes += [-1] * len(traced.writes)
        lost = self._lost(traced, in_axes, size)
        for position in lost:
            out_axes[position] = 0
        program = traced.program.mapped(in_axes, size, out_axes, self.axis_name)

        def origin(one: Origin, _: Program) -> Origin:
            return one.batch(in_axes, size, self.axis_name)

        results = traced.commit(traced.bind(program, arguments, origin=origin), lost=lost)
        for i, shape in traced.float0.items():
            if placed[i] is not None:
                results[i] = np.zeros((size, *shape), jax.dtypes.float0)
        # JAX's function refuses float0.
        leaves = [
            (np if i in traced.float0 else jnp).moveaxis(leaf, 0, axis) if axis else leaf
            for i, (leaf, axis) in enumerate(zip(results, placed, strict=True))
        ]
        return put_together(jax.tree.unflatten(traced.out_tree, leaves))

    def _lost(self, traced: TracedFunction, in_axes: list[int], size: int) -> list[int]:
        """The outputs for variables made by the function that each element has its own of."""
        if not traced.made:
            return []
        batched = traced.program.batched_outputs(in_axes, size, self.axis_name, tangents=False)
        of_made = range(traced.first_made, traced.first_made + len(traced.made))
        return [i for i in of_made if batched[i]]

    def _leaf_axes(self, arguments: Arguments) -> list[int | None]:
        """The batch axis of each array leaf."""
        axes = list(itertools.compress(self._axes(arguments), arguments.static.are_arrays))
        for position, axis in enumerate(axes):
            rank = jnp.ndim(arguments.leaves[position])
            if axis is not None and not -rank <= axis < rank:
                raise ValueError(
                    f"vmap in_axes asks for axis {axis} of {arguments.names[position]}, which has "
                    f"rank {rank}; use None for arguments that are not mapped"
                )
            axes[position] = None if axis is None else axis % rank
        return axes

    def _reference_axes(self, arguments: Arguments) -> list[int | None]:
        """That of each reference."""
        if not arguments.references:
            return []
        return list(itertools.compress(self._axes(arguments), arguments.static.are_references))

    def _axes(self, arguments: Arguments) -> list[int | None]:
        """That of each leaf of a call; those of keyword arguments are mapped at 0."""
        args, kwargs = arguments.static.tree.children()
        args = args.children()
        in_axes = list(self.in_axes) if isinstance(self.in_axes, (tuple, list)) else self.in_axes
        if isinstance(in_axes, list) and len(in_axes) != len(args):
            raise ValueError(
                f"vmap in_axes has {len(in_axes)} entries, but the call has {len(args)} positional "
                "arguments"
            )
        spread = tuple(in_axes) if isinstance(in_axes, list) else (in_axes,) * len(args)
        of_args = map(partial(flatten_axes, "vmap in_axes"), args, spread)
        return [*itertools.chain(*of_args), *[0] * kwargs.num_leaves]

    def _batch_size(self, arguments: Arguments, axes: list[int | None]) -> int:
        sizes = {
            arguments.names[i]: jnp.shape(arguments.leaves[i])[axis]
            for i, axis in enumerate(axes)
            if axis is not None
        }
        found = set(sizes.values()) | ({self.axis_size} if self.axis_size is not None else set())
        if not found:
            raise ValueError("vmap needs an argument that is mapped, or axis_size")
        if len(found) > 1:
            raise ValueError(
                f"vmap got inconsistent batch sizes: {sizes}"
                + (f" and axis_size={self.axis_size}" if self.axis_size is not None else "")
            )
        return int(found.pop())

    def _check_shared(
        self, program: Program, in_axes: list[int], size: int, out_axes: list[int]
    ) -> None:
        """Results without a batch axis must be the same for all elements."""
        if -1 not in out_axes:
            return
        batched = program.batched_outputs(in_axes, size, self.axis_name, tangents=False)
        for position, axis in enumerate(out_axes):
            if axis < 0 and batched[position]:
                raise ValueError(
                    f"vmap has mapped output but out_axes is None: result {position} differs "
                    "between the elements of the batch; give it an axis"
                )


def _refuse_mapped(tree: Any) -> None:
    """Refuses values of types that users define in a tree of axes: only types know of batches."""
    for leaf in jax.tree.leaves(tree, is_leaf=is_hi_arrays):
        if is_hi_arrays(leaf) and any(axis is not None for axis in leaf.arrays):
            raise NotImplementedError(
                f"vmap cannot map over values of type {leaf.ty.str_short()}; use jax.vmap in the "
                "function, which asks the type, or map over arrays"
            )


def _check_axes(name: str, axes: Any, wanted: str) -> None:
    for axis in jax.tree.leaves(axes):
        if type(axis) is bool or not isinstance(axis, (int, np.integer)):
            raise TypeError(
                f"vmap {name} must be {wanted}, got {axis!r} of type {type(axis).__name__} in it"
            )


def _element(batch: Any, axis: int | None) -> Any:
    """What one element of a batch is; the batch may have none."""
    if axis is None:
        return batch
    aval: Any = jax.typeof(jnp.asarray(batch))
    shape = (*aval.shape[:axis], *aval.shape[axis + 1 :])
    return jax.ShapeDtypeStruct(shape, aval.dtype, weak_type=aval.weak_type)
