"""Gradients: the body of ``grad``, ``vector_grad`` and ``value_and_grad``.

In: a function and its :class:`Targets`. Out: a :class:`Transform` whose body binds
one program, the ``bm.vjp`` of the function with cotangents of ones.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from bmgrad._transforms._call import State
from bmgrad._transforms._targets import checked_function, zero_gradient
from bmgrad._transforms._transform import TargetsTransform
from bmgrad.runtime._jax_internals import placed_as, put_together, tangents_put_together
from bmgrad.runtime._origin import Origin


class GradTransform(TargetsTransform):
    """Reverse mode with a cotangent of ones for every leaf of the value."""

    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        targets = self.targets
        arguments = self.arguments(args, kwargs)
        targets.check_arguments(args, self.kind)
        function = checked_function(
            self.function, targets.has_aux, self.function_name, self._check_value
        )
        traced = self.trace(state, arguments, targets=targets, function=function)
        value_tree, aux_tree = traced.out_tree.children()
        wrt = targets.inputs(traced, arguments)
        program = traced.program.vjp(wrt, range(value_tree.num_leaves))
        outputs = traced.bind(program, arguments, origin=Origin.with_derivatives)
        num_primal = len(traced.program.out_avals)
        results = traced.commit(outputs[:num_primal])
        inputs = traced.inputs(arguments.leaves)
        of_input = {
            i: placed_as(ct, jax.typeof(inputs[i]))
            for i, ct in zip(wrt, outputs[num_primal:], strict=True)
        }
        of_arrays = targets.assemble(
            lambda i: of_input[i] if i in of_input else zero_gradient(traced.program.in_avals[i]),
            traced,
            arguments,
        )
        gradients = tangents_put_together(of_arrays)
        count = value_tree.num_leaves
        value = put_together(jax.tree.unflatten(value_tree, results[:count]))
        aux = put_together(jax.tree.unflatten(aux_tree, results[count:]))
        if self.kind == "value_and_grad":
            return ((value, aux) if targets.has_aux else value), gradients
        return targets.package(gradients, value, aux)

    def _check_value(self, value: Any) -> None:
        if self.kind != "vector_grad":
            if not jax.tree_util.all_leaves([value]):
                raise TypeError(
                    "Gradient only defined for scalar-output functions. Output was a "
                    f"{type(value).__name__}; pass has_aux=True if it is a pair (loss, aux), or "
                    "use bm.vector_grad or bm.jacobian."
                )
            if (shape := jnp.shape(value)) != ():
                first = " or output[0]" if len(shape) == 1 else ""
                single = f"output.reshape(()){first}, " if jnp.size(value) == 1 else ""
                error = TypeError(
                    f"Gradient only defined for scalar-output functions. Output had shape: {shape}."
                )
                # The message is the tutorial's, to the letter.
                error.add_note(
                    f"Return {single}output.sum() or another scalar, or use bm.vector_grad, which "
                    "is the gradient of the sum, or bm.jacobian."
                )
                raise error
        for leaf in jax.tree.leaves(value):
            self.targets.check_output_dtype(jnp.result_type(leaf), self.kind)
