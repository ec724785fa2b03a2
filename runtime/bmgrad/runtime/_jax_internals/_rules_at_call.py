"""Forward rules that are traced when their functions are called, as JAX does.

In: an equation that a trace has just recorded, and which of its operands are perturbed. What is
traced of the rules that it leads to is kept for whoever asks for the same. Later what rules read
besides their arguments, such as an attribute, may be another thing.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jax._src import core

from bmgrad.runtime._jax_internals._avals import has_tangent

# By primitive what traces the forward rule of a call, given its parameters and which arguments are
# perturbed.
_trace_rule: dict[Any, Callable[[Mapping[str, Any], Sequence[bool]], object]] = {}
# Jaxprs in which there is no such call. Those in which there are would be kept by their own calls.
_without_calls: weakref.WeakSet[Any] = weakref.WeakSet()


def traces_rules(
    primitive: Any, trace_rule: Callable[[Mapping[str, Any], Sequence[bool]], object]
) -> None:
    """Says what traces the forward rules of calls of functions with rules."""
    _trace_rule[primitive] = trace_rule


def calls_rules(params: Mapping[str, Any]) -> bool:
    """Whether an equation with these parameters calls functions with rules inside."""
    return any(map(_has_calls, core.jaxprs_in_params(params)))


def trace_rules_now(equation: Any, is_perturbed: Callable[[Any], bool]) -> None:
    """Those of a function that is called, or of all that are called in a loop, a branch, a `jit`.

    `is_perturbed` says whether a derivative is taken of an operand.
    """
    primitive, params, operands = equation.primitive, equation.params, equation.in_tracers
    if primitive in _trace_rule:
        perturbed = [is_perturbed(x) for x in operands[params["num_consts"] :]]
        if any(perturbed):
            is_told = params["symbolic_zeros"]
            _trace_now(equation, perturbed if is_told else _may_have_tangents(operands, params))
        return
    # Which operands are perturbed in there nobody knows yet, so those that are told wait.
    calls = [call for call in _calls_in(equation) if not call.params["symbolic_zeros"]]
    if calls and any(map(is_perturbed, operands)):
        for call in calls:
            _trace_now(call, _may_have_tangents(call.invars, call.params))


def _may_have_tangents(operands: Sequence[Any], params: Mapping[str, Any]) -> list[bool]:
    """What rules that do not ask which arguments are perturbed are told."""
    return [has_tangent(x.aval) for x in operands[params["num_consts"] :]]


def _trace_now(call: Any, perturbed: Sequence[bool]) -> None:
    # What a rule raises is raised where it is needed, when it is asked again.
    with contextlib.suppress(Exception):
        _trace_rule[call.primitive](call.params, perturbed)


def _calls_in(equation: Any) -> Iterator[Any]:
    """The calls of functions with rules in what an equation calls, but for those in such ones."""
    for jaxpr in filter(_has_calls, core.jaxprs_in_params(equation.params)):
        for eqn in jaxpr.eqns:
            if eqn.primitive in _trace_rule:
                yield eqn
            else:
                yield from _calls_in(eqn)


def _has_calls(jaxpr: Any) -> bool:
    if jaxpr in _without_calls:
        return False
    if any(eqn.primitive in _trace_rule or calls_rules(eqn.params) for eqn in jaxpr.eqns):
        return True
    _without_calls.add(jaxpr)
    return False
