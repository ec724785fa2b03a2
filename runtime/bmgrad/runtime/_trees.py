"""Pytree structures as JSON, so that a file can hold them without a pickle.

In: a `PyTreeDef`. Out: plain dicts and lists, such as
`{"kind": "tuple", "children": ["leaf", {"kind": "none"}]}`, and back.
Dicts, lists, tuples, named tuples, None, and the types given to `register_node`.
"""

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax

Json: TypeAlias = Any
LEAF = "leaf"

_names: dict[type, str] = {}
_builders: dict[str, Callable[[Sequence[Any]], Any]] = {}


def register_node(node: type, name: str, build: Callable[[Sequence[Any]], Any]) -> None:
    """Lets files hold pytree nodes of class `node`, each around one array, under `name`.

    `build` makes one from any child; what JAX keeps of it beside that is lost.
    """
    _names[node] = name
    _builders[name] = build


def are_alike(tree: jax.tree_util.PyTreeDef, other: jax.tree_util.PyTreeDef) -> bool:
    """Whether the two differ at most in nodes around arrays and in classes of named tuples."""
    outermost, of_other = _outermost(tree), _outermost(other)
    if outermost is None or of_other is None:
        return outermost is of_other
    children, of_other_children = tree.children(), other.children()
    return (
        outermost == of_other
        and len(children) == len(of_other_children)
        and all(map(are_alike, children, of_other_children))
    )


def _outermost(tree: jax.tree_util.PyTreeDef) -> Any:
    """What is told apart of the outermost node; None for an array."""
    described = tree.node_data()
    if described is None or described[0] in _names:
        return None
    node, _ = described
    return (node.__name__, node._fields) if _is_named_tuple(node) else described


def _is_named_tuple(node: type) -> bool:
    return issubclass(node, tuple) and hasattr(node, "_fields")


def encode(tree: jax.tree_util.PyTreeDef) -> Json:
    """`tree` as JSON. Raises TypeError for a kind of node that files cannot hold."""
    described = tree.node_data()
    if described is None:
        return LEAF
    node, data = described
    children = [encode(child) for child in tree.children()]
    if node is type(None):
        return {"kind": "none"}
    if node is dict:
        for key in data:
            if not isinstance(key, (str, int, bool)):
                raise TypeError(f"cannot save a dict with the key {key!r}: use strings or ints")
        return {"kind": "dict", "keys": list(data), "children": children}
    if node is list or node is tuple:
        return {"kind": node.__name__, "children": children}
    if _is_named_tuple(node):
        fields = list(node._fields)
        return {
            "kind": "namedtuple",
            "name": node.__name__,
            "fields": fields,
            "children": children,
        }
    if node in _names:
        return {"kind": _names[node], "children": children}
    raise TypeError(
        f"cannot save arguments or results of type {node.__module__}.{node.__qualname__}: "
        "a file holds dicts, lists, tuples, named tuples, None and bmgrad arrays"
    )


def decode(encoded: Json) -> jax.tree_util.PyTreeDef:
    """The structure that `encode` described.

    A named tuple becomes one of a new class with the same name and fields: its own
    class is in source that the reader of a file need not have.
    """
    return jax.tree.structure(_placeholder(encoded))


def _placeholder(encoded: Json) -> Any:
    if encoded == LEAF:
        return 0
    kind = encoded["kind"]
    if kind == "none":
        return None
    children = [_placeholder(child) for child in encoded["children"]]
    if kind == "dict":
        return dict(zip(encoded["keys"], children, strict=True))
    if kind == "list":
        return children
    if kind == "tuple":
        return tuple(children)
    if kind == "namedtuple":
        return namedtuple(encoded["name"], encoded["fields"])(*children)
    if kind not in _builders:
        raise ValueError(f"this file holds values of type {kind}, which this bmgrad does not know")
    return _builders[kind](children)
