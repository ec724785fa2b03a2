"""Names of nodes: unique among the nodes that are alive.

In: a class name or an explicit name. Out: the name, entered in the register, which holds nodes
weakly: the name of a node that is gone is free again.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["claim_name", "clear_name_cache", "fresh_name", "node_called", "release_name"]

_nodes: WeakValueDictionary[str, Any] = WeakValueDictionary()
_counters: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
_lock = threading.Lock()


def fresh_name(kind: str, node: object) -> str:
    """The next free name of this kind (``F0``, ``F1``, ...), now that of ``node``."""
    with _lock:
        for number in _counters[kind]:
            name = f"{kind}{number}"
            if name not in _nodes:
                _nodes[name] = node
                return name
    raise AssertionError("unreachable: the counter has no end")


def claim_name(name: str, node: object) -> str:
    """``name``, now that of ``node``; ValueError if it is no identifier or another node has it."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a node's name must be a Python identifier, not {name!r}")
    with _lock:
        if _nodes.setdefault(name, node) is not node:
            raise ValueError(
                f"the name '{name}' belongs to another {type(_nodes[name]).__name__}. Choose "
                "another, or call bmgrad.clear_name_cache() before you build a new set of models."
            )
    return name


def node_called(name: str) -> Any:
    """The living node that has this name, or None."""
    with _lock:
        return _nodes.get(name)


def release_name(name: str, node: object) -> None:
    """Free ``name`` if it is that of ``node``."""
    with _lock:
        if _nodes.get(name) is node:
            del _nodes[name]


def clear_name_cache() -> None:
    """Forget all names: counters start from 0 again, and every name is free.

    Example:
        >>> import bmgrad as bp
        >>> bp.clear_name_cache()
        >>> bp.Base().name
        'Base0'
    """
    with _lock:
        _nodes.clear()
        _counters.clear()
