"""For those who bring primitives of their own: `bmgrad.extend.register_primitive`."""

from collections.abc import Callable
from typing import Any

from jax.extend.core import Primitive

from bmgrad._import._registry import rule_of
from bmgrad.runtime import _foreign

__all__ = ["register_primitive"]


def register_primitive(
    primitive: Primitive,
    *,
    jvp: Callable[..., Any] | None = None,
    transpose: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
) -> None:
    """Gives a primitive the rules by which bmgrad differentiates and batches it.

    Not needed for primitives with rules in `jax.interpreters.ad` and `batching`: bmgrad uses
    those. A rule may call any function of JAX and any primitive; its own derivative follows.
    What the primitive computes is what its JAX lowering (`jax.interpreters.mlir`) says; one that
    has none, but an implementation in Python (`def_impl`), runs that on the host, as a
    `jax.pure_callback`.

    Args:
      primitive: a `jax.extend.core.Primitive` that bmgrad has no rule for.
      jvp: `jvp(primals, tangents, **params) -> (results, tangents)`. A zero tangent is None,
        among the given and the returned ones.
      transpose: `transpose(cotangents, operands, **params) -> cotangents`, for primitives that
        are linear in some operands. Those are given as `jax.ShapeDtypeStruct`, the others as
        arrays. Returns a cotangent or None for each operand; raises for operands in which the
        primitive is not linear.
      batch: `batch(operands, axes, **params) -> (results, axes)`, where an axis is None for what
        has no batch. Becomes JAX's batching rule of the primitive too.

    With `primitive.multiple_results`, results, their tangents, cotangents and axes are lists.

    What was registered for the primitive before is replaced.

    Raises:
      TypeError: `primitive` is no primitive, or a rule no function.
      ValueError: bmgrad has rules for this primitive, or no rule is given.
    """
    if not isinstance(primitive, Primitive):
        raise TypeError(f"primitive must be a jax.extend.core.Primitive, got {primitive!r}")
    rules = {"jvp": jvp, "transpose": transpose, "batch": batch}
    for name, function in rules.items():
        if not (function is None or callable(function)):
            raise TypeError(f"{name} must be a function or None, got {function!r}")
    if not any(rules.values()):
        raise ValueError(f"give a rule of {primitive.name!r}: jvp, transpose or batch")
    if rule_of(primitive):
        raise ValueError(f"bmgrad has rules for primitive {primitive.name!r} already")
    _foreign.register(primitive, _foreign.Rules(jvp, transpose), batch)
