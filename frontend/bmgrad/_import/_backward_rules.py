"""Backward rules of functions, on their way to a jaxpr.

In: a rule as `custom_vjp` has it, and which cotangents are read. Out: its jaxpr, or that of a call
of the host where it decides by the values of cotangents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bmgrad._import._errors import MAY_ASK_FOR_VALUES, ValuesAsked, asks_in_a_rule
from bmgrad._import._host_rules import trace_on_host
from bmgrad._import._logs import LogSpec, split_logs, unreadable_logs
from bmgrad.runtime._jax_internals import (
    CustomVjp,
    TracedJaxpr,
    has_tangent,
    is_reference_aval,
    tangent_aval,
    trace_rule,
)


class Backward:
    """A backward rule on its way to a jaxpr.

    Attributes:
      in_avals: those of residuals and cotangents, which it takes.
      is_zero, spec: of what was traced, as in `TracedVjp`.
    """

    def __init__(
        self,
        custom: CustomVjp,
        avals: Sequence[Any],
        residual_avals: Sequence[Any],
        out_avals: Sequence[Any],
        read: Sequence[bool],
        logs: bool,
        name: str,
    ) -> None:
        """`avals` are those of the arguments that have cotangents, `out_avals` of the results."""
        self._avals, self._logs, self._name = avals, logs, name
        self._custom, self._num_residuals = custom, len(residual_avals)
        of_results = zip(out_avals, read, strict=True)
        self._flags = (
            self._num_residuals,
            tuple(is_read if has_tangent(aval) else None for aval, is_read in of_results),
            tuple(map(has_tangent, avals)),
        )
        self._cotangents = partial(_cotangents, custom.bwd, *self._flags)
        ct_avals = [tangent_aval(aval) for aval in out_avals if has_tangent(aval)]
        self.in_avals = [*residual_avals, *ct_avals]
        self.is_zero: list[bool] = []
        self.spec: LogSpec | None = None

    def trace(self) -> TracedJaxpr:
        """The rule, at the values of its residuals or on the host where it asks for values."""
        count, num_cts = self._num_residuals, len(self.in_avals) - self._num_residuals
        arg_names = [f"residual{i}" for i in range(count)] + [f"ct{i}" for i in range(num_cts)]
        traced = partial(trace_rule, self._run, self.in_avals, name=self._name, arg_names=arg_names)
        try:
            if not (found := traced()).was_asked():
                return found
            raise ValuesAsked(self._name)
        except MAY_ASK_FOR_VALUES as error:
            if not asks_in_a_rule(error):
                raise
            of_residuals, has_values = self._custom.values()
        # Cotangents have no values before the program runs.
        holds = any(map(is_reference_aval, (*self._avals, *self.in_avals)))
        may_run_later = has_values and not holds
        try:
            found = traced(values=[*of_residuals, *[None] * num_cts], is_rule=True)
            if not (may_run_later and found.was_asked()):
                return found
        except MAY_ASK_FOR_VALUES as error:
            if not (may_run_later and asks_in_a_rule(error)):
                raise
        self.is_zero = [not has_tangent(aval) for aval in self._avals]
        if self._logs:
            reason = "a backward rule that asks for the values of cotangents cannot log"
            self.spec = unreadable_logs(reason)
        # What is kept for long knows nothing of this trace.
        cotangents, key = self._cotangents, self._custom.bwd_key()
        return trace_on_host(
            lambda *values: cotangents(*values)[0],
            self.in_avals,
            [tangent_aval(aval) for aval in self._avals if has_tangent(aval)],
            key and (key, self._flags),
            name=self._name,
            arg_names=arg_names,
        )

    def _run(self, _: Any, *values: Any) -> list[Any]:
        cts, logged = self._cotangents(*values)
        given = iter(cts)
        kept = [next(given) if has_tangent(aval) else None for aval in self._avals]
        pairs = zip(kept, self._avals, strict=True)
        self.is_zero = [ct is None for ct, aval in pairs if not is_reference_aval(aval)]
        found = [ct for ct in kept if ct is not None]
        if self._logs and logged:
            entries, self.spec = split_logs(logged)
            found += entries
        return found


def _cotangents(
    bwd: Callable[..., tuple[list[Any], Any]],
    num_residuals: int,
    read: Sequence[bool | None],
    wanted: Sequence[bool],
    *values: Any,
) -> tuple[list[Any], Any]:
    """For each `wanted` argument a cotangent, or None, and what the rule logs.

    `read` says of each result whether anybody reads it, or None if it has no cotangent.
    """
    given = iter(values[num_residuals:])
    cts = [None if is_read is None else next(given) for is_read in read]
    cts = [ct if is_read else None for ct, is_read in zip(cts, read, strict=True)]
    results, logged = bwd(values[:num_residuals], cts)
    return [ct for ct, is_wanted in zip(results, wanted, strict=True) if is_wanted], logged
