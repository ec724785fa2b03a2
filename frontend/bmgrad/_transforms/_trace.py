"""From a user's function to a program: trace it, find what it reads and writes, import it.

In: a Python function and its arguments (values or tracers). Out: a
:class:`TracedFunction`, the program together with the array objects that are its
further inputs and outputs. Next: ``_call.py`` binds it, ``_grad.py`` and its
neighbours derive others from it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, TypeGuard

import jax
import numpy as np

from bmgrad._array import Array
from bmgrad._array_checks import left_behind, note_left_behind
from bmgrad._base import Base
from bmgrad._import import ValuesAsked, asks_for_values, import_program
from bmgrad._tracing_state import TraceContext, current, tracing
from bmgrad._transforms._arguments import Arguments, aval_of
from bmgrad._transforms._held_reference import HeldReference, import_holding, is_of_trace
from bmgrad._transforms._made import OF_EACH_CALL, OF_ELEMENTS, OF_INNER, Made, MadeBefore
from bmgrad._variable import Variable
from bmgrad.runtime import Program, bind
from bmgrad.runtime import _jax_internals as internals
from bmgrad.runtime._origin import Origin


class FunctionTrace:
    """The trace context of one function: arrays it reads become inputs on first sight."""

    def __init__(
        self,
        opened: internals.OpenTrace,
        names: dict[int, str],
        as_given: bool,
        moving: Sequence[Array],
        made_before: MadeBefore | None,
    ) -> None:
        self._opened = opened
        self._names = names
        self.as_given = as_given
        self._moving = set(map(id, moving))
        self._outer = current()
        self._values: dict[int, Any] = {}
        self.made = Made(made_before)
        self.reads: list[Array] = []
        self.writes: dict[int, Array] = {}

    @property
    def knows_values(self) -> bool:
        """Whether Python code in the function may ask for values."""
        return self._opened.knows_values

    def read(self, array: Array) -> Any:
        if array in self.made:
            if isinstance(array, Variable) and internals.is_dead(array._value):
                note_left_behind(array, OF_INNER)
                raise left_behind("what runs here", array)
            return array._value
        self._opened.on_read()
        if id(array) not in self._values:
            self._lift(array)
        return self._values[id(array)]

    def write(self, array: Array, value: Any) -> None:
        self._opened.on_write()
        if array in self.made:
            self.made.assign(array, value)
            return
        if id(array) not in self._values:
            self._lift(array)
        self._values[id(array)] = value
        self.writes[id(array)] = array

    def own(self, made: object, undo: Callable[[], None] | None = None) -> None:
        self.made.add(made, undo)

    def bound(self, value: object, node: object, old: object, undo: Callable[[], None]) -> None:
        # Who makes one anew without a look at the last makes the same at each call; it is a state
        # if others look at it.
        if value in self.made:
            self.made.bound(value, node, old, undo, self._values.keys())

    def kept(self) -> tuple[list[Variable], list[Variable], list[Variable]]:
        """The variables that the function has made and keeps, as parameters at its first call.

        First those that are made of inputs, then those that are made of constants; last those of
        constants that it makes anew at each call. To be called when nothing but what keeps them
        has them.
        """
        made, constants = list[Variable](), list[Variable]()
        kept, anew = self.made.kept(self._values.keys())
        for variable in kept:
            if not internals.depends_on_inputs(variable._value):
                constants.append(variable)
            elif self._opened.owns(variable._value):
                made.append(variable)
            else:
                note_left_behind(variable, OF_INNER)
        return made, constants, [x for x in anew if not internals.depends_on_inputs(x._value)]

    def at_hand(self, value: Any) -> Any:
        if isinstance(value, Array):
            return self.read(value) if self._opened.may_answer else None
        return value if internals.may_answer(value) else None

    def name_of(self, array: Array) -> str:
        return self._names.get(id(array), f"{type(array).__name__.lower()}{len(self.reads)}")

    def _lift(self, array: Array) -> None:
        name = self.name_of(array)
        value = None
        if self._opened.may_answer:
            value = array._value if self._outer is None else self._outer.at_hand(array)
        aval, moves = internals.aval_on_mesh(array._value), id(array) in self._moving
        self._values[id(array)] = self._opened.lift(aval, name, value, moves)
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
                    f"{array._label()} was assigned inside a function that JAX "
                    "traces on its own (the body of jax.lax.scan, while_loop, cond, jax.vmap or "
                    "jax.jit, a function with a derivative rule, or the rule), where the value "
                    "cannot leave it. Carry the value through that function and assign it outside, "
                    "or use bm.jit, bm.vmap."
                )
            values.append(value)
        return values


@contextlib.contextmanager
def _undoing(context: FunctionTrace) -> Iterator[None]:
    """A scope that is as if the function had not run, should it fail."""
    try:
        yield
    except BaseException:
        context.made.undo()
        raise


@dataclasses.dataclass(frozen=True)
class TracedFunction:
    """A function as a program.

    Inputs of the program: the flat arguments, the values of ``reads``, ``consts``.
    Outputs: the flat results (``out_tree``), the new values of ``writes``. Results of dtype
    float0, which have no values, are no outputs: ``float0`` maps their positions to shapes.
    ``out_avals`` are those of the outputs, with their places on a mesh with explicit axes, but
    for references, which follow.
    Some of ``writes`` are ``made`` by the function, which finds them at its next call, as it does
    those made of constants, which are no outputs, where it ``keeps_constants``.
    ``logs`` is what backward rules log, see :class:`Imported`. It ``is_at_values`` where it may be
    right for the values of this call only.
    By their names in the program ``references`` has the references that the function closes
    over, and the positions of those among the arguments.
    """

    program: Program
    origin: Origin | None
    consts: tuple[Any, ...]
    references: dict[str, Any]
    reads: tuple[Array | HeldReference, ...]
    writes: tuple[Array | HeldReference, ...]
    made: tuple[Array, ...]
    keeps_constants: bool
    out_tree: Any
    out_avals: tuple[Any, ...]
    float0: dict[int, tuple[int, ...]]
    logs: dict[Any, Any]
    no_logs_because: str
    is_at_values: bool
    # All that it has made, if anything that it keeps.
    made_at_all: Made | None

    def undo(self) -> None:
        """Takes back that it keeps anything, for the function to be traced again."""
        if self.made_at_all is not None:
            self.made_at_all.undo()

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

    @property
    def first_made(self) -> int:
        """Where ``made`` are among the outputs."""
        count = sum(isinstance(array, Array) for array in self.writes) - len(self.made)
        return self.num_results + count

    def commit(self, outputs: Sequence[Any], *, lost: Collection[int] = ()) -> list[Any]:
        """Assign what the program wrote, given its outputs; returns the flat results.

        Those that were made and whose outputs are ``lost``, by position, are given none.
        """
        outputs = list(map(_placed, outputs, self.out_avals)) + list(outputs[len(self.out_avals) :])
        made = dict(enumerate(self.made, self.first_made))
        for i, array in enumerate(self.writes, self.num_results):
            if i not in made:
                array.value = outputs[i]
            elif i in lost:
                note_left_behind(made[i], OF_ELEMENTS)
            else:
                _give(made[i], outputs[i], self.made_at_all)
        results = list(outputs[: self.num_results])
        for position, shape in self.float0.items():
            results.insert(position, np.zeros(shape, jax.dtypes.float0))
        return results


def _give(array: Array, value: Any, made: Made | None) -> None:
    """Gives an array that was made in a trace its value in the one around."""
    if made is not None and (context := current()) is not None:
        if made.is_in_attribute(array):
            context.own(array)
            replaced = array if made.is_anew(array) else None
            context.bound(array, None, replaced, made.undo)
        else:
            context.own(array, made.undo)
    array._value = value


def _placed(output: Any, aval: Any) -> Any:
    in_a_batch = output.shape != aval.shape
    return output if in_a_batch else internals.placed_as(output, aval)


def _is_float0(leaf: Any) -> bool:
    return bool(getattr(leaf, "dtype", None) == jax.dtypes.float0)


def _with_values(leaf: Any) -> Any:
    """What a program takes for an argument: of float0, which has no values, as many booleans."""
    return np.zeros(leaf.shape, np.bool_) if _is_float0(leaf) else leaf


def _is_plain(leaf: Any) -> bool:
    """Whether a leaf is a value, and not something that is traced elsewhere."""
    return internals.has_value(leaf) and not isinstance(leaf, jax.core.Tracer)


@dataclasses.dataclass
class _Run:
    """One run of a function on tracers, for which JAX calls this; then what it was found to do.

    Attributes:
      context: says which arrays it reads.
      written: the arrays that it assigned, and those of `made`.
      made, constants, anew: variables that it made, as `FunctionTrace.kept` says.
      out_tree, float0: see `TracedFunction`.
    """

    function: Callable[..., Any]
    arguments: Arguments
    name: str
    owner: object
    lifted: Sequence[Array]
    wrt: Collection[int]
    as_given: bool
    flags_as_given: bool
    made_before: MadeBefore | None
    context: FunctionTrace = dataclasses.field(init=False)
    written: tuple[Array, ...] = dataclasses.field(init=False)
    made: list[Variable] = dataclasses.field(init=False)
    constants: list[Variable] = dataclasses.field(init=False)
    anew: list[Variable] = dataclasses.field(init=False)
    out_tree: Any = dataclasses.field(init=False)
    float0: dict[int, tuple[int, ...]] = dataclasses.field(init=False)

    def __call__(self, opened: internals.OpenTrace, *tracers: Any) -> list[Any]:
        """The flat results, then the new values of what it wrote and made."""
        names = array_names(self.owner)
        self.context = context = FunctionTrace(
            opened, names, self.as_given, self.lifted, self.made_before
        )
        with tracing(context), _undoing(context):
            for array in self.lifted:
                context.read(array)
            results, self.out_tree = self._results(tracers)
            check_results(results, self.name)
            self.made, self.constants, self.anew = context.kept()
            values = [*context.written_values(), *(array._value for array in self.made)]
        self.written = (*context.writes.values(), *self.made)
        self.float0 = {i: x.shape for i, x in enumerate(results) if _is_float0(x)}
        return [*(x for i, x in enumerate(results) if i not in self.float0), *values]

    def _results(self, tracers: Sequence[Any]) -> tuple[list[Any], Any]:
        """The flat results and their tree: arrays among the arguments and the results are gone."""
        given = map(self._given, itertools.count(), self.arguments.leaves, tracers)
        args, kwargs = internals.put_together(self.arguments.rebuild(list(given)))
        return jax.tree.flatten(internals.taken_apart(self.function(*args, **kwargs)))

    def _given(self, position: int, leaf: Any, tracer: Any) -> Any:
        """What the function is given for an argument ``leaf`` that is traced as ``tracer``."""
        if position not in self.wrt:
            is_flag = self.flags_as_given and position in self.arguments.flags
            if is_flag or (self.as_given and _is_plain(leaf)):
                return leaf
        return np.zeros(leaf.shape, jax.dtypes.float0) if _is_float0(leaf) else tracer


def trace_function(
    function: Callable[..., Any],
    arguments: Arguments,
    *,
    name: str,
    owner: object = None,
    lifted: Sequence[Array] = (),
    wrt: Collection[int] = (),
    at_values: bool = False,
    at_need: bool = False,
    as_given: bool = False,
    flags_as_given: bool = False,
    held: Callable[[Any], bool] = is_of_trace,
    with_logs: bool = False,
    made_before: MadeBefore | None = None,
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
      at_need: whether such code, if it is not JAX's, is told the values that are at hand.
        ValuesAsked is raised where it has asked for others and went on without.
      as_given: whether it gets the arguments of which no derivative is taken as they are.
      flags_as_given: whether it gets those so that are flags.
      held: which references, of those that it closes over or is given, become inputs like
        the arrays that it reads, if they can.
      with_logs: whether what backward rules log is wanted.
      made_before: what the last trace made, where this one is compiled for further calls.
    """
    run = _Run(function, arguments, name, owner, lifted, wrt, as_given, flags_as_given, made_before)
    avals = [internals.aval_on_mesh(_with_values(leaf)) for leaf in arguments.leaves]
    traced = internals.trace(
        run,
        avals,
        name=name,
        arg_names=arguments.names,
        values=[_at_hand(leaf) for leaf in arguments.leaves] if at_values or at_need else None,
        moving=wrt,
        is_soft=at_need,
    )
    context = run.context
    if at_need and traced.was_asked():
        traced.end()
        context.made.undo()
        raise ValuesAsked(name)
    is_lifted = set(map(id, lifted))
    differentiated = [i in wrt for i in range(len(avals))]
    differentiated += [id(array) in is_lifted for array in context.reads]
    load = partial(
        import_program,
        name=name,
        # The import traces derivative rules, which read variables as the function did.
        scope=partial(tracing, context),
        differentiated=differentiated,
        with_logs=with_logs,
    )
    try:
        with _undoing(context):
            imported, references, changed = import_holding(traced, held, load)
            if at_need and traced.was_asked():
                raise ValuesAsked(name)  # In a derivative rule.
    finally:
        traced.end()
        for array in run.constants:
            _give(array, internals.revived(array._value), context.made)
        for array in run.anew:
            array._value = internals.value_left_behind(array._value.aval)
            note_left_behind(array, OF_EACH_CALL)
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
        writes=(*run.written, *changed),
        made=tuple(run.made),
        keeps_constants=bool(run.constants),
        out_tree=run.out_tree,
        out_avals=tuple(traced.out_avals),
        float0=run.float0,
        logs=imported.logs,
        no_logs_because=imported.no_logs_because,
        is_at_values=at_values or traced.has_answered,
        # Of others nothing of the trace is to be kept.
        made_at_all=context.made if run.made or run.constants else None,
    )


