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
    if isinstance(value, jax.core.Tracer):
        _asked.add(value._trace)


def _note_here() -> None:
    """Says so of some tracer of the trace that operations go into."""
    trace: Any = core.trace_ctx.trace
    while isinstance(trace, ad.JVPTrace | ad.LinearizeTrace):
        trace = trace.parent_trace
    _asked.add(trace)


def was_asked(trace: Any) -> bool:
    """Whether a tracer of `trace` was asked for its value and had none."""
    return trace in _asked


def _is_asked_by_jax() -> bool:
    """Whether a function of JAX asks, as `jnp.roll` does, which can do without a value."""
    return _calls_from_jax(sys._getframe(2))


def _calls_from_jax(frame: Any) -> bool:
    """Whether what leads to a `frame` of tracers is a function of JAX."""
    while frame.f_back is not None and frame.f_code.co_filename in _OF_TRACERS:
        frame = frame.f_back
    return str(frame.f_code.co_filename).startswith(_JAX)


def is_asked_by_code() -> bool:
    """Whether code that is not JAX's calls what needs the value that JAX asks a tracer for now.

    That is `bool(x)`, not whether `x` is concrete: with that answered code goes on.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name in _ASKERS:
        frame = frame.f_back
    return frame.f_code.co_filename in _OF_TRACERS and not _calls_from_jax(frame)


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
