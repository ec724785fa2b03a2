"""What stands for primals that the function returned by `vjp` does not keep."""

import dataclasses
from typing import Any

import jax
from jax._src import api

# For one that it has no use for.
NotNeeded: Any = api.NotNeeded


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _NotSaveable:
    """That of JAX, where it has none."""


# For one that it was told not to keep.
NotSaveable: Any = vars(api).get("NotSaveable", _NotSaveable)
