"""How a call of a user's function becomes flat arrays for a program, and back.

In: positional and keyword arguments. Out: the arrays among their leaves, in order;
after them a program takes the values of the variables it reads. Its outputs are the
leaves of what the function returns, then new values of the variables it wrote.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax

from bmgrad.runtime import _trees


class Variables(Protocol):
    """Access to the variables of a compiled function, in the order of `variable_names`."""

    def read(self) -> Sequence[jax.Array]:
        """The values now of all variables that the function reads or writes."""
        ...

    def write(self, values: Sequence[jax.Array]) -> None:
        """Assigns new values to the `written` variables."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """The calling convention of one compiled function.

    Attributes:
      in_tree: the structure of `(args, kwargs)`, static leaves included.
      statics: the leaves that are not arrays but part of what was compiled.
      out_tree: the structure of the returned value.
      variable_names: of the variables, in the order of the program's inputs.
      written: which of them are assigned, in the order of the program's outputs.
    """

    in_tree: jax.tree_util.PyTreeDef
    statics: tuple[tuple[int, Any], ...]
    out_tree: jax.tree_util.PyTreeDef
    variable_names: tuple[str, ...]
    written: tuple[int, ...]

    def flatten(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arrays among the arguments of a call of function `name`, in `bm.Array`s or not."""
        leaves, tree = jax.tree.flatten((tuple(args), dict(kwargs)))
        if tree != self.in_tree and not _trees.are_alike(tree, self.in_tree):
            raise TypeError(
                f"{name} was compiled for arguments of the structure {self.in_tree}, "
                f"but was called with {tree}"
            )
        return self.without_statics(name, leaves)

    def without_statics(self, name: str, leaves: list[Any]) -> list[Any]:
        """`leaves` of all arguments without the static ones, which must be as compiled."""
        for position, value in reversed(self.statics):
            given = leaves.pop(position)
            if type(given) is not type(value) or given != value:
                raise TypeError(
                    f"{name} was compiled for the value {value!r} of a static argument, "
                    f"but was called with {given!r}"
                )
        return leaves

    def split(self, results: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Leaves of the returned value, and new values of the written variables."""
        count = self.out_tree.num_leaves
        return results[:count], results[count:]
