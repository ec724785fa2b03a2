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
    """Lets files hold pytree nodes of class `node`, under `name`.

    `build` makes one from any children; what JAX keeps of it beside them is lost.
    """
    _names[node] = name
    _builders[name] = build


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
    if issubclass(node, tuple) and hasattr(node, "_fields"):
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
