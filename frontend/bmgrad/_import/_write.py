"""The module that an import writes, whole.

In: an importer and a jaxpr. Out: the text of a module whose `@main` takes the inputs of the jaxpr
and then the arrays that it closes over, with the programs that it calls linked in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._module import Body, Module
from bmgrad._import._text import Value, is_key
from bmgrad.runtime import _edits
from bmgrad.runtime._jax_internals import TracedJaxpr, is_reference
from bmgrad.runtime._source import Source

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

_T = TypeVar("_T")


def write_module(
    importer: Importer,
    traced: TracedJaxpr,
    jaxpr: Any,
    name: str,
    known: Sequence[Any] | None = None,
    references: Sequence[Any] = (),
    *,
    consts_are_known: bool = False,
) -> tuple[Source, list[Any]]:
    """The module of `jaxpr`, and the arrays that are its last inputs.

    Those arrays are what inner functions close over, or the `known` ones if possible. The
    constants of the jaxpr are inputs too, unless they are among the known ones. The first
    references of the program are `references`.
    """
    inputs = list(jaxpr.invars)
    if not consts_are_known:
        inputs += held(traced, jaxpr.constvars)
    module = importer.module

    def main(args: list[Value]) -> list[Value]:
        count = len(jaxpr.invars)
        for closed_over in (*references, *(known or ())):
            module.operand(closed_over)
        if consts_are_known:
            return importer.evaluate(jaxpr, [*map(module.operand, traced.consts)], args)
        for const, value in zip(held(traced, traced.consts), args[count:], strict=True):
            module.alias(const, value)
        values = iter(args[count:])
        consts = [module.operand(c) if is_reference(c) else next(values) for c in traced.consts]
        return importer.evaluate(jaxpr, consts, args[:count])

    try:
        types = [importer.type(var.aval) for var in inputs]
        body = module.body(types, main, input_names(traced)[: len(inputs)])
    except Unsupported as reason:
        raise importer.error(reason) from None
    captures = body.captures()
    if known is not None and not any(
        isinstance(a, jax.core.Tracer) for a in captures[len(known) :]
    ):
        body, captures = _without_further_inputs(module, body, len(known)), list(known)
    module.function(module.new_symbol("main"), body, captures, public=True)
    text = module.text(name)
    callees = {
        symbol: (program.source(), names) for symbol, (program, names) in importer.linked.items()
    }
    return _edits.linked(text, callees) if callees else text, captures


def held(traced: TracedJaxpr, of_consts: Sequence[_T]) -> list[_T]:
    """Those of `of_consts`, one for each constant, that belong to arrays, not to references."""
    pairs = zip(of_consts, traced.consts, strict=True)
    return [each for each, const in pairs if not is_reference(const)]


def input_names(traced: TracedJaxpr) -> list[str]:
    count = len(held(traced, traced.consts))
    return [*traced.in_names, *(f"const{i}" for i in range(count))]


def _without_further_inputs(module: Module, body: Body, count: int) -> Body:
    """The block `body` with the first `count` of the arrays that it closes over as inputs.

    The others, which rules bring that were not asked before, are constants.
    """
    captures = body.captures()
    if len(captures) == count:
        return body
    symbol = module.new_symbol("with_constants")
    module.function(symbol, body, captures)

    def write(args: list[Value]) -> list[Value]:
        given = [module.capture(array) for array in captures[:count]]
        constants = [module.constant(_words(array)) for array in captures[count:]]
        types = [value.type for value in body.results]
        return module.call(symbol, [*given, *constants, *args], types)

    return module.body([value.type for value in body.args], write, body.names)


def _words(array: Any) -> np.ndarray[Any, Any]:
    return np.asarray(jax.random.key_data(array) if is_key(array) else array)
