"""Primitives that JAX can run, outside of `jit`, and not lower: their implementation is called.

In: such a primitive. Out: a lowering rule. A callback may run in a thread of XLA's, which knows
nothing of a `jax.enable_x64` around the call, and JAX would narrow 64 bits there. So these
cross as words of 32 bits.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import dispatch
from jax.interpreters import mlir

_WORD = np.dtype(np.uint32)


def rules_by_implementation(
    primitive: Any, platforms: Sequence[str]
) -> tuple[tuple[Any, Callable[..., Any]], ...]:
    """The lowering rule of `primitive`, where JAX has none and it has an implementation."""
    tables = [mlir._lowerings, *(mlir._platform_specific_lowerings[p] for p in platforms)]
    implementation = vars(primitive).get("impl") if primitive else None
    # JAX's way to run what can be lowered.
    is_lowering = getattr(implementation, "func", None) is dispatch.apply_primitive
    if implementation is None or is_lowering or any(primitive in table for table in tables):
        return ()
    x64 = bool(jax.config.read("jax_enable_x64"))

    def rule(ctx: Any, *args: Any, **params: Any) -> Any:
        call = _Call(primitive, implementation, params, ctx.avals_in, ctx.avals_out, x64)
        return mlir.lower_fun(call.from_program)(ctx, *args)

    return ((primitive, rule),)


class _Call:
    """Of `implementation`, with operands and results of these avals."""

    def __init__(
        self,
        primitive: Any,
        implementation: Callable[..., Any],
        params: Mapping[str, Any],
        in_avals: Sequence[Any],
        out_avals: Sequence[Any],
        x64: bool,
    ) -> None:
        self._implementation, self._params, self._x64 = implementation, params, x64
        self._has_many = primitive.multiple_results
        self._in_avals, self._out_avals = in_avals, out_avals

    def from_program(self, *values: Any) -> list[Any]:
        """The results, by operations of JAX."""
        avals = [jax.ShapeDtypeStruct(*_shape_in_words(aval)) for aval in self._out_avals]
        found = jax.pure_callback(self._on_host, avals, *map(_to_words, values))
        return list(map(_from_words, found, self._out_avals))

    def _on_host(self, *words: Any) -> list[np.ndarray[Any, Any]]:
        with jax.enable_x64(self._x64):
            args = map(_read_words, words, self._in_avals)
            found = self._implementation(*args, **self._params)
            results = found if self._has_many else [found]
            pairs = zip(results, self._out_avals, strict=True)
            return [_written_words(x, aval) for x, aval in pairs]


def _words_in(dtype: Any) -> int:
    """How many words a number is put into; 0 if it crosses as it is."""
    # Keys are words already.
    is_plain = dtype == np.complex64 or jnp.issubdtype(dtype, jax.dtypes.extended)
    return 0 if is_plain or dtype.itemsize < 8 else dtype.itemsize // _WORD.itemsize


def _shape_in_words(aval: Any) -> tuple[tuple[int, ...], Any]:
    count = _words_in(aval.dtype)
    return ((*aval.shape, count), _WORD) if count else (aval.shape, aval.dtype)


def _to_words(x: Any) -> Any:
    if not _words_in(x.dtype):
        return x
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag], axis=-1)
        return jax.lax.bitcast_convert_type(x, _WORD).reshape(*x.shape[:-1], 4)
    return jax.lax.bitcast_convert_type(x, _WORD)


def _from_words(words: Any, aval: Any) -> Any:
    if not _words_in(aval.dtype):
        return words
    if jnp.issubdtype(aval.dtype, jnp.complexfloating):
        parts = jax.lax.bitcast_convert_type(words.reshape(*aval.shape, 2, 2), np.float64)
        return jax.lax.complex(parts[..., 0], parts[..., 1])
    return jax.lax.bitcast_convert_type(words, aval.dtype)


def _read_words(words: Any, aval: Any) -> jax.Array:
    if not _words_in(aval.dtype):
        return jnp.asarray(words)
    return jnp.asarray(np.ascontiguousarray(words).view(aval.dtype)[..., 0])


def _written_words(x: Any, aval: Any) -> np.ndarray[Any, Any]:
    plain = np.asarray(x)
    if not _words_in(aval.dtype) or plain.dtype != aval.dtype:
        return plain
    return np.ascontiguousarray(plain[..., None]).view(_WORD)
