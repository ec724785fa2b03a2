"""What is between a Python function and its results, for users to look at and keep.

In: a program and its calling convention. Out, in the manner of `jax.stages`:
`Traced.lower() -> Lowered.compile() -> Compiled`, with text at each stage and an
executable that can be called and saved.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from bmgrad.runtime import _artifact
from bmgrad.runtime._convention import Convention, Variables
from bmgrad.runtime._jax_internals import ShapedArray
from bmgrad.runtime._module import Stage
from bmgrad.runtime._primitive import check_avals, jitted
from bmgrad.runtime._program import Program


class _Staged:
    def __init__(self, program: Program, convention: Convention, variables: Variables) -> None:
        self._program = program
        self._convention = convention
        self._variables = variables

    @property
    def in_avals(self) -> tuple[ShapedArray, ...]:
        """Shape and dtype of each input: arrays of the arguments, then variables."""
        return self._program.in_avals

    @property
    def out_avals(self) -> tuple[ShapedArray, ...]:
        """Shape and dtype of each output: results, then variables that were assigned."""
        return self._program.out_avals


class Traced(_Staged):
    """A function as it was traced, with its transforms still ops."""

    @property
    def program(self) -> Program:
        """The function in the bm dialect."""
        return self._program

    def as_text(self) -> str:
        """The imported module."""
        return self._program.as_text("bm")

    def lower(self) -> "Lowered":
        """Differentiates, optimises and lowers it to StableHLO."""
        self._program.stablehlo()
        return Lowered(self._program, self._convention, self._variables)


class Lowered(_Staged):
    """A function in StableHLO, and the stages before."""

    def as_text(self, stage: Stage = "stablehlo") -> str:
        """The module at `"bm"`, `"adjoint"`, `"optimized"` or `"stablehlo"`."""
        return self._program.as_text(stage)

    def cost_analysis(self) -> Any:
        """XLA's estimate of floating-point operations and bytes before its own passes."""
        return self._lowered().cost_analysis()

    def compile(self) -> "Compiled":
        """Compiles it for the platform at hand."""
        executable = self._lowered().compile()
        return Compiled(self._program, self._convention, self._variables, executable)

    def _lowered(self) -> jax.stages.Lowered:
        avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in self._program.in_avals]
        lowered: jax.stages.Lowered = jitted(self._program).lower(*avals)
        return lowered


class Compiled(_Staged):
    """A function compiled for fixed shapes; call it like the function itself."""

    def __init__(
        self,
        program: Program,
        convention: Convention,
        variables: Variables,
        executable: jax.stages.Compiled,
    ) -> None:
        super().__init__(program, convention, variables)
        self._executable = executable

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the function on `args` and assigns the variables it writes."""
        program, convention = self._program, self._convention
        inputs = convention.flatten(program.name, args, kwargs)
        inputs.extend(self._variables.read())
        try:
            outputs = self._executable(*inputs)
        except TypeError:
            check_avals(program, [jax.typeof(x) for x in inputs])
            raise
        leaves, written = convention.split(outputs)
        self._variables.write(written)
        return jax.tree.unflatten(convention.out_tree, leaves)

    def as_text(self) -> str:
        """The machine's program as XLA optimised it."""
        return str(self._executable.as_text())

    def cost_analysis(self) -> Any:
        """XLA's count of floating-point operations and bytes of the optimised program."""
        return self._executable.cost_analysis()

    def memory_analysis(self) -> Any:
        """XLA's bytes of arguments, outputs, temporaries and code."""
        return self._executable.memory_analysis()

    def save(self, path: str | Path, platforms: str | Sequence[str] | None = None) -> None:
        """Writes the function and its variables' values to a file that needs no source.

        `platforms` (`"cpu"`, `"gpu"`, `"tpu"`) are those that the file can run on, by
        default the one at hand. See `load`.
        """
        _artifact.save(path, self._program, self._convention, self._variables.read(), platforms)
