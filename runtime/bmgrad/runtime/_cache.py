"""What has been compiled already: a key that is a list of named parts, and the cache.

In: a `CacheKey` and a function that compiles. Out: what was compiled for an equal
key before, or now. Every part of a key changes what is compiled; the tests show it
for each.
"""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import jax

from bmgrad.runtime._jax_internals import ShapedArray

T = TypeVar("T")

# JAX's settings that change what the same function is traced to.
_JAX_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)


def jax_settings() -> tuple[tuple[str, Any], ...]:
    """The values now of those of JAX's settings that change what is traced."""
    config: Any = jax.config
    return tuple((name, getattr(config, name)) for name in _JAX_SETTINGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheKey:
    """What a compiled function depends on.

    Attributes:
      function: the function that the user wrote.
      transform: what is made of it: `grad`, `jacrev`, `jit`, ...
      grad_vars: identities and names of the variables to differentiate by, or None.
      argnums: the arguments to differentiate by, or None.
      options: all other keywords, by name: `has_aux`, `return_value`, ...
      in_avals: shape, dtype and weak type of each array in the arguments.
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
    """How a cache has done: `entries` are its keys, least recently used first."""

    hits: int
    misses: int
    size: int
    maxsize: int
    entries: tuple[CacheKey, ...]


class Cache(Generic[T]):
    """The last `maxsize` things compiled, by key. May be used from many threads."""

    def __init__(self, maxsize: int = 256) -> None:
        self._maxsize = maxsize
        self._lock = threading.Lock()
        self._entries: OrderedDict[CacheKey, T] = OrderedDict()
        self._hits = self._misses = 0

    def get(self, key: CacheKey, compile: Callable[[], T]) -> T:
        """What is cached for `key`; `compile()` makes it where nothing is.

        Threads that miss at the same time compile each for itself, and all get what
        the first one made.
        """
        with self._lock:
            if key in self._entries:
                self._hits += 1
                self._entries.move_to_end(key)
                return self._entries[key]
            self._misses += 1
        # Not under the lock: compiling may call other cached functions.
        made = compile()
        with self._lock:
            kept = self._entries.setdefault(key, made)
            while len(self._entries) > self._maxsize:
                self._entries.popitem(last=False)
            return kept

    def info(self) -> CacheInfo:
        """Hits, misses and the keys cached now."""
        with self._lock:
            entries = tuple(self._entries)
            return CacheInfo(self._hits, self._misses, len(entries), self._maxsize, entries)

    def clear(self) -> None:
        """Forgets everything, the counts too."""
        with self._lock:
            self._entries.clear()
            self._hits = self._misses = 0
