"""What the derivative rules of a call hold on to."""

import functools
import itertools
import types
from collections.abc import Iterable
from typing import Any

import jax
from jax._src import linear_util

from bmgrad.runtime._jax_internals._valued_trace import InOurTrace

# What is looked at of one call at most; a rule may hold a model, and that anything.
_MOST = 2000


def rules_hold_tracers(eqn: Any) -> bool:
    """Whether the rules of a call close over values of a trace, as far as can be seen."""
    pending = [x for x in eqn.params.values() if isinstance(x, linear_util.WrappedFun)]
    seen: set[int] = set()
    while pending and len(seen) < _MOST:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, jax.core.Tracer):
            return True
        pending += _held(value)
    return False


def _held(value: Any) -> Iterable[Any]:
    match value:
        case linear_util.WrappedFun():
            return [value.f, *itertools.chain.from_iterable(value.transforms)]
        case types.FunctionType():
            cells = value.__closure__ or ()
            return [*map(_content, cells), *(value.__defaults__ or ())]
        case types.MethodType():
            return [value.__func__, value.__self__]
        case functools.partial():
            return [value.func, *value.args, *value.keywords.values()]
        case dict():
            return value.values()
        case list() | tuple() | set() | frozenset():
            return value
    # What JAX's own objects hold is not the user's.
    if type(value).__module__.partition(".")[0] in ("jax", "jaxlib", "numpy", "builtins"):
        return ()
    return getattr(value, "__dict__", {}).values()


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Not assigned yet.
        return None


def closed_over(wrapped: Any, *path: str) -> Any:
    """What the function inside `wrapped` closes over under these names, one in the other."""
    value: Any = getattr(wrapped, "f", None)
    while isinstance(value, InOurTrace):
        value = value.followed.f
    for name in path:
        names = getattr(getattr(value, "__code__", None), "co_freevars", ())
        if name not in names:
            return None
        value = value.__closure__[names.index(name)].cell_contents
    return value
