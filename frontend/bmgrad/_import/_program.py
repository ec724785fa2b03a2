"""From a traced function to a program.

In: a jaxpr and the arrays it closes over. Out: a `Program` whose inputs are those of the jaxpr and
then those arrays, and which can be imported anew for other derivatives and batches. Next:
`_importer.py`, which writes its module.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax

from bmgrad._import._asked import AskedRules
from bmgrad._import._errors import UnsupportedError
from bmgrad._import._importer import Importer
from bmgrad._import._logs import Logs
from bmgrad._import._perturbed import Marker, asks
from bmgrad._import._rebatching import Rebatching
from bmgrad._import._rule_scope import RuleScope
from bmgrad._import._unread import with_unread_marked
from bmgrad._import._write import held, input_names, write_module
from bmgrad.runtime import _edits
from bmgrad.runtime._jax_internals import (
    ShapedArray,
    TracedJaxpr,
    function_of,
    has_tangent,
    is_dead,
    is_reference,
    is_staged,
    plain_aval,
)
from bmgrad.runtime._options import Options
from bmgrad.runtime._origin import Origin
from bmgrad.runtime._program import Program
from bmgrad.runtime._source import Source


@dataclasses.dataclass(frozen=True)
class Logged:
    """An array that a backward rule logs: its aval, and the input whose cotangent says it."""

    aval: ShapedArray
    input: int


class Imported(NamedTuple):
    """A program, the arrays to call it with after the arguments, and its references by name.

    `logs` has what backward rules log: pytrees of avals and of the inputs whose cotangents say it;
    `no_logs_because` why that cannot be said, if it cannot.
    """

    program: Program
    consts: list[Any]
    references: dict[str, Any]
    origin: Origin | None
    logs: dict[Any, Any]
    no_logs_because: str


def import_program(
    traced: TracedJaxpr,
    *,
    name: str,
    options: Options | None = None,
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext,
    differentiated: Sequence[bool] = (),
    with_logs: bool = False,
) -> Imported:
    """Imports what `bmgrad.runtime._jax_internals.trace` returned.

    The inputs of the program are those of the jaxpr, whose names appear in messages and
    in the IR, followed by `Imported.consts`: the arrays that `traced` and inner functions
    close over, for no array is baked into a program. `scope` is what derivative rules are
    traced in. `differentiated` are the inputs of the jaxpr that a derivative will be taken of,
    if that is known. `with_logs` says whether what rules log is wanted.
    """
    jaxpr = with_unread_marked(traced.jaxpr)
    consts = [const for const in traced.consts if not is_reference(const)]
    in_rules = RuleScope(scope)
    asking, count = asks(jaxpr), len(jaxpr.invars)
    unknown = [False] * (count - len(differentiated))
    expected = [
        wanted and has_tangent(var.aval)
        for var, wanted in zip(jaxpr.invars, [*differentiated, *unknown], strict=True)
    ]

    def perturbed_in(active: Sequence[bool], asked: AskedRules) -> Any:
        """`jaxpr` where a derivative is taken of `active` inputs, its constants being the last."""
        of_consts = iter(active[count:])
        inputs = [not is_reference(const) and next(of_consts) for const in traced.consts]
        marker = Marker(asked, all_reverse=bool(logs.found))
        return marker.mark(jaxpr, [*inputs, *active[:count]])[0]

    is_marked, logs = asking and any(expected), Logs()
    lazy = asking or is_staged()

    def write() -> tuple[Importer, Logs, Source, list[Any]]:
        logs = Logs()
        importer = Importer(in_rules, lazy, logs=logs if with_logs else None)
        with scope():
            written = jaxpr
            if is_marked:
                written = perturbed_in([*expected, *(False for _ in consts)], importer.asked)
            return importer, logs, *write_module(importer, traced, written, name)

    importer, logs, module, captures = write()
    if logs.found and any(expected):
        # Rules of what no derivative perturbs log nothing.
        is_marked = True
        importer, logs, module, captures = write()
    # The program keeps what its modules hold numbers of.
    put_off = importer.put_off
    references = [reference for reference, _ in importer.module.references]
    if any(map(is_dead, [*consts, *captures, *references])):
        raise jax.errors.UnexpectedTracerError(
            f"{name} reads a value that left the loop body, inner function or derivative rule that "
            "computed it; return the value from there instead, a forward rule as a residual"
        )

    def again(
        traced: TracedJaxpr,
        jaxpr: Any,
        asked: AskedRules | None = None,
        *,
        consts_are_known: bool = False,
    ) -> Source | None:
        """The module of another jaxpr for these inputs; None where its rules use further ones."""
        anew = Importer(in_rules, lazy, asked)
        written, captured = write_module(
            anew, traced, jaxpr, name, captures, references, consts_are_known=consts_are_known
        )
        put_off.extend(anew.put_off)
        found = len(captured), len(anew.module.references)
        return written if found == (len(captures), len(references)) else None

    def perturbed(active: Sequence[bool]) -> Source | None:
        """The program, with rules that know that a derivative of these inputs is taken."""
        others = [i for i in range(count, len(active)) if active[i]]
        if is_marked and list(active[:count]) == expected and slots.issuperset(others):
            return None
        with in_rules():
            asked = AskedRules()
            found = again(traced, perturbed_in(active[: count + len(consts)], asked), asked)
        if found is None and is_marked:
            raise UnsupportedError(
                f"a derivative rule in {name} reads a value of a trace around it, which was not "
                "known to be needed when the function was traced"
            )
        return found

    def batch(traced: TracedJaxpr) -> Source | None:
        """The program that a batch was traced to."""
        return again(traced, traced.jaxpr, consts_are_known=True)

    # What makes it anew holds values of one trace: such a program is not shared.
    make: Callable[..., Program]
    first = count + len(consts)
    places = {id(array): first + i for i, array in enumerate(captures)}
    found = {} if logs.refusal else logs.found
    logged = jax.tree.map(lambda entry: Logged(entry.aval, places[id(entry.slot)]), found)
    slots = {each.input for each in jax.tree.leaves(logged)}
    if asking:
        make = functools.partial(Program, perturbed=perturbed, put_off=put_off)
    elif importer.has_batching_rules:
        batched = Rebatching(traced, True, in_rules.axes, scope, batch)
        make = functools.partial(Program, batched=batched, put_off=put_off)
    elif put_off:
        make = functools.partial(Program, put_off=put_off)
    else:
        make = _shared_program
    names = _edits.references(module) if references else ()
    used = {known.name: ref for ref, known in importer.module.references if known.name in names}
    inputs = [*jaxpr.invars, *held(traced, jaxpr.constvars)]
    program = make(
        module,
        tuple(map(plain_aval, [*(var.aval for var in inputs), *map(jax.typeof, captures)])),
        tuple(plain_aval(var.aval) for var in jaxpr.outvars),
        name=name,
        in_names=(*input_names(traced), *(f"captured{i}" for i in range(len(captures)))),
        options=options or Options(),
        effects=frozenset(importer.needs.effects),
        needs_devices=importer.needs.devices,
        platform=importer.platform,
        references=tuple(used),
    )
    # What looks into functions has no place for references.
    origin = None if references else _origin(traced, importer)
    return Imported(program, [*consts, *captures], used, origin, logged, logs.refusal)


def _origin(traced: TracedJaxpr, importer: Importer) -> Origin:
    jaxpr, consts = traced.jaxpr, traced.consts
    evaluate = function_of(jaxpr)
    num_inputs = len(jaxpr.invars) + len(consts)
    return Origin(evaluate, num_inputs, (False,) * len(jaxpr.outvars), importer.needs.rules_check)


@functools.lru_cache(maxsize=512)
def _shared_program(
    source: Source,
    in_avals: tuple[ShapedArray, ...],
    out_avals: tuple[ShapedArray, ...],
    **keywords: Any,
) -> Program:
    """The program that `source` says, one for equal sources.

    So calls that trace a function anew each time (`vjp`, `jvp`, `linearize` outside `jit`)
    find what was derived from it and compiled.
    """
    return Program(source, in_avals, out_avals, **keywords)
