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
