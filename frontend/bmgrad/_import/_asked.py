"""The forward rules of functions, each traced once for the same perturbed arguments.

In: the parameters of a `custom_jvp_call`. Out: its rule. What finds out which results are
perturbed asks for the zeros among the tangents of a rule, and the import for all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bmgrad._import._errors import asking_a_rule
from bmgrad.runtime._jax_internals import CustomJvp, custom_jvp_rule


class AskedRules:
    """Of one import. What a rule raises is raised as `RuleRaised`, each time it is asked."""

    def __init__(self) -> None:
        # The functions are kept, or others could take over their identity.
        self._asked: dict[tuple[int, int, tuple[bool, ...]], tuple[Any, Any, CustomJvp]] = {}

    def jvp(self, params: Mapping[str, Any], active: Sequence[bool]) -> CustomJvp:
        """The rule where the `active` arguments, constants left out, are perturbed."""
        function, rule = params["call_jaxpr"], params["jvp_jaxpr_fun"]
        key = id(function), id(rule), tuple(active)
        if key not in self._asked:
            with asking_a_rule(function.in_avals):
                self._asked[key] = function, rule, custom_jvp_rule(params, active)
        return self._asked[key][-1]
