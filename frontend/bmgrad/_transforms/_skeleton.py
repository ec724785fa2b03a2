"""Trees without users' own containers, whose constructors may ask what the leaves are.

In: the structure of a tree, and something for each leaf, such as its position. Out: those in
containers like the tree's, tuples in place of users' own, for code that goes through trees.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax

from bmgrad._array import Array
from bmgrad.runtime._jax_internals import is_hi_node


def mirrored(tree: Any, leaves: Iterable[Any]) -> Any:
    """``leaves`` in containers like those of ``tree``."""
    return _mirrored(tree, iter(leaves), keeps_hi=False)


def skeleton(tree: Any, leaves: Iterable[Any]) -> Any:
    """The like, where what stands for a value of a user's type (hijax) is as in ``tree``."""
    return _mirrored(tree, iter(leaves), keeps_hi=True)


def _mirrored(tree: Any, leaves: Iterator[Any], *, keeps_hi: bool) -> Any:
    if tree.node_data() is None:
        return next(leaves)
    kind, keys = tree.node_data()
    if keeps_hi and is_hi_node(kind):
        return jax.tree.unflatten(tree, itertools.islice(leaves, tree.num_leaves))
    children = [_mirrored(child, leaves, keeps_hi=keeps_hi) for child in tree.children()]
    if kind is type(None):
        return None
    if issubclass(kind, Array):
        return children[0]
    if kind is dict:
        return dict(zip(keys, children, strict=True))
    return children if kind is list else tuple(children)
