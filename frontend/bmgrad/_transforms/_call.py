"""Calls: how a transformed function runs with JAX's own dispatch and no hidden state.

In: a body, a Python function that does what the transform means with values or
tracers alike. Out: :class:`Transformed`, the callable that users get. Outside any trace
the body runs under one ``jax.jit``, whose inputs are the arguments and the values of
all array objects that the body reads; a repeated call takes JAX's C++ path. Inside
a trace the body runs as it is and becomes part of that trace.

Next: ``runtime`` (the primitive that the body binds).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import threading
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax

from bmgrad import _tracing_state
from bmgrad._array import Array
from bmgrad._array_checks import left_behind
from bmgrad._import import asks_for_values, cannot_compare_trees
from bmgrad._tracing_state import TraceContext, current, tracing
from bmgrad._transforms._ahead_of_time import staged
from bmgrad._transforms._arguments import (
    PLAIN_TYPES,
    Arguments,
    Static,
    holds_flags,
)
from bmgrad._transforms._by_identity import ByIdentity
from bmgrad._transforms._contents import Contents
from bmgrad._transforms._differences import Differences, Differs
from bmgrad._transforms._held_reference import is_of_trace
from bmgrad._transforms._inputs import (
    OTHER_WAYS,
    Inputs,
    InThread,
    IsAtValues,
    IsDisabled,
    KeyAndTraced,
    Known,
    MissingInputs,
    named,
)
from bmgrad._transforms._made import MadeBefore
from bmgrad._transforms._trace import (
    TracedFunction,
    knows_values,
    trace_at_need,
    trace_function,
    trace_with_bounds,
    with_asides,
)
from bmgrad._transforms._transform import Transform, count_function, is_often_made
from bmgrad._transforms._watched import Watched
from bmgrad.runtime import Program, _dispatch
from bmgrad.runtime._cache import CacheInfo, CacheKey, jax_settings
from bmgrad.runtime._dispatch import Dispatcher, Shortcut
from bmgrad.runtime._jax_internals import api_boundary, is_inside_transform
from bmgrad.runtime._stages import Lowered, Traced

# How often functions that are made anew are traced before they are worth compiling: to trace one
# takes less than about a 20th of the time.
_CALLS_WITHOUT_JIT = 20
# How often a function is compiled anew as other things are around it inside transforms of JAX.
_MOST_RESETS_INSIDE = 4


class State:
    """What calls of equal transforms of one function share: array inputs, jit, counts."""

    def __init__(self, transform: Transform, *, is_made_anew: bool = False) -> None:
        self.transform = transform
        self.watched = Watched(transform)
        self._long_calls = 0
        # What repeated calls go to, but for those with static arguments.
        find_flags = holds_flags if transform.may_ask_values else None
        self.shortcut = Shortcut(OTHER_WAYS, PLAIN_TYPES, find_flags)
        self.keys: list[CacheKey] = []
        # Whether the function asks for values, which it has outside jit only, and whether of
        # arguments that are not differentiated tracers with a value are not enough.
        self._at_values = False
        self._as_given = False
        self._is_made_anew = transform.may_ask_values and (
            is_made_anew or is_often_made(transform.function)
        )
        self._calls_outside_jit = 0
        self._made_before: dict[Hashable, MadeBefore] = {}
        self._resets_inside = 0
        self._thread = InThread()
        self._lock = threading.RLock()
        self._reset()

    def _reset(self) -> None:
        self.shortcut.close()
        self._epoch = _dispatch.epoch()
        # Calls in other threads may go on with what was known before.
        known = self._known = Known()
        self._traced: dict[Hashable, TracedFunction] = {}
        self._differences = Differences()
        self._takes_static = False
        self._contents = Contents()
        self.watched.forget_traces()
        name = self.transform.name
        # A function without array inputs, the cheapest call: nothing is nested in it.
        self._plain = jax.jit(named(self._run_plain, known, name))
        self._dynamic = jax.jit(named(self._run_dynamic, known, name))
        # `Static` has no arrays in it, so JAX can key its cache by it.
        self._static = jax.jit(named(self._run_static, known, name), static_argnums=(2,))

    # -- Under jit ---------------------------------------------------------------------------

    # JAX reads these names, so they must not be those of a user's arguments.
    def _run_plain(self, known: Known, /, *_args_: Any, **_kwargs_: Any) -> Any:
        result, _ = self._run(known, [], _args_, _kwargs_, (_args_, _kwargs_))
        return result

    def _run_dynamic(self, known: Known, values: list[Any], args: Any, kwargs: Any) -> Any:
        return self._run(known, values, args, kwargs, (args, kwargs))

    def _run_static(self, known: Known, values: list[Any], given: Any, static: Static) -> Any:
        args, kwargs = static.rebuild(*given)
        return self._run(known, values, args, kwargs, given)

    def _run(
        self, known: Known, values: list[Any], args: Any, kwargs: Any, tracers: Any
    ) -> tuple[Any, dict[int, Any]]:
        if self.transform.is_disabled():
            raise IsDisabled
        # Another thread may have added arrays since these values were read.
        context = Inputs(known.arrays[: len(values)], values, self._thread.given_by_id(tracers))
        leaves, tree = jax.tree.flatten((args, kwargs))
        with tracing(context):
            # JAX made the arrays in the arguments before this context could own them.
            args, kwargs = jax.tree.unflatten(tree, leaves)
            result = self.transform.body(self, args, kwargs)
            self.keys.append(self.transform.cache_key(self.transform.arguments(args, kwargs)))
            # Flat, in this context: what is returned may hold arrays of this trace.
            leaves, tree = jax.tree.flatten(with_asides(result))
        return with_asides(jax.tree.unflatten(tree, leaves)), context.written()

    def trace(
        self, function: Callable[..., Any], arguments: Arguments, **keywords: Any
    ) -> TracedFunction:
        """``trace_function``, once for equal avals while no outer trace is involved.

        A jit whose inputs turn out to be incomplete runs its body again; the user's
        function is not traced again for that.
        """
        context = current()
        keywords["flags_as_given"] = self.transform.may_ask_values
        if isinstance(context, Inputs):
            # Those that are given are of this jit, in which no derivative is taken.
            given = set(map(id, arguments.references))
            keywords["held"] = lambda x: is_of_trace(x) and id(x) not in given
        elif self._epoch != _dispatch.epoch():
            # An array object has been replaced since the last call from outside any trace.
            self._reset()
        as_given = sorted(arguments.flags) if self.transform.may_ask_values else ()
        flags = tuple(arguments.leaves[i] for i in as_given)
        typed = flags, tuple(map(type, (*flags, *arguments.static.values)))
        static = arguments.static
        if isinstance(context, Inputs):
            static = dataclasses.replace(static, content=self._thread.content)
        key = (keywords["name"], static, arguments.avals, typed, jax_settings())
        # What the call itself puts into objects is no other content.
        key_of_call = (key[0], dataclasses.replace(static, content=None), *key[2:])
        # What is known was traced for all values, and for references that stay where they are.
        is_usable = isinstance(context, Inputs) or (
            context is not None and not arguments.references and not knows_values(context)
        )
        traced = self._traced.get(key) if is_usable else None
        if traced and not isinstance(context, Inputs) and self._is_more_known(traced.program):
            traced = None
        if traced is None:
            keyed = key_of_call if static.is_hashable else None
            with self._making(keyed, context) as keywords["made_before"]:
                traced = self._traced_before(key_of_call) if context is None else None
                traced = traced or self._tracer(context)(function, arguments, **keywords)
            is_of_call = context is None or isinstance(context, Inputs)
            if is_of_call and traced.made_at_all is not None:
                self._thread.undo.append(traced.made_at_all.undo)
            is_for_once = traced.is_at_values or bool(traced.made)
            # Others see at their next call what the function has kept: those that nobody asks
            # before it do not.
            sees_kept = self.transform.sees_changes and self._thread.given is not None
            is_for_once |= traced.keeps_constants and not sees_kept
            if is_for_once and isinstance(context, Inputs):
                self._thread.at_values = key_of_call, traced
                raise IsAtValues
            closed_over = (*traced.consts, *traced.references.values())
            closes_over_trace = any(isinstance(x, jax.core.Tracer) for x in closed_over)
            closes_over_trace |= len(traced.arrays) < len(traced.reads)
            # Without a jit around, one that is given may also be one that is closed over.
            told_apart = all(isinstance(x, jax.core.Tracer) for x in arguments.references)
            may_be_known = arguments.static.is_hashable and isinstance(context, Inputs)
            if may_be_known and told_apart and not closes_over_trace:
                self._traced[key] = traced
        if isinstance(context, Inputs):
            context.require(traced.arrays)
            if self._thread.is_second_try:
                self._thread.is_second_try = False
            else:
                self._differences.note(traced, arguments, self.transform.may_ask_values)
        elif context is None:
            self._thread.is_at_values |= traced.is_at_values
            arrays = traced.arrays
            self._thread.reads += arrays
            written = set(map(id, traced.writes)).difference(map(id, traced.made))
            self._thread.before += [(a, a._value) for a in arrays if id(a) in written]
        return traced

    @contextlib.contextmanager
    def _making(self, key: Hashable, context: TraceContext | None) -> Iterator[MadeBefore | None]:
        """A scope for the function to be traced in, and what it made when it was traced last."""
        is_compiled = context is not None or not (self._is_made_anew or self._at_values)
        before = self._made_before.get(key) if is_compiled else None
        if is_compiled and (before is None or not self.watched.is_as_left()):
            before = MadeBefore()
        with self.watched.tracing(is_kept=isinstance(context, Inputs)):
            yield before
        if before and key is not None:
            self._made_before[key] = before

    def _is_more_known(self, program: Program) -> bool:
        """Whether another trace around may know bounds of loops, or what is around it."""
        return program.has_open_loop or self.watched.differs_from_traces()

    def _tracer(self, context: TraceContext | None) -> Callable[..., TracedFunction]:
        # The inputs of a jit have no values; those of a trace around this one may.
        if not self.transform.may_ask_values:
            return trace_function
        if isinstance(context, Inputs):
            return functools.partial(trace_function, at_need=True)
        if context is not None:
            return trace_at_need
        at_values = functools.partial(trace_function, at_values=True, as_given=self._as_given)
        return at_values if self._at_values else trace_with_bounds

    def _traced_before(self, key: Hashable) -> TracedFunction | None:
        """What the jit of this call was to hold, which is right outside it."""
        found, self._thread.at_values = self._thread.at_values, None
        if found is None:
            return None
        traced = found[1]
        has_references = traced.references or len(traced.arrays) < len(traced.reads)
        if found[0] == key and not has_references:
            return traced
        traced.undo()
        return None

    # -- Calls -------------------------------------------------------------------------------

    def _is_another_function(self) -> bool:
        """Whether what was traced before may not be what the function is at this call."""
        if self.watched.traces_that_keep > 1:
            return True
        if self._differences and self._differences.are_here():
            return True
        # Of what changes again and again each is not worth compiling.
        return self._resets_inside >= _MOST_RESETS_INSIDE and self._is_changed_inside()

    def _is_changed_inside(self) -> bool:
        """Whether inside a transform of JAX, which may be why, other things are around it."""
        return is_inside_transform() and self.watched.differs_from_traces()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Where the shortcut led to a trace that it cannot use, this goes on with it.
        traced, self._thread.at_values = self._thread.at_values, None
        try:
            if traced is None:
                result = self._call(args, kwargs)
            else:
                self._long_calls += 1
                result = self._call_outside_jit(args, kwargs, traced)
            if self._thread.undo:
                self._reset()  # For other arguments too it may find what it has made now.
            return result
        except BaseException:
            self._take_back()
            raise
        finally:
            self._thread.undo = []

    def _take_back(self) -> None:
        if self._thread.take_back():
            self._reset()

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._epoch != _dispatch.epoch():
            self._reset()
        self._long_calls += 1
        if self._is_made_anew and self._long_calls <= _CALLS_WITHOUT_JIT:
            # One that is likely called once, as in `grad(lambda w: loss(w, batch))(w)` in a loop:
            # programs of others that are equal are compiled, a jit of its own would not be.
            return self._call_outside_jit(args, kwargs)
        if self._is_another_function():
            return self._call_outside_jit(args, kwargs)
        if self._is_changed_inside():
            self._resets_inside += 1
            self._reset()
        has_flags = self.transform.may_ask_values and holds_flags((args, kwargs))
        if not has_flags:
            self.shortcut.close()
        epoch, known = self._epoch, self._known
        plain, dynamic, static = self._plain, self._dynamic, self._static
        traced: KeyAndTraced | None = None
        arguments: Arguments | None = None
        while not self._at_values:
            # Calls in other threads may find out meanwhile.
            takes_static = has_flags or self._takes_static
            try:
                if takes_static:
                    # Once: a function that is traced again may have changed what it is given.
                    arguments = arguments or self._arguments(args, kwargs, has_flags)
                    if not arguments.static.is_hashable:
                        if not self.transform.may_ask_values:
                            arguments.static.check_hashable()
                        return self._call_outside_jit(args, kwargs)
                    compiled = self._contents.compiled_for(arguments.static)
                    if compiled is None:
                        return self._call_outside_jit(args, kwargs)
                    arrays = known.arrays
                    values = [array._value for array in arrays]
                    given = arguments.leaves, arguments.references
                    self._thread.given, self._thread.content = given, compiled.content
                    num_traced = len(self.keys)
                    result, written = static(values, given, compiled)
                    if len(self.keys) != num_traced:
                        self._contents.note_traced(arguments.static)
                elif arrays := known.arrays:
                    values = [array._value for array in arrays]
                    self._thread.given = args, kwargs
                    result, written = dynamic(values, args, kwargs)
                    self.shortcut.open(dynamic, epoch, arrays)
                else:
                    self._thread.given = args, kwargs
                    result = plain(*args, **kwargs)
                    written = {}  # Whatever it assigned would be an input.
                    self.shortcut.open(plain, epoch, None)
                if written:
                    self.assign(written, arrays)
                if self.watched.traces_that_keep:
                    self._reset()
                return result
            except MissingInputs as missing:
                self._add(known, missing.arrays)
            except Differs:
                if self._differences.are_here():
                    break
                self._thread.is_second_try = True
            except IsAtValues:
                traced, self._thread.at_values = self._thread.at_values, None
                break
            except Exception as error:
                self._take_back()
                self._check_held(error, known.arrays)
                if self.transform.may_ask_values and asks_for_values(error):
                    self._at_values = True
                elif self.transform.may_ask_values and cannot_compare_trees(error):
                    break
                elif (
                    takes_static
                    or not isinstance(error, OTHER_WAYS)
                    or not Arguments.of(args, kwargs).static.values
                ):
                    raise
                else:
                    self._takes_static = True  # JAX refuses what is no array.
            finally:
                self._thread.given = self._thread.content = None
        return self._call_outside_jit(args, kwargs, traced)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any], flags: bool) -> Arguments:
        """Those of a call that is compiled for what is no array, with ``flags`` for these too."""
        return Arguments.of(
            args,
            kwargs,
            self.transform.function,
            flags_are_static=flags,
            differentiated=self.transform.differentiated(len(args)),
            sees_changes=self.transform.sees_changes,
        )

    def _call_outside_jit(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], traced: KeyAndTraced | None = None
    ) -> Any:
        """A call that traces the function anew, at values once that has asked for them.

        Programs that come out equal are one, so each path is compiled once. ``traced`` is what a
        jit has traced for this call.
        """
        self._calls_outside_jit += 1
        while True:
            self._thread.reads, self._thread.before = [], []
            self._thread.at_values, traced = traced, None
            self._thread.is_at_values = False
            try:
                result = self.transform.body(self, args, kwargs)
                for array, _ in self._thread.before:
                    self._check_assigned(array, array._value)
                self._at_values |= self._thread.is_at_values
                return result
            except Exception as error:
                self._take_back()
                for array, value in reversed(self._thread.before):
                    array._value = value
                self._check_held(error, self._thread.reads)
                if not self.transform.may_ask_values or not asks_for_values(error):
                    raise
                if self._as_given:
                    self._at_values = self._as_given = False
                    raise
                self._at_values, self._as_given = True, self._at_values

    def _add(self, known: Known, arrays: Sequence[Array]) -> None:
        with self._lock:
            identities = {id(array) for array in known.arrays}
            # A new list: a call in another thread may be reading the old one.
            known.arrays = [*known.arrays, *(a for a in arrays if id(a) not in identities)]

    def _check_held(self, error: Exception, arrays: Sequence[Array]) -> None:
        """Raises an error that names the variable, if it is one that holds a value of a trace."""
        if not isinstance(error, jax.errors.UnexpectedTracerError):
            return
        for array in arrays:
            if isinstance(array._value, jax.core.Tracer):
                raise left_behind(self.transform.name, array) from error

    def assign(self, written: dict[int, Any], arrays: Sequence[Array]) -> None:
        for position, value in written.items():
            self._check_assigned(arrays[position], value)
        for position, value in written.items():
            arrays[position]._value = value

    def _check_assigned(self, array: Array, value: Any) -> None:
        if isinstance(value, jax.core.Tracer):
            raise jax.errors.UnexpectedTracerError(
                f"{self.transform.name} assigns a variable, {array._label()} of shape "
                f"{value.shape}, inside a function that JAX traces (jax.jit, jax.vmap, jax.grad), "
                "which would leave a tracer in it; use bm.jit, bm.vmap or bm.grad around it instead"
            )

    def stage(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        """The first of the ahead-of-time stages: the whole call as one program."""
        arguments = self._arguments(args, kwargs, self.transform.may_ask_values)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.transform.body(self, args, kwargs)

        return staged(self.transform, arguments, call)

    def info(self) -> CacheInfo:
        calls = self._long_calls + self.shortcut.hits
        misses = len(self.keys) + self._calls_outside_jit
        return CacheInfo(max(calls - misses, 0), misses, len(self.keys), tuple(self.keys))


# -- What users hold -----------------------------------------------------------------------------


# States by the function, or the object whose method it is, then by that and options.
_states: ByIdentity[dict[Hashable, State]] = ByIdentity()
_states_lock = threading.Lock()


def _state_of(transform: Transform, *, is_accessed: bool = False) -> State:
    """The state of this transform, shared by all wrappers made with equal arguments.

    Those that are not just the access of a method see what has changed around the function.
    """
    function = transform.function
    owner: Any = function
    method: Any = None
    if isinstance(function, types.MethodType):
        owner, method = function.__self__, function.__func__
    key = (transform.kind, method, transform.options)
    try:
        with _states_lock:
            states = _states.get(owner, dict)
            if not states:
                count_function(function)
            if key not in states:
                states[key] = State(transform)
            elif not is_accessed and states[key].watched.has_changed():
                states[key] = State(transform, is_made_anew=True)
            return states[key]
    except TypeError:  # No reference to the owner, or an option without hash: nothing is shared.
        return State(transform)


def all_states() -> list[State]:
    with _states_lock:
        return [state for states in _states for state in states.values()]


class Transformed(Dispatcher):
    """A function made by a transform, called like the one it was made from.

    Besides calls it offers JAX's stages: ``trace(*args)``, then ``.lower()``, then
    ``.compile()``; and ``cache_info()``.
    """

    def __init__(
        self, transform: Transform, function: Callable[..., Any], *, is_accessed: bool = False
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._transform = transform
        self._state = _state_of(transform, is_accessed=is_accessed)
        self._set_shortcut(self._state.shortcut)

    @api_boundary
    def _call(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._transform.is_disabled():
            return self._function(*args, **kwargs)
        if _tracing_state.current() is not None:
            return self._transform.body(self._state, args, kwargs)
        return self._state.call(args, kwargs)

    def _assign(self, written: dict[int, Any], arrays: list[Array]) -> None:
        self._state.assign(written, arrays)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """A transformed function in a class body is a method."""
        if instance is None:
            return self
        method = types.MethodType(self._function, instance)
        return type(self)(self._transform.on(method), method, is_accessed=True)

    def __copy__(self) -> Transformed:
        return type(self)(self._transform, self._function)

    def __deepcopy__(self, memo: dict[int, Any]) -> Transformed:
        """The copy of a method is one of the copied object; functions are not copied."""
        function = copy.deepcopy(self._function, memo)
        if function is self._function:
            return self
        return type(self)(self._transform.copied_to(function, memo), function)

    def __reduce__(self) -> Any:
        # With the function in the state: that of a method may hold this object.
        state = self._transform, self._function
        return _new, (type(self),), state

    def __setstate__(self, state: tuple[Transform, Callable[..., Any]]) -> None:
        transform, function = state
        Transformed.__init__(self, transform.of(function), function)

    def __repr__(self) -> str:
        return f"<bm.{self._transform.kind} of {self._transform.function_name}>"

    @api_boundary
    def trace(self, /, *args: Any, **kwargs: Any) -> Traced:
        """Trace for arguments like these (arrays or ``jax.ShapeDtypeStruct``)."""
        return self._state.stage(args, kwargs)

    def lower(self, /, *args: Any, **kwargs: Any) -> Lowered:
        """``trace(*args).lower()``."""
        return self.trace(*args, **kwargs).lower()

    def cache_info(self) -> CacheInfo:
        """Hits, misses and the named keys of what was compiled."""
        return self._state.info()


def _new(kind: type[Transformed]) -> Transformed:
    return kind.__new__(kind)


def cache_info() -> CacheInfo:
    """Hits, misses and keys of all transformed functions that are alive."""
    infos = [state.info() for state in all_states()]
    keys = tuple(key for info in infos for key in info.entries)
    return CacheInfo(
        sum(info.hits for info in infos), sum(info.misses for info in infos), len(keys), keys
    )
