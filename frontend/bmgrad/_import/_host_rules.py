"""Backward rules that run on the host, since they ask for the values of cotangents.

In: a rule that asks even where it is traced at the values of its residuals, as one in NumPy or with
an `if` of a cotangent does. Out: the jaxpr of a callback, which runs the rule each time that the
program runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np

from bmgrad.runtime._errors import UnsupportedError, put_off
from bmgrad.runtime._jax_internals import ShapedArray, TracedJaxpr, trace

BackwardRule = Callable[..., tuple[Sequence[Any], Any]]


@dataclasses.dataclass(frozen=True)
class _OnHost:
    """`rule` of arrays that have values. Programs that call equal ones are compiled once.

    Attributes:
      rule: gives for each of `avals` a cotangent, or None, and what it logs, which is lost.
      key: equal for rules that do the same, or None.
    """

    rule: BackwardRule = dataclasses.field(compare=False)
    avals: tuple[ShapedArray, ...]
    key: Hashable

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _OnHost) or self.key is None:
            return self is other
        return (self.avals, self.key) == (other.avals, other.key)

    def __hash__(self) -> int:
        return hash((self.avals, self.key))

    def __call__(self, *values: Any) -> list[Any]:
        try:
            cts, _ = self.rule(*values)
            pairs = zip(cts, self.avals, strict=True)
            return [np.asarray(np.zeros(a.shape) if ct is None else ct, a.dtype) for ct, a in pairs]
        except Exception as error:
            # XLA hands on the text; whoever runs the program finds the error by that.
            raise RuntimeError(f"{put_off(error)}: {error}") from None


def trace_on_host(
    rule: BackwardRule,
    in_avals: Sequence[ShapedArray],
    out_avals: Sequence[ShapedArray],
    key: Hashable,
    *,
    name: str,
    arg_names: Sequence[str],
) -> TracedJaxpr:
    """A jaxpr that has `rule` run on the host; it gives a cotangent, or None, for each result.

    `key` is equal for rules that do the same, or None.
    """
    on_host = _OnHost(rule, tuple(out_avals), key)

    @jax.custom_jvp
    def call(*values: Any) -> list[Any]:
        return list(jax.pure_callback(on_host, out_avals, *values, vmap_method="sequential"))

    @call.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:
        raise UnsupportedError(
            f"{name} asks for the values of cotangents, so it has no derivative; write it in "
            "jax.numpy, and decide by jnp.where or jax.lax.cond"
        )

    return trace(lambda _, *values: call(*values), in_avals, name=name, arg_names=arg_names)
