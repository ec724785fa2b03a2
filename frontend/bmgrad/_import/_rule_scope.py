"""What derivative rules are traced in: the scope of the program, and named axes.

In: what was bound when the program was traced. Out: a context that binds it again, now or when
a rule that was put off is needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import jax

from bmgrad.runtime._jax_internals import (
    explicit_mesh,
    inside_shard_map,
    named_axes,
    on_mesh,
    with_axes,
)


@dataclasses.dataclass(frozen=True)
class RuleScope:
    """Enters what derivative rules are traced in, as it was when their program was traced.

    `lone_axes` are those of a mesh of one device: nothing lies along them but the one element.
    """

    scope: Callable[[], AbstractContextManager[Any]] = nullcontext
    axes: Sequence[tuple[Hashable, int]] = dataclasses.field(default_factory=named_axes)
    lone_axes: frozenset[Hashable] = frozenset()
    mesh: jax.sharding.AbstractMesh | None = dataclasses.field(default_factory=explicit_mesh)
    x64: bool = dataclasses.field(default_factory=lambda: bool(jax.config.read("jax_enable_x64")))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with (
            on_mesh(self.mesh),
            self.scope(),
            with_axes(self.axes),
            jax.enable_x64(self.x64),
        ):
            yield

    def on_one_device(self, params: Mapping[str, Any]) -> RuleScope:
        """The scope inside the `jax.shard_map` with these parameters, over a mesh of one device."""

        @contextmanager
        def inside() -> Iterator[None]:
            with self.scope(), inside_shard_map(params):
                yield

        lone = self.lone_axes.union(params["mesh"].axis_names)
        return dataclasses.replace(self, scope=inside, lone_axes=lone)
