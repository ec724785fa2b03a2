"""From a user's function to a program: trace it, find what it reads and writes, import it.

In: a Python function and its arguments (values or tracers). Out: a
:class:`TracedFunction`, the program together with the array objects that are its
further inputs and outputs. Next: ``_call.py`` binds it, ``_grad.py`` and its
neighbours derive others from it.
"""

from __future__ import annotations

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
from bmgrad._base import Base
from bmgrad._import import asks_for_values, import_program
from bmgrad._tracing_state import current, tracing
from bmgrad._transforms._held_reference import HeldReference, import_holding, is_of_trace
from bmgrad.runtime import Program, bind
from bmgrad.runtime import _jax_internals as internals
from bmgrad.runtime._origin import Origin


class FunctionTrace:
    """The trace context of one function: arrays it reads become inputs on first sight."""

    def __init__(self, opened: internals.OpenTrace, names: dict[int, str]) -> None:
        self._opened = opened
        self._names = names
        self._outer = current()
        self._values: dict[int, Any] = {}
        self._owned: dict[int, Array] = {}
        self.reads: list[Array] = []
        self.writes: dict[int, Array] = {}

    def read(self, array: Array) -> Any:
        if id(array) in self._owned:
            return array._value
        self._opened.on_read()
        if id(array) not in self._values:
            self._lift(array)
        return self._values[id(array)]

    def write(self, array: Array, value: Any) -> None:
        self._opened.on_write()
        if id(array) in self._owned:
            array._value = value
            return
        if id(array) not in self._values:
            self._lift(array)
        self._values[id(array)] = value
        self.writes[id(array)] = array

    def own(self, array: Array) -> None:
        self._owned[id(array)] = array

    def name_of(self, array: Array) -> str:
        return self._names.get(id(array), f"{type(array).__name__.lower()}{len(self.reads)}")

    def _lift(self, array: Array) -> None:
        name = self.name_of(array)
        value = None
        if self._opened.knows_values:
            value = array._value if self._outer is None else self._outer.read(array)
        self._values[id(array)] = self._opened.lift(aval_of(array._value), name, value)
        self._names[id(array)] = name
        self.reads.append(array)
        array._lifted = True

    def written_values(self) -> list[Any]:
        """The last value of each array written, checked to belong to this trace."""
        values = []
        for key, array in self.writes.items():
            value = self._values[key]
            if isinstance(value, jax.core.Tracer) and not self._opened.owns(value):
                raise jax.errors.UnexpectedTracerError(
                    f"variable {self.name_of(array)} was assigned inside a function that JAX "
                    "traces on its own (the body of jax.lax.scan, while_loop, cond, jax.vmap or "
                    "jax.jit), where the value cannot leave it. Carry the value through that "
                    "function and assign it outside, or use bm.jit, bm.vmap."
                )
            values.append(value)
        return values


