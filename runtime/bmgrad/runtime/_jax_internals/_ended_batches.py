"""Derivative rules of functions inside a `jax.vmap`, which they may close over values of.

In: a rule as JAX wraps it. JAX asks rules while that `vmap` goes on; here they are asked when
their function is imported, after it has ended, and JAX refuses values of traces that have, and
names of axes. Out: a context in which it takes those that the rule closes over.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from jax._src import core, linear_util
from jax._src.interpreters import batching

from bmgrad.runtime._jax_internals._valued_trace import InOurTrace

_STORES = (linear_util.Store, linear_util.EqualStore)
# Containers that are longer hold data, not what functions close over.
_MOST = 64


@contextlib.contextmanager
def batches_reopened(*rules: Any) -> Iterator[None]:
    """Within it what `rules` close over of batches that have ended may be read.

    The names of these batches, and of those that the rules are for, are bound.
    """
    found: dict[int, Any] = {}
    for rule in rules:
        _collect(rule, found, set())
    traces = [each for each in found.values() if isinstance(each, batching.BatchTrace)]
    batches = [each for each in found.values() if isinstance(each, batching.AxisData)]
    batches += [trace.axis_data for trace in traces]
    bound = core.get_axis_env().axis_sizes
    axes = {each.name: each.size for each in batches if each.name not in bound}
    axes.pop(core.no_axis_name, None)
    ended = [trace for trace in traces if not trace.is_valid()]
    for trace in ended:
        trace._invalidated = False
    try:
        with core.extend_axis_env_nd(list(axes.items())):
            yield
    finally:
        for trace in ended:
            trace._invalidated = True


def is_batched(value: Any) -> bool:
    """Whether `value`, inside `jax.vmap`, differs between the elements of the batch."""
    return isinstance(value, batching.BatchTracer)


def is_batched_elementwise(primitive: Any) -> bool:
    """Whether JAX was told that `primitive` works on each number by itself, and batches it so."""
    rule = batching.fancy_primitive_batchers.get(primitive)
    elementwise = (batching.vectorized_batcher, batching.broadcast_batcher)
    return isinstance(rule, functools.partial) and rule.func in elementwise


def _collect(value: Any, found: dict[int, Any], seen: set[int]) -> None:
    """Adds the batches of the tracers that `value` holds or closes over, and their axes."""
    pending = [value]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, batching.BatchTracer):
            found[id(value._trace)] = value._trace
            pending.append(value.val)
        elif isinstance(value, batching.AxisData):
            found[id(value)] = value
        elif isinstance(value, dict):
            pending += list(value.values()) if len(value) <= _MOST else []
        elif isinstance(value, (list, tuple)):
            pending += value if len(value) <= _MOST else []
        elif isinstance(value, InOurTrace):
            pending.append(value.followed)
        elif hasattr(value, "f") and hasattr(value, "transforms"):
            # A function as JAX wraps it, and the arguments that it is to be called with.
            pending += [value.f, *(params for _, params in value.transforms)]
        elif hasattr(value, "func") and hasattr(value, "keywords"):
            pending += [value.func, value.args, value.keywords]
        elif getattr(value, "__closure__", None):
            pending += [cell.cell_contents for cell in value.__closure__ if _is_set(cell)]
        elif isinstance(value, _STORES):
            pass  # What a function returned last, if it was called.
        elif type(value).__module__.startswith("jax.") and hasattr(type(value), "val"):
            pending.append(getattr(value, "val", None))


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # A variable that is not assigned yet.
        return False
