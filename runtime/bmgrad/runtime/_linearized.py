"""Both halves of a derivative: what is computed at a point, and what is linear there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bmgrad.runtime._program import LinearProgram, Program


class Linearized(NamedTuple):
    """`fwd(x...) -> (y..., made...)` and `lin(residuals..., dx...) -> dy...`.

    Residuals that are inputs or results are not returned once more, which would copy them:
    `sources` says for each residual which it is, counting inputs first; None for those made.
    """

    fwd: "Program"
    lin: "LinearProgram"
    sources: tuple[int | None, ...]

    def residuals(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """What `lin` takes, from what `fwd` takes and returns."""
        num_made = self.sources.count(None)
        known = [*inputs, *outputs[: len(outputs) - num_made]]
        made = iter(outputs[len(outputs) - num_made :])
        return [next(made) if i is None else known[i] for i in self.sources]

    def depends_on(self, inputs: Sequence[bool]) -> bool:
        """Whether `lin` is another one where the marked inputs have other values."""
        count, num_made = len(inputs), self.sources.count(None)
        known = [i for i in self.sources if i is not None]
        kept = [i + count in known for i in range(len(self.fwd.out_avals) - num_made)]
        unused = self.fwd.selected((*kept, *[True] * num_made)).unused_inputs()
        return any(flag and (i in known or i not in unused) for i, flag in enumerate(inputs))
