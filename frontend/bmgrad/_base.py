"""``Base``: the class of everything that has variables.

In: a user's class with arrays, variables and other nodes as attributes. Out: a name, and the
variables and nodes below it, each under a path. Next: ``_collector.py`` (what is returned),
``_states_io.py`` (files).
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, Union

from bmgrad._array import Array
from bmgrad._collector import ArrayCollector, Collector
from bmgrad._containers import CheckedDict, CheckedList, VarDict, VarList
from bmgrad._naming import claim_name, fresh_name, node_called, release_name
from bmgrad._states_io import read_states, write_states
from bmgrad._tracing_state import current, note_rebind
from bmgrad._variable import TrainVar, Variable

__all__ = ["Base", "NodeDict", "NodeList"]

_MISSING = object()
T = TypeVar("T")


def _restore(node_if_alive: weakref.ref[Base], key: str, old: Any) -> None:
    """Gives an attribute back what it held, if anything."""
    if (node := node_if_alive()) is None:
        return
    if old is _MISSING:
        object.__delattr__(node, key)
    else:
        object.__setattr__(node, key, old)


class Base:
    """A named object with variables and child nodes, both found through its attributes.

    Args:
        name: an identifier that no living node has; by default the class name and a counter,
            ``F0``.

    Raises:
        ValueError: ``name`` is no identifier, or belongs to another node.

    Variables and nodes in plain lists and dicts are not found: hold them in a ``VarList``,
    ``VarDict``, ``NodeList`` or ``NodeDict``, or name them with :meth:`register_implicit_vars` and
    :meth:`register_implicit_nodes`. Attributes named in the class's ``_excluded_vars`` are left
    out.

    Example:
        >>> import bmgrad as bp, bmgrad.math as bm
        >>> class Linear(bp.Base):
        ...     def __init__(self, name=None):
        ...         super().__init__(name)
        ...         self.w = bm.TrainVar(bm.ones((1, 2)))
        ...         self.calls = bm.Variable(0 * bm.ones(1))
        >>> layer = Linear("readout")
        >>> list(layer.vars())
        ['readout.calls', 'readout.w']
        >>> layer.train_vars(method="relative")
        {'w': TrainVar([[1., 1.]], dtype=float32)}
    """

    _excluded_vars: tuple[str, ...] = ()
    _is_node = True  # for holds_lifted, which cannot import this class

    implicit_vars: ArrayCollector
    implicit_nodes: Collector[Base]

    def __init__(self, name: str | None = None) -> None:
        if (context := current()) is not None:
            context.own(self)
        self._name = self.unique_name(name)
        self.implicit_vars = ArrayCollector()
        self.implicit_nodes = Collector()

    # ---- names

    @property
    def name(self) -> str:
        """The name, unique among living nodes."""
        name: str | None = self.__dict__.get("_name")
        if name is None:
            kind = type(self).__name__
            raise AttributeError(
                f"this {kind} has no name yet: call super().__init__() in {kind}.__init__"
            )
        return name

    @name.setter
    def name(self, name: str) -> None:
        old = self.name
        self._name = claim_name(name, self)
        if old != name:
            release_name(old, self)

    def unique_name(self, name: str | None = None, type_: str | None = None) -> str:
        """A name for this node: ``name`` if nobody has it, or a fresh one of the kind ``type_``."""
        if name is None:
            return fresh_name(type_ or type(self).__name__, self)
        return claim_name(name, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.__dict__.get('_name')!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        name = self.__dict__.get("_name")
        if name is not None:
            twin._name = twin.unique_name()  # names are unique: not copied
        for key, value in self.__dict__.items():
            if key == "_name":
                continue
            value = copy.deepcopy(value, memo)
            if isinstance(value, Array) and value._name == f"{name}.{key}":
                value._name = None
            Base.__setattr__(twin, key, value)
        return twin

    def __setstate__(self, state: Any) -> None:
        """What ``pickle`` and ``copy.copy`` make has a new name if another node has that one."""
        if (of_other_base := getattr(super(), "__setstate__", None)) is not None:
            of_other_base(state)
        else:
            state, of_slots = state if isinstance(state, tuple) else (state, {})
            self.__dict__.update(state or {})
            for key, value in of_slots.items():
                object.__setattr__(self, key, value)
        if (name := self.__dict__.get("_name")) is None:
            return
        owner = node_called(name)
        if owner is None or owner is self:
            claim_name(name, self)
            return
        self.__dict__["_name"] = self.unique_name()
        for key, value in self.__dict__.items():
            is_shared = owner.__dict__.get(key) is value  # As by copy.copy.
            if isinstance(value, Array) and value._name == f"{name}.{key}" and not is_shared:
                value._name = f"{self._name}.{key}"

    # ---- attributes

    def __setattr__(self, key: str, value: Any) -> None:
        old = self.__dict__.get(key, _MISSING)
        object.__setattr__(self, key, value)
        if old is not value and old is not _MISSING:
            note_rebind(old)
        if not isinstance(value, (Array, Base)):
            return
        if isinstance(value, Array) and value._name is None:
            value._name = f"{self.__dict__.get('_name') or type(self).__name__}.{key}"
        if old is not value and (context := current()) is not None:
            context.bound(value, self, old, partial(_restore, weakref.ref(self), key, old))

    def __delattr__(self, key: str) -> None:
        old = self.__dict__.get(key)
        object.__delattr__(self, key)
        note_rebind(old)

    # ---- variables

    def register_implicit_vars(self, *variables: Any, **named: Any) -> None:
        """Name variables that are no attributes: variables, and lists and dicts of them.

        A variable without a name is called ``var0``, ``var1``, ....

        Raises:
            TypeError: something is not a Variable.
            ValueError: a name already stands for another variable.
        """
        for item in variables:
            for key, variable in _flatten(item, Variable, "variable"):
                key = key or f"var{len(self.implicit_vars)}"
                if all(own is not variable for own in self.implicit_vars.values()):
                    self._add_implicit_var(key, variable)
        for key, variable in named.items():
            self._add_implicit_var(key, _expect(variable, Variable, "variable"))

    def _add_implicit_var(self, key: str, variable: Variable) -> None:
        self.implicit_vars[key] = variable
        if variable._name is None:
            variable._name = f"{self.name}.{key}"

    def vars(
        self, method: str = "absolute", level: int = -1, include_self: bool = True
    ) -> ArrayCollector:
        """The variables of this node and of the nodes below it.

        Args:
            method: ``'absolute'`` for keys such as ``'F0.a'`` (the name of the node that holds
                it), or ``'relative'`` for the path of attributes from here, ``'a'`` or
                ``'child.a'``.
            level: how many levels below this node to look; -1 for all.
            include_self: whether to take this node's own variables.

        Returns:
            A collector; within a node its keys are in alphabetical order. A variable with two
            names is there twice: see ``unique()``.
        """
        found = ArrayCollector()
        for path, node in self.nodes(method, level, include_self).items():
            for key, variable in node._own_vars():
                found[f"{path}.{key}" if path else key] = variable
        return found

    def train_vars(
        self, method: str = "absolute", level: int = -1, include_self: bool = True
    ) -> ArrayCollector:
        """Those of :meth:`vars` that are instances of ``TrainVar``."""
        return self.vars(method, level, include_self).subset(TrainVar)

    def _own_vars(self) -> Iterator[tuple[str, Variable]]:
        attributes = {k: v for c in reversed(type(self).__mro__) for k, v in c.__dict__.items()}
        attributes |= self.__dict__
        for key in sorted(attributes.keys() - set(self._excluded_vars)):
            value = attributes[key]
            if isinstance(value, Variable):
                yield key, value
            elif isinstance(value, VarList):
                yield from ((f"{key}-{i}", item) for i, item in enumerate(value))
            elif isinstance(value, VarDict):
                yield from ((f"{key}-{k}", value[k]) for k in sorted(value))
        yield from self.implicit_vars.items()  # type: ignore[misc]  # only variables get in

    # ---- nodes

    def register_implicit_nodes(self, *nodes: Any, **named: Any) -> None:
        """Name child nodes that are no attributes: nodes, and lists and dicts of them.

        A node without a name here goes by its own.

        Raises:
            TypeError: something is not a Base.
            ValueError: a name already stands for another node.
        """
        for item in nodes:
            for key, node in _flatten(item, Base, "node"):
                self.implicit_nodes[key or node.name] = node
        for key, node in named.items():
            self.implicit_nodes[key] = _expect(node, Base, "node")

    def nodes(
        self, method: str = "absolute", level: int = -1, include_self: bool = True
    ) -> Collector[Base]:
        """This node and the nodes below it, nearest first; they may refer to each other in circles.

        Args:
            method: ``'absolute'`` for the nodes' names as keys, each node once; ``'relative'`` for
                the path of attributes from here (``''`` is this node), each reference to a node
                once.
            level: how many levels below this node to look; -1 for all.
            include_self: whether to take this node itself.
        """
        if method not in ("absolute", "relative"):
            raise ValueError(f"method must be 'absolute' or 'relative', not {method!r}")
        absolute = method == "absolute"
        found: Collector[Base] = Collector()
        if include_self:
            found[self.name if absolute else ""] = self
        seen: set[Any] = {id(self)}
        front: list[tuple[str, Base]] = [("", self)]
        depth = 0
        while front and depth != level:
            depth += 1
            below: list[tuple[str, Base]] = []
            for path, node in front:
                for key, child in node._children():
                    mark = id(child) if absolute else (id(node), id(child))
                    if mark in seen or (child is self and not include_self):
                        continue
                    seen.add(mark)
                    key = f"{path}.{key}" if path else key
                    found[child.name if absolute else key] = child
                    below.append((key, child))
            front = below
        return found

    def _children(self) -> Iterator[tuple[str, Base]]:
        for key, value in self.__dict__.items():
            if key != "implicit_nodes":
                yield from _nodes_in(key, value)
        yield from self.__dict__.get("implicit_nodes", {}).items()

    # ---- files

    def save_states(
        self, filename: str | os.PathLike[str], variables: Mapping[str, Array] | None = None
    ) -> None:
        """Write the values of variables to a ``.npz``, ``.h5``/``.hdf5`` or ``.mat`` file.

        Args:
            filename: where to; its ending chooses the format. A file there is replaced.
            variables: what to write; by default ``self.vars(method='relative').unique()``, whose
                names do not depend on how many models a program has built before.

        Raises:
            ValueError: the ending is none of these, no variables are there to write, or one has
                the name that another has from here, and would be read as that.
            ModuleNotFoundError: h5py (``.h5``) or scipy (``.mat``) is not installed.

        Example:
            >>> import bmgrad as bp, bmgrad.math as bm
            >>> import tempfile, os
            >>> class F(bp.Base):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.a = bm.TrainVar(bm.ones(2))
            >>> f, g = F(), F()
            >>> f.a += 1
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     f.save_states(os.path.join(folder, "f.npz"))
            ...     g.load_states(os.path.join(folder, "f.npz"))
            >>> g.a
            TrainVar([2., 2.], dtype=float32)
        """
        relative = self.vars(method="relative")
        own = set(map(id, relative.values()))
        if variables is None:
            variables = relative.unique()
        for key, array in variables.items():
            if id(array) in own and relative.get(key, array) is not array:
                raise ValueError(
                    f"'{key}' is the name of another variable from {self!r}, and would be read as "
                    "that; write self.vars(method='relative')"
                )
        write_states(filename, {key: array.value for key, array in variables.items()})

    def load_states(self, filename: str | os.PathLike[str], strict: bool = True) -> None:
        """Give variables the values that :meth:`save_states` wrote.

        Names in the file may be relative (``'layer.w'``) or absolute (``'Linear0.w'``). Nothing
        changes unless the whole file fits.

        Args:
            filename: what to read; its ending says the format.
            strict: whether every variable must be in the file and every name in the file a
                variable. If not, what is only on one side is left alone.

        Raises:
            FileNotFoundError: there is no such file.
            KeyError: ``strict``, and names are missing or unknown.
            ValueError, TypeError: a shape or dtype differs, or the file's ending is unknown.
        """
        targets: dict[str, Array] = {**self.vars(), **self.vars(method="relative")}
        values = read_states(filename, {k: (a.shape, a.dtype) for k, a in targets.items()})
        given = {id(targets[key]) for key in values.keys() & targets.keys()}
        unknown = sorted(values.keys() - targets.keys())
        missing = [
            key
            for key, array in self.vars(method="relative").unique().items()
            if id(array) not in given
        ]
        if strict and (unknown or missing):
            raise KeyError(
                f"{os.fspath(filename)} does not fit {self!r}: missing {missing}, unknown "
                f"{unknown}. Pass strict=False to load what fits."
            )
        known = ArrayCollector({key: targets[key] for key in values.keys() & targets.keys()})
        known.assign({key: values[key] for key in known})


class NodeList(CheckedList[Union[Base, "NodeList", "NodeDict"]]):
    """A list of nodes that ``nodes()`` of the node which holds it finds, with paths
    ``'layers-0'``, ....

    Lists and dicts of nodes may nest.

    Raises:
        TypeError: an item is not a Base.

    Example:
        >>> import bmgrad as bp, bmgrad.math as bm
        >>> class Net(bp.Base):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = bm.NodeList([bp.Base(), bp.Base()])
        >>> list(Net().nodes(method="relative"))
        ['', 'layers-0', 'layers-1']
    """

    def _check(self, item: Any) -> Any:
        return _expect(item, (Base, NodeList, NodeDict), "node")


class NodeDict(CheckedDict[Union[Base, "NodeList", "NodeDict"]]):
    """A dictionary of nodes that ``nodes()`` of the node which holds it finds, with paths
    ``'layers.key'``.

    Raises:
        TypeError: a value is not a Base, or a key not a string.

    Example:
        >>> import bmgrad as bp, bmgrad.math as bm
        >>> class Net(bp.Base):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = bm.NodeDict(hidden=bp.Base())
        >>> list(Net().nodes(method="relative"))
        ['', 'layers.hidden']
    """

    def _check(self, item: Any) -> Any:
        return _expect(item, (Base, NodeList, NodeDict), "node")


def _nodes_in(key: str, value: object) -> Iterator[tuple[str, Base]]:
    if isinstance(value, Base):
        yield key, value
    elif isinstance(value, NodeList):
        for number, item in enumerate(value):
            yield from _nodes_in(f"{key}-{number}", item)
    elif isinstance(value, NodeDict):
        for name, item in value.items():
            yield from _nodes_in(f"{key}.{name}", item)


def _expect(item: Any, kinds: Any, what: str) -> Any:
    if not isinstance(item, kinds):
        raise TypeError(f"a {what} was expected here, not a {type(item).__name__}: {item!r}")
    return item


def _flatten(item: Any, kind: type[T], what: str) -> Iterator[tuple[str | None, T]]:
    """The objects in ``item`` (one, or a list or dict of them), with the names it gives."""
    if isinstance(item, Mapping):
        yield from ((key, _expect(value, kind, what)) for key, value in item.items())
    elif isinstance(item, (list, tuple)):
        yield from ((None, _expect(value, kind, what)) for value in item)
    else:
        yield None, _expect(item, kind, what)
