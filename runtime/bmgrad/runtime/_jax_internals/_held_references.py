"""References from outside of a function, as inputs and results of it."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from bmgrad.runtime._jax_internals._avals import is_reference_aval
from bmgrad.runtime._jax_internals._discharge import (
    ClosedJaxpr,
    gives_references_to_rules,
    with_rules_where,
)
from bmgrad.runtime._jax_internals._equations import evaluate_jaxpr
from bmgrad.runtime._jax_internals._references import (
    changed_by,
    keeps_gradients_out,
    with_constants_written,
)
from bmgrad.runtime._jax_internals._tracing import TracedJaxpr, trace


class OnHeld(NamedTuple):
    """A traced function of what references hold.

    Its last inputs are what `references` hold before, its last results what those that are
    `changed` hold after it.
    """

    traced: TracedJaxpr
    references: list[Any]
    changed: list[bool]


def on_held(traced: TracedJaxpr, chosen: Callable[[Any], bool]) -> OnHeld | None:
    """`traced` as a function of what the chosen references hold that it closes over.

    So derivatives are taken of what it does with them, which they are not of a program that
    reads and writes references. None where there are no such references, and where a derivative
    rule is given one: it may look at it later.
    """
    jaxpr, consts = traced.jaxpr, traced.consts
    written = changed_by(jaxpr.effects)
    held = [
        is_reference_aval(var.aval)
        and chosen(const)
        # What JAX puts into such a one is constant, and values have no kind.
        and not (var in written and keeps_gradients_out(var.aval))
        for var, const in zip(jaxpr.constvars, consts, strict=True)
    ]
    if not any(held) or gives_references_to_rules(jaxpr):
        return None
    variables = [var for var, flag in zip(jaxpr.constvars, held, strict=True) if flag]
    others = [var for var, flag in zip(jaxpr.constvars, held, strict=True) if not flag]
    count, unnamed = len(jaxpr.invars), jaxpr.debug_info.with_unknown_names()
    opened = jaxpr.replace(
        constvars=[], invars=[*others, *jaxpr.invars, *variables], debug_info=unnamed
    )
    first = len(others) + count
    is_held = [i >= first for i in range(first + len(variables))]
    closed = with_rules_where(ClosedJaxpr(opened, ()), is_held)
    inner = closed.jaxpr
    changed = [var in written for var in variables]
    num_results = len(jaxpr.outvars)
    values = zip(inner.outvars[num_results:], changed, strict=True)
    on_values = inner.replace(
        constvars=[*inner.constvars, *inner.invars[: len(others)]],
        invars=inner.invars[len(others) :],
        outvars=[*inner.outvars[:num_results], *(var for var, flag in values if flag)],
        debug_info=unnamed,
    )
    references = [const for const, flag in zip(consts, held, strict=True) if flag]
    kept = [const for const, flag in zip(consts, held, strict=True) if not flag]
    # ClosedJaxpr is how both versions say which leading variables are constants.
    closed = ClosedJaxpr(on_values, [*closed.consts, *kept])
    found = TracedJaxpr(
        closed.jaxpr,
        list(closed.consts),
        closed.in_avals,
        closed.out_avals,
        [*traced.in_names, *(f"ref{i}" for i in range(len(references)))],
    )
    return OnHeld(found, references, changed)


def on_whole(eqn: Any, references: Collection[int]) -> TracedJaxpr:
    """The equation done with all that the `references` among its operands hold.

    They are read before it, and those that it changes are written after it: too early for a
    derivative rule that is given one.
    """
    avals = [atom.aval for atom in eqn.invars]
    names = [f"x{i}" for i in range(len(avals))]
    name = eqn.primitive.name

    def do(_: Any, *operands: Any) -> list[Any]:
        return [*eqn.primitive.bind(*operands, **eqn.params)]

    plain = trace(do, avals, name=name, arg_names=names)
    changed = changed_by(plain.jaxpr.effects)
    read = [i in references for i in range(len(avals))]
    closed = with_constants_written(ClosedJaxpr(plain.jaxpr, plain.consts))
    of_values = with_rules_where(closed, read)

    def do_on_whole(_: Any, *operands: Any) -> list[Any]:
        given = [x[...] if flag else x for x, flag in zip(operands, read, strict=True)]
        results = evaluate_jaxpr(of_values.jaxpr, of_values.consts, given)
        count = len(plain.out_avals)
        for i, new in zip(sorted(references), results[count:], strict=True):
            if plain.jaxpr.invars[i] in changed:
                operands[i][...] = new
        return results[:count]

    return trace(do_on_whole, avals, name=name, arg_names=names)