@dataclasses.dataclass(frozen=True)
class TracedFunction:
    """A function as a program.

    Inputs of the program: the flat arguments, the values of ``reads``, ``consts``.
    Outputs: the flat results (``out_tree``), the new values of ``writes``. Results of dtype
    float0, which have no values, are no outputs: ``float0`` maps their positions to shapes.
    ``logs`` is what backward rules log, see :class:`Imported`.
    By their names in the program ``references`` has the references that the function closes
    over, and the positions of those among the arguments.
    """

    program: Program
    origin: Origin | None
    consts: tuple[Any, ...]
    references: dict[str, Any]
    reads: tuple[Array | HeldReference, ...]
    writes: tuple[Array | HeldReference, ...]
    out_tree: Any
    float0: dict[int, tuple[int, ...]]
    logs: dict[Any, Any]

    @property
    def arrays(self) -> list[Array]:
        """Those that it reads or writes, but for references."""
        return [array for array in self.reads if isinstance(array, Array)]

    @property
    def first_read(self) -> int:
        return len(self.program.in_avals) - len(self.reads) - len(self.consts)

    @property
    def num_results(self) -> int:
        return len(self.program.out_avals) - len(self.writes)

    @property
    def written_positions(self) -> tuple[int, ...]:
        """Where ``writes`` are among ``reads``."""
        position = {id(array): i for i, array in enumerate(self.reads)}
        return tuple(position[id(array)] for array in self.writes)

    def bind(
        self,
        program: Program,
        arguments: Arguments,
        *more: Any,
        origin: Callable[[Origin, Program], Origin] = lambda origin, _: origin,
    ) -> list[Any]:
        """Run ``program``, made of this one, which takes ``more`` inputs after this one's.

        ``origin`` says what it came from, given what this one did.
        """
        return bind(
            program,
            *self.inputs(arguments.leaves),
            *more,
            references=self.references_in(arguments),
            origin=self.origin and origin(self.origin, program),
        )

    def references_in(self, arguments: Arguments) -> dict[str, Any]:
        """The references of the program, by name, in a call with these arguments."""
        return {
            name: arguments.references[known] if type(known) is int else known
            for name, known in self.references.items()
        }

    def inputs(self, leaves: Sequence[Any]) -> list[Any]:
        """All inputs of the program, given the flat arguments."""
        of_arguments = map(_with_values, leaves)
        return [*of_arguments, *(array.value for array in self.reads), *self.consts]

    def commit(self, outputs: Sequence[Any]) -> list[Any]:
        """Assign what the program wrote, given its outputs; returns the flat results."""
        for array, value in zip(self.writes, outputs[self.num_results :], strict=True):
            array.value = value
        results = list(outputs[: self.num_results])
        for position, shape in self.float0.items():
            results.insert(position, np.zeros(shape, jax.dtypes.float0))
        return results


def _with_values(leaf: Any) -> Any:
    """What a program takes for an argument: of float0, which has no values, as many booleans."""
    is_float0 = getattr(leaf, "dtype", None) == jax.dtypes.float0
    return np.zeros(leaf.shape, np.bool_) if is_float0 else leaf


def _as_given(leaf: Any, tracer: Any) -> Any:
    """What the user's function is given for an argument ``leaf`` that is traced as ``tracer``."""
    is_float0 = getattr(leaf, "dtype", None) == jax.dtypes.float0
    return np.zeros(leaf.shape, jax.dtypes.float0) if is_float0 else tracer


def _is_plain(leaf: Any) -> bool:
    """Whether a leaf is a value, and not something that is traced elsewhere."""
    return internals.has_value(leaf) and not isinstance(leaf, jax.core.Tracer)


def aval_of(value: Any) -> internals.ShapedArray:
    """Shape, dtype and weak type of an array, tracer or Python number."""
    return internals.plain_aval(jax.typeof(value))