def trace_at_need(
    function: Callable[..., Any], arguments: Arguments, **keywords: Any
) -> TracedFunction:
    """``trace_function``, at the values of the arguments where the function asks for them.

    That is so from the start where the function around this one is traced so.
    """
    if knows_values(outer := current()):
        as_given = outer.as_given
        return trace_function(function, arguments, **keywords, at_values=True, as_given=as_given)
    try:
        return trace_with_bounds(function, arguments, **keywords)
    except ValuesAsked:
        for leaf in arguments.leaves:
            internals.note_asked(leaf)  # What is traced around this one may have values.
    except Exception as error:
        if not asks_for_values(error) or not may_have_values(arguments):
            raise
    return trace_function(function, arguments, **keywords, at_values=True)


def trace_with_bounds(
    function: Callable[..., Any], arguments: Arguments, **keywords: Any
) -> TracedFunction:
    """``trace_function``, at values where a transform around may ask for the bounds of a loop."""
    traced = trace_function(function, arguments, **keywords, at_need=True)
    may_be_asked = internals.may_be_differentiated() and may_have_values(arguments)
    if not may_be_asked or not traced.program.has_open_loop:
        return traced
    traced.undo()
    return trace_function(function, arguments, **keywords, at_values=True)


def _at_hand(leaf: Any) -> Any:
    outer = current()
    if internals.has_value(leaf):
        return leaf
    return None if outer is None else outer.at_hand(leaf)


