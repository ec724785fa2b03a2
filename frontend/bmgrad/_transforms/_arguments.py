"""The arguments of a call, taken apart: arrays, references, and everything else.

In: what a user's function is called with. Out: :class:`Arguments`, which tells calls apart and
puts the arguments together again. Next: ``_trace.py`` traces the function with them.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import inspect
import itertools
import types
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from bmgrad._array import Array
from bmgrad._transforms._skeleton import skeleton
from bmgrad._transforms._surroundings import Content, is_plain
from bmgrad.runtime import _jax_internals as internals


def aval_of(value: Any) -> internals.ShapedArray:
    """Shape, dtype and weak type of an array, tracer or Python number."""
    return internals.plain_aval(jax.typeof(value))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments of a call: array leaves, references, and everything else as it is.

    ``static`` is hashable and, together with the avals of ``leaves`` and ``references``,
    identifies the call.
    """

    leaves: tuple[Any, ...]
    references: tuple[Any, ...]
    static: Static
    function: Callable[..., Any] | None = None

    @classmethod
    def of(
        cls,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        function: Callable[..., Any] | None = None,
        *,
        flags_are_static: bool = False,
        differentiated: Collection[int] = (),
        sees_changes: bool = False,
    ) -> Arguments:
        """The arguments of a call; ``function`` names them.

        With ``flags_are_static`` flags are no leaves, nor are numbers that are as good as flags,
        but for those of the ``differentiated`` positional arguments. If it ``sees_changes``, calls
        with an object differ where something else is in it.
        """
        args, kwargs = internals.taken_apart((args, kwargs))
        flat, tree = jax.tree.flatten((args, kwargs))
        leaves, references = [], []
        others: list[Hashable] = []
        seen: dict[int, int] = {}
        in_objects = _in_objects(flat, tree, differentiated) if flags_are_static else ()

        def name(position: int) -> str:
            return _spelled(args, kwargs, function)[position]

        for i, leaf in enumerate(flat):
            if internals.is_reference(leaf):
                first = seen.setdefault(internals.referent_key(leaf), i)
                if first != i:
                    raise ValueError(
                        "only one reference to a mutable array may be passed as an argument to a "
                        f"function, but one and the same was passed as {name(first)} and {name(i)}"
                    )
                references.append(leaf)
                others.append(_REFERENCE)
            elif flags_are_static and (is_flag(leaf) or i in in_objects):
                others.append(_Flag(type(leaf), leaf))
            elif is_array_like(leaf):
                leaves.append(leaf)
                others.append(_ARRAY)
            else:
                is_hashable = _is_hashable(leaf)
                others.append(leaf if is_hashable else _Unhashable(leaf, partial(name, i)))
        static = Static(tree, tuple(others))
        if sees_changes:
            static = static.with_content()
        return cls(tuple(leaves), tuple(references), static, function)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the leaves are to the user, such as ``x`` or ``params.w``."""
        count = len(self.static.others)
        try:
            spelled = _spelled(*self.rebuild(self.leaves), self.function)
        except Exception:  # Constructors of users' containers may refuse what is no array.
            spelled = []
        if len(spelled) != count:
            args, kwargs = skeleton(self.static.tree, range(count))
            spelled = _spelled(args, kwargs, self.function)
        pairs = zip(spelled, self.static.others, strict=True)
        return tuple(name for name, other in pairs if _is_leaf(other))

    def rebuild(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args, kwargs`` with other array leaves."""
        return self.static.rebuild(leaves, self.references)

    @cached_property
    def flags(self) -> frozenset[int]:
        """Which leaves are flags, or numbers that are as good as flags."""
        leaves = iter(self.leaves)
        flat = [next(leaves) if _is_leaf(other) else other for other in self.static.others]
        in_objects = _in_objects(flat, self.static.tree)
        arrays = (i for i, other in enumerate(self.static.others) if _is_leaf(other))
        return frozenset(
            leaf for leaf, i in enumerate(arrays) if is_flag(flat[i]) or i in in_objects
        )

    @property
    def avals(self) -> tuple[Any, ...]:
        """Those of the leaves, then of the references."""
        return (*map(internals.aval_on_mesh, self.leaves), *map(jax.typeof, self.references))

    def map(self, change: Callable[[int, Any], Any]) -> Arguments:
        """The same call with other array leaves: ``change(position, leaf)``."""
        leaves = tuple(change(i, leaf) for i, leaf in enumerate(self.leaves))
        return dataclasses.replace(self, leaves=leaves)

    def holding(self, chosen: Sequence[bool]) -> Arguments:
        """The same call, with what the ``chosen`` ones of its references hold in their place."""
        leaves, references = iter(self.leaves), iter(zip(self.references, chosen, strict=True))
        others, all_leaves, kept = list(self.static.others), [], []
        for i, other in enumerate(others):
            if _is_leaf(other):
                all_leaves.append(next(leaves))
            elif other is _REFERENCE:
                reference, is_chosen = next(references)
                if is_chosen:
                    others[i] = _HELD
                    all_leaves.append(reference[...])
                else:
                    kept.append(reference)
        static = dataclasses.replace(self.static, others=tuple(others))
        return Arguments(tuple(all_leaves), tuple(kept), static, self.function)

    @property
    def num_positional(self) -> int:
        return len(self.static.args.children())

    @cached_property
    def numbers(self) -> list[int | None]:
        """Of all leaves of the call, the position among ``leaves``; None of what is no array."""
        count = itertools.count()
        return [next(count) if is_array else None for is_array in self.static.are_arrays]

    def positions(self, argnum: int) -> list[int]:
        """Which of ``leaves`` belong to positional argument ``argnum``."""
        found = self.numbers[self._slice(argnum)]
        return [position for position in found if position is not None]

    def argument(self, argnum: int, of_leaf: Callable[[int], Any]) -> Any:
        """Positional argument ``argnum`` with other array leaves, given their positions."""
        place = self._slice(argnum)
        pairs = zip(self.numbers[place], self.static.others[place], strict=True)
        leaves = [_value(other) if i is None else of_leaf(i) for i, other in pairs]
        return jax.tree.unflatten(self.static.args.children()[argnum], leaves)

    def _slice(self, argnum: int) -> slice:
        counts = [arg.num_leaves for arg in self.static.args.children()]
        first = sum(counts[:argnum])
        return slice(first, first + counts[argnum])

    def skeleton(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args, kwargs`` like ``rebuild``, without containers of users' types."""
        numbers = zip(self.numbers, self.static.others, strict=True)
        merged = [_value(other) if i is None else leaves[i] for i, other in numbers]
        args, kwargs = skeleton(self.static.tree, merged)
        return args, kwargs


@dataclasses.dataclass(frozen=True)
class Static:
    """What a call passes besides arrays: the tree of its arguments and the other leaves.

    ``content`` is what is in those that are objects: they are equal by what their types say.
    """

    tree: Any
    others: tuple[Hashable, ...]
    content: Content | None = dataclasses.field(default=None, hash=False)

    def with_content(self) -> Static:
        """The same with what is in its objects now."""
        objects = [x for x in self.plain_values if not is_plain(x)]
        content = Content(objects) if objects else None
        return dataclasses.replace(self, content=content) if content else self

    @property
    def args(self) -> Any:
        """The tree of the positional arguments."""
        return self.tree.children()[0]

    @property
    def values(self) -> tuple[Hashable, ...]:
        """The leaves that are no arrays."""
        return tuple(other for _, other in self.positions)

    @property
    def are_arrays(self) -> tuple[bool, ...]:
        """Which of all leaves are array leaves."""
        return tuple(map(_is_leaf, self.others))

    @property
    def are_references(self) -> tuple[bool, ...]:
        """Which are references."""
        return tuple(other is _REFERENCE for other in self.others)

    @property
    def plain_values(self) -> tuple[Any, ...]:
        """The same, as they were passed."""
        return tuple(map(_value, self.values))

    @property
    def positions(self) -> tuple[tuple[int, Hashable], ...]:
        """The leaves that are no arrays, each with its position among all leaves."""
        return tuple((i, other) for i, other in enumerate(self.others) if type(other) is not _Given)

    @property
    def plain_positions(self) -> tuple[tuple[int, Any], ...]:
        """The same, as they were passed."""
        return tuple((i, _value(other)) for i, other in self.positions)

    def with_references(self, args: Any, kwargs: Any) -> tuple[Any, Any, list[Any]]:
        """Arguments with references, new ones, to what is in the place of some; also these."""
        leaves, tree = jax.tree.flatten(internals.taken_apart((args, kwargs)))
        references = []
        for i, other in enumerate(self.others):
            if other is _HELD:
                leaves[i] = jax.new_ref(leaves[i])
                references.append(leaves[i])
        args, kwargs = internals.put_together(jax.tree.unflatten(tree, leaves))
        return args, kwargs, references

    @property
    def is_hashable(self) -> bool:
        """Whether an equal call may come. One with what cannot be hashed is equal to no other."""
        return not any(type(other) is _Unhashable for other in self.others)

    def check_hashable(self) -> None:
        """Raises TypeError where it is not hashable, and cannot be a part of what is compiled."""
        for other in self.others:
            if isinstance(other, _Unhashable):
                raise TypeError(
                    f"argument {other.name()} is a "
                    f"{_kind(other.value)}, which is neither an array nor hashable, so it can be "
                    "no part of a compiled program; pass arrays, numbers, pytrees of them, or "
                    "hashable objects"
                )

    def rebuild(
        self, leaves: Sequence[Any], references: Sequence[Any] = ()
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args, kwargs`` with these leaves; None for references that are not given."""
        missing = itertools.repeat(None)
        arrays = iter(leaves)
        given = {
            _ARRAY: arrays,
            _HELD: arrays,
            _REFERENCE: itertools.chain(references, missing),
        }
        merged = [next(given[x]) if type(x) is _Given else x for x in self.others]
        merged = list(map(_value, merged))
        args, kwargs = jax.tree.unflatten(self.tree, merged)
        return args, kwargs


class _Given:
    """Stands for a leaf that is no part of ``Static``."""

    def __repr__(self) -> str:
        return "*"


# An array, a reference, and what a reference held.
_ARRAY, _REFERENCE, _HELD = _Given(), _Given(), _Given()


def _is_leaf(other: Any) -> bool:
    return other is _ARRAY or other is _HELD


@dataclasses.dataclass(frozen=True)
class _Flag:
    """A leaf that equals one of another type, as ``True`` equals 1, and is not the same."""

    type: type
    value: Hashable


@dataclasses.dataclass(frozen=True, eq=False)
class _Unhashable:
    """A leaf that is no array and cannot be compared with that of another call."""

    value: Any
    name: Callable[[], str]


def _value(other: Any) -> Any:
    """What was passed, given what ``Static`` has of it; None of a reference."""
    if isinstance(other, (_Flag, _Unhashable)):
        return other.value
    return None if type(other) is _Given else other


def is_flag(leaf: Any) -> bool:
    """Whether a leaf has so few values that functions tell them apart, as in ``x is True``."""
    return isinstance(leaf, (bool, enum.Enum))


_CONTAINERS = (tuple, list, dict, collections.deque, type(None))
_NUMBERS = (int, float, complex)


def _in_objects(flat: Sequence[Any], tree: Any, left_out: Collection[int] = ()) -> set[int]:
    """Which of the leaves of ``args, kwargs`` are numbers in objects of users' types.

    Modules have them: what a function asks of them is what they are, not what may come of them.
    Those of the positional arguments that are ``left_out`` do not count.
    """
    if not any(type(leaf) in _NUMBERS for leaf in flat):
        return set()
    found: set[int] = set()

    def look(node: Any, first: int, is_inside: bool) -> None:
        if node.node_data() is None:
            if is_inside and type(flat[first]) in _NUMBERS:
                found.add(first)
            return
        is_inside |= not issubclass(node.node_data()[0], _CONTAINERS)
        for child in node.children():
            look(child, first, is_inside)
            first += child.num_leaves

    args, kwargs = tree.children()
    first = 0
    for position, arg in enumerate(args.children()):
        if position not in left_out:
            look(arg, first, False)
        first += arg.num_leaves
    look(kwargs, first, False)
    return found


# Types none of whose instances is a flag or has one in it, as far as they have been met.
PLAIN_TYPES: set[type] = set()


def holds_flags(tree: Any) -> bool:
    """Whether a leaf of ``tree`` is a flag or as good as one; adds to ``PLAIN_TYPES``."""
    if is_flag(tree):
        return True
    of_libraries = type(tree).__module__.partition(".")[0] in ("bmgrad", "jax", "jaxlib", "numpy")
    if isinstance(tree, Array) or (of_libraries and jax.tree_util.all_leaves([tree])):
        if of_libraries:
            PLAIN_TYPES.add(type(tree))
        return False
    flat, structure = jax.tree.flatten(((tree,), {}))
    return any(map(is_flag, flat)) or bool(_in_objects(flat, structure))


def plain(tree: Any) -> Any:
    """The tree with ``bm.Array`` nodes replaced by their values: they are one kind of leaf."""
    return jax.tree.map(
        lambda x: x.value if isinstance(x, Array) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Array),
    )


def is_array_like(leaf: Any) -> bool:
    """Whether a leaf is traced; strings, functions and other objects are static."""
    if isinstance(leaf, int):
        # JAX has no array of a larger one.
        limits = np.iinfo(np.int64 if jax.config.read("jax_enable_x64") else np.int32)
        return limits.min <= leaf <= limits.max
    if isinstance(leaf, (float, complex)):
        return True
    if isinstance(leaf, (type, types.ModuleType)):
        return False  # They may have the attributes of arrays.
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return False
    return getattr(dtype, "kind", None) not in ("O", "S", "U", "M", "m")


def _is_hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"NumPy array of dtype {value.dtype}"
    return type(value).__name__


def parameter_names(function: Callable[..., Any]) -> tuple[str, ...]:
    """What the function calls its positional arguments; nothing of functions that do not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in positional)


def _spelled(
    args: tuple[Any, ...], kwargs: dict[str, Any], function: Callable[..., Any] | None
) -> list[str]:
    """The names of all leaves of a call's arguments."""
    parameters = parameter_names(function) if function else ()
    paths, _ = jax.tree_util.tree_flatten_with_path((args, kwargs))
    return [_spell(path, parameters) for path, _ in paths]


def _spell(path: Any, parameters: Sequence[str]) -> str:
    """``x`` for an argument, ``x.w`` for its leaf ``w``; ``arg2`` where it has no name."""
    (_, top, *rest) = path
    if rest and rest[-1] == jax.tree_util.GetAttrKey("value"):
        rest.pop()  # A bm.Array, whose name is that of its value.
    if isinstance(top, jax.tree_util.SequenceKey):
        name = parameters[top.idx] if top.idx < len(parameters) else f"arg{top.idx}"
    else:
        name = str(top.key)
    inner = jax.tree_util.keystr(tuple(rest), simple=True, separator=".")
    return f"{name}.{inner}" if inner else name
