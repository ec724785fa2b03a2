"""What a program came from, for transforms of JAX that look into functions.

An equation of `bmgrad_program` says it beside its program, and so keeps it alive just as long as
JAX keeps the function itself. A program, which equal functions share, could not.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from bmgrad.runtime import _jax_internals
from bmgrad.runtime._program import Program


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Origin:
    """The function that a program is of, or that it is a derivative of.

    Attributes:
      evaluate: the function as operations of JAX. It takes the first inputs of the program.
      num_inputs: how many.
      is_derivative: for each output of the program whether it is a (co)tangent.
      rules_check: whether a derivative rule has a `checkify.check` that the function has not.
    """

    evaluate: Callable[..., Sequence[Any]]
    num_inputs: int
    is_derivative: tuple[bool, ...]
    rules_check: bool = False

    @classmethod
    def linear(cls, program: Program) -> "Origin":
        """Of a linear part: nothing but derivatives is computed in it."""
        return cls(lambda: (), 0, (True,) * len(program.out_avals), rules_check=True)

    # To JAX, equations of one program are equal: what they compute is.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Origin()"

    def with_derivatives(self, program: Program) -> "Origin":
        """Of `program`, whose further outputs are derivatives."""
        return self._with_outputs(program, True)

    def with_residuals(self, program: Program) -> "Origin":
        """Of `program`, whose further outputs are residuals."""
        return self._with_outputs(program, False)

    def _with_outputs(self, program: Program, are_derivatives: bool) -> "Origin":
        further = len(program.out_avals) - len(self.is_derivative)
        flags = (*self.is_derivative, *[are_derivatives] * further)
        return dataclasses.replace(self, is_derivative=flags)

    def batch(self, in_axes: Sequence[int], size: int, axis_name: Hashable = None) -> "Origin":
        """Of the program over a batch; see `Program.batch`."""
        axes = tuple(None if axis < 0 else axis for axis in in_axes[: self.num_inputs])
        if axis_name is None and all(axis is None for axis in axes):
            return self
        evaluate = jax.vmap(self.evaluate, axes, axis_name=axis_name, axis_size=size)
        return dataclasses.replace(self, evaluate=evaluate)

    def pruned(self, program: Program, used: Sequence[bool], kept: Sequence[bool]) -> "Origin":
        """Of `program` without the outputs that are not `used` and the inputs not `kept`.

        What is computed from other inputs is computed no more.
        """
        flags = tuple(f for f, is_used in zip(self.is_derivative, used, strict=True) if is_used)
        pruned = dataclasses.replace(self, is_derivative=flags)
        known = tuple(kept[: self.num_inputs])
        if all(known):
            return pruned
        avals = program.in_avals[: self.num_inputs]

        def evaluate(*args: Any) -> Sequence[Any]:
            return _jax_internals.evaluate_known(self.evaluate, avals, known, args)

        return dataclasses.replace(pruned, evaluate=evaluate, num_inputs=sum(known))


_jax_internals.hold_weakly(Origin)
