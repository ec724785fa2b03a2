"""Whether Python code asked a tracer for its value, also where it goes on without it.

JAX raises an error then. A program that catches it (`try: if x > 0`) takes another way than
under `jax.grad`, where there is a value. In: the errors that JAX makes. Out: the traces whose
tracers they are about.
"""

import functools
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

import jax
from jax._src import core
from jax._src.interpreters import ad

_asked: weakref.WeakSet[Any] = weakref.WeakSet()

_JAX = os.path.join(os.path.dirname(jax.__file__), "")
# Where it is said what tracers answer to Python, and by which functions they are asked there.
_OF_TRACERS = (
    os.path.join(_JAX, "_src", "core.py"),
    os.path.join(_JAX, "_src", "numpy", "array_methods.py"),
    *(os.path.join(os.path.dirname(__file__), f"_valued_{x}.py") for x in ("trace", "tracers")),
)
_ASKERS = ("is_concrete", "to_concrete_value")
# What in JAX raises an error where there is no value, and who catches that.
_NEEDING = ("_canonicalize_dimension", "concrete_or_error", "expand_bool_indices")
_CATCHING = "roll"

_ERRORS: tuple[Any, ...] = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)


def note_asked(value: Any) -> None:
    """Says that `value`, if it is a tracer, was asked for what it is."""
    while isinstance(value, ad.JVPTracer | ad.LinearizeTracer):
        value = value.primal
    # Libraries raise JAX's errors about tracers of their own, too.
    if isinstance(value, jax.core.Tracer) and isinstance(value._trace, core.Trace):
        _asked.add(value._trace)


def _note_here() -> None:
    """Says so of some tracer of the trace that operations go into."""
    trace: Any = core.trace_ctx.trace
    while isinstance(trace, ad.JVPTrace | ad.LinearizeTrace):
        trace = trace.parent_trace
    _asked.add(trace)


def note_asked_in(trace: Any) -> None:
    """Says so of some tracer of `trace`."""
    _asked.add(trace)


def was_asked(trace: Any) -> bool:
    """Whether a tracer of `trace` was asked for its value and had none."""
    return trace in _asked


def _is_asked_by_jax() -> bool:
    """Whether a function of JAX asks, as `jnp.roll` does, which can do without a value."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename in _OF_TRACERS:
        frame = frame.f_back
    return str(frame.f_code.co_filename).startswith(_JAX)


def is_answered() -> bool:
    """Whether the code that JAX asks a tracer's value for now cannot go on without.

    That is `bool(x)` in code that is not JAX's, not whether `x` is concrete, and masks and sizes.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name in _ASKERS:
        frame = frame.f_back
    is_of_tracers = frame.f_code.co_filename in _OF_TRACERS
    while frame.f_back is not None and frame.f_code.co_filename in _OF_TRACERS:
        if frame.f_code.co_name in _NEEDING:
            break
        frame = frame.f_back
    if not str(frame.f_code.co_filename).startswith(_JAX):
        return is_of_tracers
    return frame.f_code.co_name in _NEEDING and not _is_called_by(frame, _CATCHING)


def _is_called_by(frame: Any, name: str) -> bool:
    """Whether the function of this name, in the same package, leads to `frame`."""
    while frame is not None and str(frame.f_code.co_filename).startswith(_JAX):
        if frame.f_code.co_name == name:
            return True
        frame = frame.f_back
    return False


def mark_asked(error: BaseException) -> None:
    """Says that `error` was raised by code that had asked for a value in vain."""
    vars(error)["bmgrad_asked_values"] = True


def is_marked_asked(error: BaseException) -> bool:
    """Whether `mark_asked` said so."""
    return "bmgrad_asked_values" in vars(error)


def _noting(plain: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(plain)
    def init(self: Any, tracer: Any, *args: Any, **keywords: Any) -> None:
        plain(self, tracer, *args, **keywords)
        if isinstance(self, jax.errors.NonConcreteBooleanIndexError):
            _note_here()  # Of masks JAX may give the aval only.
        elif not _is_asked_by_jax():
            note_asked(tracer)

    return init


# There is no other way in: code that catches them leaves no trace.
for _error in _ERRORS:
    _error.__init__ = _noting(_error.__init__)