def trace_function(
    function: Callable[..., Any],
    arguments: Arguments,
    *,
    name: str,
    owner: object = None,
    lifted: Sequence[Array] = (),
    wrt: Collection[int] = (),
    at_values: bool = False,
    as_given: bool = False,
    flags_as_given: bool = False,
    held: Callable[[Any], bool] = is_of_trace,
    with_logs: bool = False,
) -> TracedFunction:
    """Trace ``function(*args, **kwargs)``.

    Args:
      function: returns a pytree of arrays.
      arguments: its arguments, taken apart.
      name: for messages and IR.
      owner: the object whose variables give the inputs their names.
      lifted: arrays that are inputs whether or not the function reads them, and of which
        a derivative is taken.
      wrt: positions of arguments of which one is taken too.
      at_values: whether Python code in it may ask for values, as in ``if x > 0``. The
        program is then right only where it finds the same ones.
      as_given: whether it gets the arguments of which no derivative is taken as they are.
      flags_as_given: whether it gets those that are booleans or members of enums so.
      held: which references, of those that it closes over or is given, become inputs like
        the arrays that it reads, if they can.
      with_logs: whether what backward rules log is wanted.
    """
    out_tree: Any = None
    context: FunctionTrace | None = None
    written: tuple[Array, ...] = ()
    float0: dict[int, tuple[int, ...]] = {}

    def flat(opened: internals.OpenTrace, *leaves: Any) -> list[Any]:
        nonlocal out_tree, context, written, float0
        context = FunctionTrace(opened, array_names(owner))
        with tracing(context):
            for array in lifted:
                context.read(array)
            given = list(map(_as_given, arguments.leaves, leaves))
            given = [
                leaf
                if i not in wrt
                and ((as_given and _is_plain(leaf)) or (flags_as_given and is_flag(leaf)))
                else x
                for i, (x, leaf) in enumerate(zip(given, arguments.leaves, strict=True))
            ]
            args, kwargs = internals.put_together(arguments.rebuild(given))
            result = internals.taken_apart(function(*args, **kwargs))
            results, out_tree = jax.tree.flatten(result)
            values = context.written_values()
        check_results(results, name)
        written = tuple(context.writes.values())
        float0 = {
            i: x.shape
            for i, x in enumerate(results)
            if getattr(x, "dtype", None) == jax.dtypes.float0
        }
        return [*(x for i, x in enumerate(results) if i not in float0), *values]

    avals = [aval_of(_with_values(leaf)) for leaf in arguments.leaves]
    values = None
    if at_values:
        values = [leaf if internals.has_value(leaf) else None for leaf in arguments.leaves]
    traced = internals.trace(flat, avals, name=name, arg_names=arguments.names, values=values)
    assert context is not None
    # The import traces derivative rules, which read variables as the function did.
    scope = partial(tracing, context)
    is_lifted = set(map(id, lifted))
    differentiated = [i in wrt for i in range(len(avals))]
    differentiated += [id(array) in is_lifted for array in context.reads]
    load = partial(
        import_program,
        name=name,
        scope=scope,
        differentiated=differentiated,
        with_logs=with_logs,
    )
    imported, references, changed = import_holding(traced, held, load)
    given = {id(reference): i for i, reference in enumerate(arguments.references)}
    return TracedFunction(
        program=imported.program,
        origin=imported.origin,
        consts=tuple(imported.consts),
        references={
            name: given.get(id(reference), reference)
            for name, reference in imported.references.items()
        },
        reads=(*context.reads, *references),
        writes=(*written, *changed),
        out_tree=out_tree,
        float0=float0,
        logs=imported.logs,
    )


def trace_at_need(
    function: Callable[..., Any], arguments: Arguments, **keywords: Any
) -> TracedFunction:
    """``trace_function``, at the values of the arguments where the function asks for them."""
    try:
        return trace_function(function, arguments, **keywords)
    except Exception as error:
        if not asks_for_values(error) or not may_have_values(arguments):
            raise
    return trace_function(function, arguments, **keywords, at_values=True)


def may_have_values(arguments: Arguments) -> bool:
    """Whether an argument has a value to decide by, or there are only values closed over."""
    return not arguments.leaves or any(map(internals.has_value, arguments.leaves))


# -- Results ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Aside:
    """A result that is no array: no leaf, and itself again where a tree is put together."""

    value: Any


jax.tree_util.register_pytree_node(_Aside, lambda x: ((), x), lambda x, _: x.value)


def with_asides(tree: Any) -> Any:
    """``tree`` where what is no array is no leaf, as JAX lets it pass in auxiliary results."""
    return jax.tree.map(lambda leaf: leaf if _is_result(leaf) else _Aside(leaf), tree)


def _is_result(leaf: Any) -> bool:
    try:
        is_other = internals.is_reference(leaf) or internals.is_hi_value(leaf)
        return is_other or aval_of(leaf) is not None
    except TypeError:
        return False


def check_results(results: Sequence[Any], name: str) -> None:
    for result in results:
        if internals.is_reference(result):
            raise ValueError(
                f"{name} returned a mutable array reference (jax.new_ref); return what it holds, "
                "as ref[...]"
            )
        try:
            aval_of(result)
        except TypeError:
            raise TypeError(
                f"{name} returned {result!r} of type {type(result).__name__}; results must be "
                "arrays, numbers, or pytrees of them"
            ) from None


