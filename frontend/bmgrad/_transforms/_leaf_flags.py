"""Flags for the leaves of a tree, given as a tree of bools that begins like it.

The containers of both need not be of one type, as those of JAX need not: for a dict of two arrays
``(True, False)`` will do. So flags can be said, and are said, without users' own containers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax


def flags_of_leaves(prefix: Any, tree: Any, argument: str) -> list[bool]:
    """One flag for each leaf of ``tree``; ``argument`` is what messages call ``prefix``."""
    return list(_flags(prefix, tree, argument))


def _flags(prefix: Any, tree: Any, where: str) -> Iterator[bool]:
    if isinstance(prefix, bool):
        yield from [prefix] * tree.num_leaves
        return
    flattened = jax.tree_util.default_registry.flatten_one_level(prefix)
    if flattened is None:
        raise ValueError(
            f"{where} must be a bool, or a tuple-tree of bools like the primals, got {prefix!r} of "
            f"type {type(prefix).__name__}"
        )
    children = list(flattened[0])
    if tree.node_data() is None:
        raise ValueError(
            f"{where} is a container of {len(children)}, but there the primals have a leaf; give "
            "it a single bool"
        )
    if len(children) != len(tree.children()):
        raise ValueError(
            f"{where} has {len(children)} entries, but there the primals have a container of "
            f"{len(tree.children())}; their number of children must be equal"
        )
    if type(prefix) is dict and tree.node_data()[0] is dict:
        keys = list(tree.node_data()[1])
        if sorted(prefix) != keys:
            raise ValueError(
                f"{where} is a dict with keys {sorted(prefix)}, but there the primals have one "
                f"with keys {keys}"
            )
    for i, (child, subtree) in enumerate(zip(children, tree.children(), strict=True)):
        yield from _flags(child, subtree, f"{where}[{i}]")
