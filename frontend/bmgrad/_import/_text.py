"""MLIR as text: types, values, constants and attributes.

In: JAX's avals and NumPy arrays. Out: the pieces of text that `_module.py` puts together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from bmgrad.runtime._jax_internals import ShapedArray, physical_aval
from bmgrad.runtime._types import tensor_type


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor type: of the buffer, so PRNG keys are `uint32[..., n]`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    text: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def with_shape(self, shape: Iterable[int]) -> TensorType:
        return type_of_array(tuple(shape), self.dtype)

    def with_dtype(self, dtype: Any) -> TensorType:
        return type_of_array(self.shape, np.dtype(dtype))


@dataclass(slots=True)
class Value:
    """An SSA value by its name, `%12` or `%12#1`."""

    name: str
    type: TensorType


@functools.lru_cache(maxsize=8192)
def type_of_array(shape: tuple[int, ...], dtype: Any) -> TensorType:
    """The type of arrays of this shape and dtype; `TypeError` where bmgrad has none."""
    if not all(isinstance(n, int) for n in shape):
        raise TypeError(f"the shape {shape} is not static")
    if dtype == jax.dtypes.float0:
        # Tangents of integers, which some derivative rules hand around: nobody reads them.
        dtype = np.dtype(np.bool_)
    aval = ShapedArray(shape, dtype)
    physical = physical_aval(aval)
    return TensorType(tuple(physical.shape), np.dtype(physical.dtype), tensor_type(aval))


# -- Constants -----------------------------------------------------------------------------------


def dense(array: np.ndarray[Any, Any], type: TensorType) -> str:
    """The elements attribute of `type` that holds `array`, of its shape or a scalar to spread."""
    if array.size == 0:
        return f"dense<> : {type.text}"
    data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    # Bytes, not values: -0.0 equals 0.0 and NaN is not equal to itself.
    if data == data[: array.itemsize] * array.size:
        return f"dense<{_scalar(array.reshape(-1)[0])}> : {type.text}"
    if array.dtype == np.bool_:
        return f"dense<{str(array.tolist()).lower()}> : {type.text}"
    return f'dense<"0x{data.hex().upper()}"> : {type.text}'


def _scalar(x: Any) -> str:
    kind = x.dtype.kind
    if kind == "b":
        return "true" if x else "false"
    if kind in "iu" or jax.numpy.issubdtype(x.dtype, np.integer):
        return str(int(x))
    if kind == "c":
        return f"({_float(x.real)}, {_float(x.imag)})"
    return _float(x)


def _float(x: Any) -> str:
    # A decimal number that names a double exactly names a narrower float exactly.
    value = float(x)
    if not math.isfinite(value):
        bits = x.tobytes()[::-1].hex().upper()
        return f"0x{bits}"
    decimal = repr(value)
    if "e" in decimal and "." not in decimal:
        decimal = decimal.replace("e", ".0e")
    return decimal


# -- Attributes ----------------------------------------------------------------------------------


def string(text: str) -> str:
    """`text` as an MLIR string literal."""
    escaped = []
    for byte in text.encode():
        if byte < 0x20 or byte >= 0x7F or byte in b'"\\':
            escaped.append(f"\\{byte:02X}")
        else:
            escaped.append(chr(byte))
    return '"' + "".join(escaped) + '"'


def i64(value: Any) -> str:
    return f"{int(value)} : i64"


def i32(value: Any) -> str:
    return f"{int(value)} : i32"


def i64_array(values: Iterable[Any]) -> str:
    items = ", ".join(str(int(v)) for v in values)
    return f"array<i64: {items}>" if items else "array<i64>"


def i32_array(values: Iterable[Any]) -> str:
    items = ", ".join(str(int(v)) for v in values)
    return f"array<i32: {items}>" if items else "array<i32>"


def is_key(aval: Any) -> bool:
    """Whether the elements are PRNG keys."""
    return bool(jax.numpy.issubdtype(aval.dtype, jax.dtypes.extended))