# -- Arguments -----------------------------------------------------------------------------------


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
    ) -> Arguments:
        """The arguments of a call; ``function`` names them."""
        args, kwargs = internals.taken_apart((args, kwargs))
        flat, tree = jax.tree.flatten((args, kwargs))
        leaves, references = [], []
        others: list[Hashable] = []
        seen: dict[int, int] = {}

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
            elif flags_are_static and is_flag(leaf):
                others.append(_Flag(type(leaf), leaf))
            elif is_array_like(leaf):
                leaves.append(leaf)
                others.append(_ARRAY)
            else:
                is_hashable = _is_hashable(leaf)
                others.append(leaf if is_hashable else _Unhashable(leaf, partial(name, i)))
        return cls(tuple(leaves), tuple(references), Static(tree, tuple(others)), function)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the leaves are to the user, such as ``x`` or ``params.w``."""
        spelled = _spelled(*self.rebuild(self.leaves), self.function)
        pairs = zip(spelled, self.static.others, strict=True)
        return tuple(name for name, other in pairs if other is _ARRAY)

    def rebuild(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args, kwargs`` with other array leaves."""
        return self.static.rebuild(leaves, self.references)

    @property
    def avals(self) -> tuple[Any, ...]:
        """Those of the leaves, then of the references."""
        return (*map(aval_of, self.leaves), *map(jax.typeof, self.references))

    def map(self, change: Callable[[int, Any], Any]) -> Arguments:
        """The same call with other array leaves: ``change(position, leaf)``."""
        leaves = tuple(change(i, leaf) for i, leaf in enumerate(self.leaves))
        return dataclasses.replace(self, leaves=leaves)

    @property
    def num_positional(self) -> int:
        return len(self.rebuild(self.leaves)[0])

    def positions(self, argnum: int) -> list[int]:
        """Which of ``leaves`` belong to positional argument ``argnum``."""
        args, _ = self.rebuild(range(len(self.leaves)))
        return [leaf for leaf in jax.tree.leaves(args[argnum]) if type(leaf) is int]


@dataclasses.dataclass(frozen=True)
class Static:
    """What a call passes besides arrays: the tree of its arguments and the other leaves."""

    tree: Any
    others: tuple[Hashable, ...]

    @property
    def values(self) -> tuple[Hashable, ...]:
        """The leaves that are no arrays."""
        return tuple(other for _, other in self.positions)

    @property
    def positions(self) -> tuple[tuple[int, Hashable], ...]:
        """The leaves that are no arrays, each with its position among all leaves."""
        return tuple((i, other) for i, other in enumerate(self.others) if type(other) is not _Given)

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
        given = {_ARRAY: iter(leaves), _REFERENCE: itertools.chain(references, missing)}
        merged = [next(given[x]) if type(x) is _Given else x for x in self.others]
        merged = [x.value if isinstance(x, (_Flag, _Unhashable)) else x for x in merged]
        args, kwargs = jax.tree.unflatten(self.tree, merged)
        return args, kwargs


class _Given:
    """Stands for a leaf that is no part of ``Static``."""

    def __repr__(self) -> str:
        return "*"


_ARRAY, _REFERENCE = _Given(), _Given()


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


def is_flag(leaf: Any) -> bool:
    """Whether a leaf has so few values that functions tell them apart, as in ``x is True``."""
    return isinstance(leaf, (bool, enum.Enum))


# Types none of whose instances is a flag or has one in it, as far as they have been met.
PLAIN_TYPES: set[type] = set()


def holds_flags(tree: Any) -> bool:
    """Whether a leaf of ``tree`` is a flag; adds to ``PLAIN_TYPES``."""
    if is_flag(tree):
        return True
    of_libraries = type(tree).__module__.partition(".")[0] in ("bmgrad", "jax", "jaxlib", "numpy")
    if isinstance(tree, Array) or (of_libraries and jax.tree_util.all_leaves([tree])):
        if of_libraries:
            PLAIN_TYPES.add(type(tree))
        return False
    return any(map(is_flag, jax.tree.leaves(tree)))


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


# -- Names ---------------------------------------------------------------------------------------


def array_names(owner: object) -> dict[int, str]:
    """``Linear0.w`` for every array that ``owner`` or a node below it holds, by identity."""
    if not isinstance(owner, Base):
        return {}
    names: dict[int, str] = {}
    for node in owner.nodes().unique().values():
        for key, value in vars(node).items():
            if isinstance(value, Array):
                names.setdefault(id(value), f"{node.name}.{key}")
    for key, value in owner.vars().items():
        names.setdefault(id(value), key)
    return names
