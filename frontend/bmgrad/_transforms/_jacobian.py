"""Jacobians: the bodies of ``jacrev``, ``jacfwd`` and ``hessian``.

In: a function and its :class:`Targets`. Out: transforms whose bodies bind the
linearized program once and its transpose (or tangent) once, batched over a basis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._call import State
from bmgrad._transforms._targets import checked_function, zero_jacobian
from bmgrad._transforms._trace import TracedFunction
from bmgrad._transforms._transform import TargetsTransform
from bmgrad.runtime import bind
from bmgrad.runtime._jax_internals import has_hi_arrays, has_tangent, put_together
from bmgrad.runtime._origin import Origin


class JacobianTransform(TargetsTransform):
    """``jacrev`` or ``jacfwd``, by ``kind``."""

    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        jacobian, value, aux = self.apply(state, self.function, args, kwargs)
        return self.targets.package(jacobian, value, aux)

    def apply(
        self,
        state: State,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Any, Any, Any]:
        """Jacobian, value and aux of ``function`` at the arguments."""
        targets, kind = self.targets, self.kind
        arguments = self.arguments(args, kwargs)
        targets.check_arguments(args, kind)

        def check_value(value: Any) -> None:
            if has_hi_arrays(value):
                raise TypeError(f"{kind} requires results that are arrays; use bm.vjp or bm.jvp")
            for leaf in jax.tree.leaves(value):
                targets.check_output_dtype(jnp.result_type(leaf), kind)

        checked = checked_function(function, targets.has_aux, self.function_name, check_value)
        traced = self.trace(state, arguments, targets=targets, function=checked)
        value_tree, aux_tree = traced.out_tree.children()
        num_values = value_tree.num_leaves
        wrt = targets.inputs(traced, arguments)
        rows = _rows_reverse if kind == "jacrev" else _rows_forward
        results, blocks = rows(traced, arguments, wrt, num_values)

        # One set of targets for each output leaf; then outputs go outside, as in JAX.
        per_output = []
        for output, row in enumerate(blocks):
            of_input = dict(zip(wrt, row, strict=True))
            shape = traced.program.out_avals[output].shape
            block = functools.partial(_block, of_input, shape, traced.program.in_avals)
            per_output.append(targets.assemble(block, traced, arguments))
        jacobian = targets.join(per_output, value_tree)
        value = jax.tree.unflatten(value_tree, results[:num_values])
        aux = put_together(jax.tree.unflatten(aux_tree, results[num_values:]))
        return jacobian, value, aux


class HessianTransform(JacobianTransform):
    """Forward over reverse: the Jacobian of the reverse-mode Jacobian."""

    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.targets.check_arguments(args, "hessian")
        # The inner call keeps value and aux; the outer one carries both as its aux.
        inner = JacobianTransform(self.function, self.targets, "jacrev")
        outer = JacobianTransform(self.function, self.targets.with_aux(), "jacfwd")

        def jacobian(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
            first, value, aux = inner.apply(state, self.function, args, kwargs)
            return jax.tree.map(_with_values, first), (value, aux)

        second, _, (value, aux) = outer.apply(state, jacobian, args, kwargs)
        return self.targets.package(jax.tree.map(_without_values, second), value, aux)


def _with_values(gradient: Any) -> Any:
    """A gradient of dtype float0, which has no values, as booleans, of which there is no other."""
    is_float0 = gradient.dtype == jax.dtypes.float0
    return jnp.zeros(gradient.shape, np.bool_) if is_float0 else gradient


def _without_values(block: Any) -> Any:
    return np.zeros(block.shape, jax.dtypes.float0) if block.dtype == np.bool_ else block


def _block(
    of_input: dict[int, Any], shape: tuple[int, ...], in_avals: Sequence[Any], i: int
) -> Any:
    return of_input[i] if i in of_input else zero_jacobian(shape, in_avals[i])


def _active(traced: TracedFunction, wrt: Sequence[int]) -> tuple[bool, ...]:
    return tuple(i in wrt for i in range(len(traced.program.in_avals)))


def _basis(avals: Sequence[Any]) -> list[jax.Array]:
    """For arrays of these avals: all their elementary vectors, stacked along axis 0."""
    sizes = [int(np.prod(aval.shape)) for aval in avals]
    total, offset, parts = sum(sizes), 0, []
    for aval, size in zip(avals, sizes, strict=True):
        eye = jnp.eye(total, size, k=-offset, dtype=aval.dtype)
        parts.append(eye.reshape(total, *aval.shape))
        offset += size
    return parts


def _rows_reverse(
    traced: TracedFunction, arguments: Arguments, wrt: Sequence[int], num_values: int
) -> tuple[list[Any], list[list[Any]]]:
    program = traced.program
    linearized = program.linearize(_active(traced, wrt))
    # What the function assigns is no residual: variables are read first.
    inputs = traced.inputs(arguments.leaves)
    outputs = traced.bind(linearized.fwd, arguments, origin=Origin.with_residuals)
    num_outputs = len(program.out_avals)
    results = traced.commit(outputs[:num_outputs])
    residuals = linearized.residuals(inputs, outputs)
    values = program.out_avals[:num_values]
    basis = _basis(values)
    size = basis[0].shape[0] if basis else 0
    if not size or not wrt:
        shapes = [program.in_avals[i] for i in wrt]
        return results, [
            [jnp.zeros((*value.shape, *aval.shape), aval.dtype) for aval in shapes]
            for value in values
        ]
    tangent_outputs = [jnp.issubdtype(aval.dtype, jnp.inexact) for aval in program.out_avals]
    nonzero = [i < num_values for i, has in enumerate(tangent_outputs) if has]
    transposed = linearized.lin.transpose((True,) * len(wrt), nonzero)
    batched = transposed.mapped([*[-1] * len(residuals), *[0] * len(basis)], size)
    columns = bind(batched, *residuals, *basis, references=traced.references_in(arguments))
    blocks, offset = [], 0
    for value in values:
        count = int(np.prod(value.shape))
        blocks.append(
            [
                column[offset : offset + count].reshape(*value.shape, *column.shape[1:])
                for column in columns
            ]
        )
        offset += count
    return results, blocks


def _rows_forward(
    traced: TracedFunction, arguments: Arguments, wrt: Sequence[int], num_values: int
) -> tuple[list[Any], list[list[Any]]]:
    # By jvp, not by linearize: loops of unknown length have no linear part to keep.
    program = traced.program
    num_outputs = len(program.out_avals)
    in_avals = [program.in_avals[i] for i in wrt]
    basis = _basis(in_avals)
    size = basis[0].shape[0] if basis else 0
    values = program.out_avals[:num_values]
    if not size:
        return traced.commit(traced.bind(program, arguments)), [
            [jnp.zeros((*value.shape, *aval.shape), value.dtype) for aval in in_avals]
            for value in values
        ]
    tangent = program.jvp(_active(traced, wrt))
    batched = tangent.batch([*[-1] * len(program.in_avals), *[0] * len(basis)], size)
    # Auxiliary results need have no forward mode.
    num_used = num_outputs + sum(map(has_tangent, values))
    batched = batched.selected(tuple(i < num_used for i in range(len(batched.out_avals))))
    outputs = traced.bind(batched, arguments, *basis, origin=Origin.with_derivatives)
    # Primal results do not depend on the basis: all their rows are equal.
    results = traced.commit([output[0] for output in outputs[:num_outputs]])
    blocks = []
    tangents = iter(outputs[num_outputs:])
    for value in values:
        if not has_tangent(value):
            # As in JAX: zeros of the dtype of the output.
            blocks.append(
                [jnp.zeros((*value.shape, *aval.shape), value.dtype) for aval in in_avals]
            )
            continue
        rows, row, offset = next(tangents), [], 0
        for aval in in_avals:
            count = int(np.prod(aval.shape))
            block = jnp.moveaxis(rows[offset : offset + count], 0, -1)
            row.append(block.reshape(*rows.shape[1:], *aval.shape))
            offset += count
        blocks.append(row)
    return results, blocks
