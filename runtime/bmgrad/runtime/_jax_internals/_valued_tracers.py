"""Tracers that know their values, and what they tell to whom.

In: a trace that says what a tracer is (`_valued_trace.py`). Out: what JAX has arrays answer, of a
tracer: to Python code, and to JAX where a trace that is over has left one.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jax._src.interpreters import partial_eval

from bmgrad.runtime._jax_internals._asked_values import is_answered

_PlainTracer: Any = partial_eval.DynamicJaxprTracer


class ValuedTracer(partial_eval.DynamicJaxprTracer):
    __slots__ = ()
    # Libraries (autoray) tell by it whose array something is.
    __module__ = _PlainTracer.__module__

    _trace: Any

    def to_concrete_value(self) -> Any:
        return self._trace.value_of(self)

    def full_lower(self) -> Any:
        return _PlainTracer.full_lower(self) if (kept := self._kept()) is None else kept

    def __repr__(self) -> str:
        text: str = _PlainTracer.__repr__(self) if (kept := self._kept()) is None else repr(kept)
        return text

    def __str__(self) -> str:
        text: str = _PlainTracer.__str__(self) if (kept := self._kept()) is None else str(kept)
        return text

    def __reduce_ex__(self, protocol: Any) -> Any:
        kept = self._kept()
        return (super() if kept is None else kept).__reduce_ex__(protocol)

    def _kept(self) -> Any:
        """The value, of a trace that is over."""
        return self._trace.kept(self) if self._trace.is_over else None

    def constant(self) -> Any:
        """The value, None where a derivative would be lost with it."""
        value = self.to_concrete_value()
        return None if value is None or self._trace.is_perturbed(self) else value

    def __array__(self, *args: Any, **keywords: Any) -> Any:
        if (value := self.constant()) is None:
            plain: Any = super().__array__
            return plain(*args, **keywords)
        return np.asarray(value, *args, **keywords)

    def __float__(self) -> float:
        plain: Any = super().__float__
        value = self.constant()
        return float(plain() if value is None else value)

    def __complex__(self) -> complex:
        plain: Any = super().__complex__
        value = self.constant()
        return complex(plain() if value is None else value)

    def __format__(self, spec: str) -> str:
        value = self.constant()
        return super().__format__(spec) if value is None else format(value, spec)

    def __getattr__(self, name: str) -> Any:
        plain: Any = super().__getattr__
        try:
            return plain(name)
        except AttributeError:
            if name.startswith("_") or (value := self.constant()) is None:
                raise
            return getattr(value, name)


def _of_array(name: str) -> Any:
    """The method or property of this name, which only arrays have, of a tracer that is a value."""
    plain = getattr(_PlainTracer, name)
    is_property = isinstance(plain, property)
    refuse: Callable[..., Any] = plain.__get__ if is_property else plain

    def get(self: ValuedTracer, *args: Any) -> Any:
        if (value := self.constant()) is None:
            return refuse(self, *args)
        return getattr(value, name) if is_property else getattr(value, name)(*args)

    return property(get) if is_property else functools.wraps(plain)(get)


for _name in (
    "addressable_data",
    "addressable_shards",
    "committed",
    "delete",
    "devices",
    "global_shards",
    "is_deleted",
    "is_fully_addressable",
    "is_fully_replicated",
    "on_device_size_in_bytes",
    "tobytes",
    "tolist",
    "unsafe_buffer_pointer",
):
    setattr(ValuedTracer, _name, _of_array(_name))


class SoftTracer(ValuedTracer):
    __slots__ = ()
    __module__ = _PlainTracer.__module__

    def to_concrete_value(self) -> Any:
        is_soft = self._trace.is_soft
        return None if is_soft and not is_answered() else self._trace.value_of(self)

    # With their plain answers code goes on.

    def __format__(self, spec: str) -> str:
        kind = _PlainTracer if self._trace.is_soft else ValuedTracer
        text: str = kind.__format__(self, spec)
        return text

    def __getattr__(self, name: str) -> Any:
        kind = _PlainTracer if self._trace.is_soft else ValuedTracer
        return kind.__getattr__(self, name)
