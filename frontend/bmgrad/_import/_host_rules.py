"""Derivative rules that run on the host, since they ask for the values of what they are given.

In: a rule that asks even where it is traced at the values of its residuals, as one in NumPy or with
an `if` of a cotangent does. Out: the jaxpr of a primitive, which runs the rule each time that the
program runs. Its derivatives are taken there too, at the values that the rule is given then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive

from bmgrad.runtime import _foreign
from bmgrad.runtime._errors import put_off
from bmgrad.runtime._jax_internals import ShapedArray, TracedJaxpr, tangent_aval, trace

# Takes and returns flat values; None for a cotangent that is zero.
HostRule = Callable[..., Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class _OnHost:
    """`rule` of arrays that have values. Programs that call equal ones are compiled once.

    Attributes:
      rule: gives a value, or None, for each of `out_avals`.
      key: equal for rules that do the same, or None.
      derivative_of: what it is the derivative of, by which inputs, and whether it is forward:
        linear in the tangents, or cotangents, that it takes last.
    """

    rule: HostRule = dataclasses.field(compare=False)
    in_avals: tuple[ShapedArray, ...]
    out_avals: tuple[ShapedArray, ...]
    key: Hashable
    derivative_of: tuple[_OnHost, tuple[bool, ...], bool] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _OnHost):
            return False
        return self is other or (self.key is not None and self._key() == other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> Hashable:
        return self.in_avals, self.out_avals, self.key, self.derivative_of

    def __call__(self, *values: Any) -> list[Any]:
        try:
            return list(map(np.asarray, self.results(*values)))
        except Exception as error:
            # XLA hands on the text; whoever runs the program finds the error by that.
            raise RuntimeError(f"{put_off(error)}: {error}") from None

    def results(self, *values: Any) -> list[Any]:
        """What the rule gives, of the dtypes that are expected."""
        pairs = zip(self.rule(*values), self.out_avals, strict=True)
        return [
            jnp.zeros(aval.shape, aval.dtype) if x is None else _converted(x, aval.dtype)
            for x, aval in pairs
        ]

    def derivative(self, active: tuple[bool, ...], *, is_forward: bool) -> _OnHost:
        """From primals and the tangents of the `active` ones to the results', or back."""
        moving = [aval for aval, flag in zip(self.in_avals, active, strict=True) if flag]
        given, found = (moving, self.out_avals) if is_forward else (self.out_avals, moving)
        return _OnHost(
            partial(_tangents if is_forward else _cotangents, self.results, active),
            (*self.in_avals, *map(tangent_aval, given)),
            tuple(map(tangent_aval, found)),
            self.key,
            (self, active, is_forward),
        )


def _converted(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, jax.Array) else np.asarray(x, dtype)


def _at(
    run: HostRule, active: Sequence[bool], values: Sequence[Any]
) -> tuple[HostRule, list[Any], list[Any]]:
    """`run` as a function of its `active` arguments, these, and what follows them in `values`."""
    primals, given = values[: len(active)], list(values[len(active) :])

    def derivative_rule(*moved: Any) -> Sequence[Any]:
        rest = iter(moved)
        pairs = zip(primals, active, strict=True)
        return run(*(next(rest) if is_active else x for x, is_active in pairs))

    return derivative_rule, [x for x, flag in zip(primals, active, strict=True) if flag], given


def _tangents(run: HostRule, active: Sequence[bool], *values: Any) -> Sequence[Any]:
    from bmgrad._transforms import _functional

    derivative_rule, moving, tangents = _at(run, active, values)
    found: Sequence[Any] = _functional.jvp(derivative_rule, tuple(moving), tuple(tangents))[1]
    return found


def _cotangents(run: HostRule, active: Sequence[bool], *values: Any) -> Sequence[Any]:
    from bmgrad._transforms import _functional

    derivative_rule, moving, cts = _at(run, active, values)
    found: Sequence[Any] = _functional.vjp(derivative_rule, *moving)[1](cts)
    return found


# -- The primitive ---------------------------------------------------------------------------------

_host_rule_p = Primitive("host_rule")
_host_rule_p.multiple_results = True


def _call(*values: Any, on_host: _OnHost) -> list[Any]:
    results: list[Any] = _host_rule_p.bind(*values, on_host=on_host)
    return results


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], on_host: _OnHost
) -> tuple[list[Any], list[Any]]:
    active = tuple(t is not None for t in tangents)
    derivative = on_host.derivative(active, is_forward=True)
    given = [t for t in tangents if t is not None]
    return _call(*primals, on_host=on_host), _call(*primals, *given, on_host=derivative)


def _transpose(cts: Sequence[Any], operands: Sequence[Any], on_host: _OnHost) -> list[Any]:
    is_linear = [isinstance(x, jax.ShapeDtypeStruct) for x in operands]
    count = len(on_host.derivative_of[0].in_avals) if on_host.derivative_of else len(operands)
    if on_host.derivative_of is None or any(is_linear[:count]):
        raise TypeError("a derivative rule that runs on the host is linear in nothing it is given")
    base, active, is_forward = on_host.derivative_of
    transposed = base.derivative(active, is_forward=not is_forward)
    pairs = zip(cts, on_host.out_avals, strict=True)
    given = [jnp.zeros(aval.shape, aval.dtype) if ct is None else ct for ct, aval in pairs]
    found = _call(*operands[:count], *given, on_host=transposed)
    of_linear = zip(found, is_linear[count:], strict=True)
    return [*[None] * count, *(ct if flag else None for ct, flag in of_linear)]


def _batch(
    operands: Sequence[Any], axes: Sequence[int | None], on_host: _OnHost
) -> tuple[list[Any], list[int]]:
    batched = [axis is not None for axis in axes]
    rows = [
        jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True) if axis is not None
    ]

    def one(row: Sequence[Any]) -> list[Any]:
        given = iter(row)
        pairs = zip(operands, batched, strict=True)
        return _call(*(next(given) if flag else x for x, flag in pairs), on_host=on_host)

    results = jax.lax.map(one, rows)
    return results, [0] * len(results)


# Without a lowering, so it runs on the host.
_host_rule_p.def_impl(lambda *values, on_host: on_host(*values))
_host_rule_p.def_abstract_eval(lambda *_, on_host: on_host.out_avals)
_foreign.register(_host_rule_p, _foreign.Rules(_jvp, _transpose), _batch)


def trace_on_host(
    rule: HostRule,
    in_avals: Sequence[ShapedArray],
    out_avals: Sequence[ShapedArray],
    key: Hashable,
    *,
    name: str,
    arg_names: Sequence[str],
) -> TracedJaxpr:
    """A jaxpr that has `rule` run on the host; it gives a value, or None, for each result.

    `key` is equal for rules that do the same, or None.
    """
    on_host = _OnHost(rule, tuple(in_avals), tuple(out_avals), key)

    def call(_: Any, *values: Any) -> list[Any]:
        return _call(*values, on_host=on_host)

    return trace(call, in_avals, name=name, arg_names=arg_names)
