"""Taylor series through programs, for `jax.experimental.jet`.

In: a program, and the Taylor coefficients of its inputs along a curve. Out: those of its outputs.

The first derivative of a function `f` along a curve `x` is a function of `x` and `x'`, which is
`f.jvp`; the second one is that of this function along the curve `x, x'`; and so on.
"""

import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from bmgrad.runtime._jax_internals import has_tangent
from bmgrad.runtime._program import Program

_JET = "jax.experimental.jet"
# Which input or output, and which derivative of it.
_Term = tuple[int, int]


def register_series(primitives: Sequence[Any], rule: Callable[..., Any]) -> None:
    """Gives `primitives` a rule of `jax.experimental.jet`, if somebody has imported that."""
    rules: Mapping[Any, Any] | None = getattr(sys.modules.get(_JET), "jet_rules", None)
    if isinstance(rules, dict):
        rules.update(dict.fromkeys(primitives, rule))


def series_of(
    program: Program,
    run: Callable[[Program, Sequence[Any]], Sequence[Any]],
    primals: Sequence[Any],
    series: Sequence[Sequence[Any]],
) -> tuple[list[Any], list[list[Any]]]:
    """The outputs of `program` and, for each, as many coefficients as `series` has of the inputs.

    `run` calls a program that was derived from `program`.
    """
    order = len(series[0])
    inputs: list[_Term] = [(i, 0) for i in range(len(program.in_avals))]
    outputs: list[_Term] = [(i, 0) for i in range(len(program.out_avals))]
    derived = program
    for _ in range(order):
        active = [has_tangent(aval) for aval in derived.in_avals]
        moving = [has_tangent(aval) for aval in derived.out_avals]
        derived = derived.jvp(active)
        inputs += _next(inputs, active)
        outputs += _next(outputs, moving)
    # The k-th coefficient is the k-th derivative by k!.
    orders = range(1, order + 1)
    derivatives = {
        (i, k): term * math.factorial(k)
        for i, terms in enumerate(series)
        for k, term in zip(orders, terms, strict=True)
    }
    given = [derivatives[i, k] if k else primals[i] for i, k in inputs]
    found = dict(zip(outputs, run(derived, given), strict=True))
    values = [found[i, 0] for i in range(len(program.out_avals))]
    return values, [
        [
            found[i, k] / math.factorial(k) if (i, k) in found else jnp.zeros_like(value)
            for k in orders
        ]
        for i, value in enumerate(values)
    ]


def _next(terms: Sequence[_Term], chosen: Sequence[bool]) -> list[_Term]:
    return [(i, k + 1) for i, k in itertools.compress(terms, chosen)]
