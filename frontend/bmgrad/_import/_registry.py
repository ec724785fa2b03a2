"""The table of import rules: jaxpr primitive name -> rule.

A rule gets the importer and the equation, and returns the values of the equation's
results: one `Value` or a sequence. Rules live in `_rules_<family>.py`; what they
raise as `Unsupported` reaches the user with primitive, file and line.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax

from bmgrad.runtime._foreign import is_of_jax
from bmgrad.runtime._jax_internals import call_without_rule_p
from bmgrad.runtime._primitive import program_on_devices_p, program_p

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer
    from bmgrad._import._logs import LogSpec
    from bmgrad._import._text import Value

# A jaxpr equation: JAX publishes no type for it that both versions share.
Equation: TypeAlias = Any
Rule: TypeAlias = "Callable[[Importer, Equation], Value | Sequence[Value]]"

RULES: dict[str, Rule] = {}
# Rules that do not look at the elements, so PRNG keys may pass as the words they are.
# Other equations with keys become kernels.
KEEPS_KEYS: set[str] = set()

# `jax.checkpoint`, as versions of JAX name it.
REMATS = ("checkpoint", "remat2")

SHARD_MAP = "shard_map"

# How each primitive that runs a jaxpr once names it.
CALLEES = {
    **dict.fromkeys(REMATS, "jaxpr"),
    "call": "call_jaxpr",
    "closed_call": "call_jaxpr",
    "composite": "jaxpr" if jax.__version_info__ < (0, 11, 2) else "call_jaxpr",
    "core_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat_opt": "fwd_jaxpr",
    SHARD_MAP: "jaxpr",
    "xla_metadata_call": "jaxpr",
}


@functools.cache
def rule_of(primitive: Any) -> Rule | None:
    """The rule of a primitive; another library's that bears the name of JAX's has none."""
    ours = program_p, program_on_devices_p, call_without_rule_p
    known = is_of_jax(primitive) or primitive in ours
    return RULES.get(primitive.name) if known else None


def rule(*primitives: str, keys: bool = False) -> Callable[[Rule], Rule]:
    """Registers the decorated function as the rule of these primitives."""

    def register(function: Rule) -> Rule:
        for primitive in primitives:
            if primitive in RULES:
                raise ValueError(f"primitive {primitive!r} has two import rules")
            RULES[primitive] = function
            if keys:
                KEEPS_KEYS.add(primitive)
        return function

    return register


class WithRule(NamedTuple):
    """The functions of a call with a derivative rule: the function, then its rule's."""

    symbols: list[str]
    captures: list[Any]
    num_residuals: int = 0
    # How many of the first operands have no derivative: the function, not the rule, knows them.
    num_closed_over: int = 0
    # Whether a reverse rule has effects whose order counts.
    rule_keeps_order: bool = False
    # Whether a `jax.checkpoint` is to run the function where it needs no residuals of the rule.
    optimizes_remat: bool = False
    # What a reverse rule logs, where somebody wants to know; its slots are the last operands.
    logs: LogSpec | None = None
