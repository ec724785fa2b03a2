"""Names of axes, and the collectives that no `bm.batch` has turned into plain ops.

In: a name, which may be any hashable object. Out: the word that stands for it in IR. In: the
attributes of a collective op. Out: its result by JAX's own, which devices that work together
(`jax.shard_map`) have a lowering of.
"""

import functools
import re
import threading
from collections.abc import Callable, Hashable
from typing import Any

import jax

from bmgrad.runtime._jax_internals import named_axes

_lock = threading.Lock()
_words: dict[Hashable, str] = {}
_names: dict[str, Hashable] = {}


def word_of(name: Hashable) -> str:
    """What the axis is called in IR: its name, if it is a word that no other has."""
    with _lock:
        if name not in _words:
            plain = re.sub(r"\W", "_", str(name)) or "_"
            word, tried = plain, 0
            while word in _names:
                tried += 1
                word = f"{plain}_{tried}"
            _words[name], _names[word] = word, name
        return _words[name]


def _over(collective: Callable[..., Any], *operands: Any, axis: str, **how: Any) -> Any:
    name = _names[axis]
    if name not in dict(named_axes()):
        raise NameError(
            f"a bmgrad program works over the axis {name!r}, which is not bound where it runs: "
            "map it over an axis of this name (jax.vmap, bm.vmap, jax.shard_map)"
        )
    return collective(*operands, axis_name=name, **how)


def _ppermute(x: Any, axis_name: Any, *, sources: list[int], destinations: list[int]) -> Any:
    return jax.lax.ppermute(x, axis_name, list(zip(sources, destinations, strict=True)))


def _all_gather(x: Any, axis_name: Any, *, dimension: int) -> Any:
    return jax.lax.all_gather(x, axis_name, axis=dimension)


def _reduce_scatter(x: Any, axis_name: Any, *, dimension: int) -> Any:
    return jax.lax.psum_scatter(x, axis_name, scatter_dimension=dimension)


def _all_to_all(x: Any, axis_name: Any, *, dimension: int) -> Any:
    return jax.lax.all_to_all(x, axis_name, split_axis=dimension, concat_axis=dimension)


_COLLECTIVES: dict[str, Callable[..., Any]] = {
    "all_gather": _all_gather,
    "all_to_all": _all_to_all,
    "axis_index": jax.lax.axis_index,
    "pbroadcast": jax.lax.pbroadcast,
    "pmax": jax.lax.pmax,
    "pmin": jax.lax.pmin,
    "ppermute": _ppermute,
    "psum": jax.lax.psum,
    "reduce_scatter": _reduce_scatter,
}

# By the name of the op, as functions of its operands and, by keyword, its attributes.
KERNELS: dict[str, Callable[..., Any]] = {
    name: functools.partial(_over, collective) for name, collective in _COLLECTIVES.items()
}