def knows_values(context: TraceContext | None) -> TypeGuard[FunctionTrace]:
    """Whether it is that of a function which is traced at values."""
    return isinstance(context, FunctionTrace) and context.knows_values


def may_have_values(arguments: Arguments) -> bool:
    """Whether an argument has a value to decide by, or there are only values closed over."""
    return not arguments.leaves or any(map(internals.has_value, arguments.leaves))


# -- Results ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Aside:
    """A result that is no leaf, and itself again where a tree is put together."""

    value: Any

    def again(self) -> Any:
        # It may be changed in place where it was returned.
        return self.value.copy() if isinstance(self.value, np.ndarray) else self.value


jax.tree_util.register_pytree_node(_Aside, lambda x: ((), x), lambda x, _: x.again())


@dataclasses.dataclass(frozen=True, eq=False)
class _Whole:
    """A tree with asides, and the tree itself where it is put together.

    So containers of users' types are made of what is to be in them only.
    """

    leaves: list[Any]
    tree: Any


jax.tree_util.register_pytree_node(
    _Whole, lambda x: (x.leaves, x.tree), lambda tree, leaves: jax.tree.unflatten(tree, leaves)
)


def with_asides(tree: Any) -> Any:
    """``tree`` where what JAX did not compute is no leaf: it lets that pass in auxiliary results.

    That is numbers, what NumPy computed, and what is no array.
    """
    leaves, structure = jax.tree.flatten(tree)
    if all(map(_is_result, leaves)):
        return tree
    return _Whole([leaf if _is_result(leaf) else _Aside(leaf) for leaf in leaves], structure)


def _is_result(leaf: Any) -> bool:
    if isinstance(leaf, (int, float, complex, np.generic, np.ndarray)):
        return _is_float0(leaf)
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
