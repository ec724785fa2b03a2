"""What has been compiled already: a key that is a list of named parts, and the counts.

Calls find executables through JAX's own C++ cache. A `CacheKey` is the account of one
entry there: every part of it changes what is compiled, and the tests show it for each.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax

from bmgrad.runtime._jax_internals import ShapedArray, named_axes, settings_of_traces


def jax_settings() -> tuple[tuple[str, Any], ...]:
    """The values now of those of JAX's settings that change what is traced.

    Those that JAX keys its jit by, and the kind of keys that are made where none is named. Among
    them the named axes, whose sizes a function may ask for.
    """
    config: Any = jax.config
    name = "jax_default_prng_impl"
    return (*settings_of_traces(), (name, getattr(config, name)), ("named_axes", named_axes()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheKey:
    """What a compiled function depends on.

    Attributes:
      function: the name of the function that the user wrote.
      transform: what is made of it: `grad`, `jacrev`, `jit`, ...
      grad_vars: names of the variables to differentiate by, or None.
      argnums: the arguments to differentiate by, or None.
      options: all other keywords, by name: `has_aux`, `return_value`, ...
      in_avals: shape, dtype and weak type of each array in the arguments, then of references.
      in_tree: how the arguments nest.
      static_values: arguments that are not arrays, by position.
      platform: `cpu`, `gpu` or `tpu`.
      versions: of bmgrad, jax and jaxlib.
      pass_options: options of the compiler passes.
      jax_settings: see `jax_settings`.
    """

    function: Hashable
    transform: str
    grad_vars: Hashable
    argnums: Hashable
    options: tuple[tuple[str, Hashable], ...]
    in_avals: tuple[ShapedArray, ...]
    in_tree: Hashable
    static_values: tuple[tuple[int, Hashable], ...]
    platform: str
    versions: tuple[tuple[str, str], ...]
    pass_options: tuple[tuple[str, str], ...]
    jax_settings: tuple[tuple[str, Hashable], ...]

    def differing(self, other: "CacheKey") -> tuple[str, ...]:
        """Names of the parts in which two keys differ."""
        names = (field.name for field in dataclasses.fields(self))
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


class CacheInfo(NamedTuple):
    """How often calls found what they need compiled: `entries` are the keys, oldest first."""

    hits: int
    misses: int
    size: int
    entries: tuple[CacheKey, ...]
