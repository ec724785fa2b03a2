"""Between JAX's avals and MLIR's tensor types, as text.

In: `float32[2,3]` as `ShapedArray`. Out: `tensor<2x3xf32>`, and back. Element
types are spelled as in StableHLO; PRNG keys appear as the uint32 words they are.
"""

import re

import ml_dtypes
import numpy as np

from bmgrad.runtime._jax_internals import ShapedArray, physical_aval

_ELEMENTS: dict[str, np.dtype] = {
    spelled: np.dtype(dtype)
    for spelled, dtype in {
        "i1": np.bool_,
        "i2": ml_dtypes.int2,
        "i4": ml_dtypes.int4,
        "i8": np.int8,
        "i16": np.int16,
        "i32": np.int32,
        "i64": np.int64,
        "ui2": ml_dtypes.uint2,
        "ui4": ml_dtypes.uint4,
        "ui8": np.uint8,
        "ui16": np.uint16,
        "ui32": np.uint32,
        "ui64": np.uint64,
        "f4E2M1FN": ml_dtypes.float4_e2m1fn,
        "f8E3M4": ml_dtypes.float8_e3m4,
        "f8E4M3": ml_dtypes.float8_e4m3,
        "f8E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
        "f8E4M3FN": ml_dtypes.float8_e4m3fn,
        "f8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "f8E5M2": ml_dtypes.float8_e5m2,
        "f8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "f8E8M0FNU": ml_dtypes.float8_e8m0fnu,
        "f16": np.float16,
        "bf16": ml_dtypes.bfloat16,
        "f32": np.float32,
        "f64": np.float64,
        "complex<f32>": np.complex64,
        "complex<f64>": np.complex128,
    }.items()
}
_SPELLINGS = {dtype: spelled for spelled, dtype in _ELEMENTS.items()}
_TENSOR = re.compile(r"tensor<((?:\d+x)*)([a-z]\w*(?:<f\d+>)?)>")


def tensor_type(aval: ShapedArray) -> str:
    """The MLIR type of values of `aval`, for example `tensor<2x3xf32>`."""
    physical = physical_aval(aval)
    spelled = _SPELLINGS.get(np.dtype(physical.dtype))
    if spelled is None:
        raise TypeError(f"bmgrad has no tensor type for values of dtype {physical.dtype}")
    return "tensor<" + "".join(f"{n}x" for n in physical.shape) + spelled + ">"


def aval_of(tensor: str) -> ShapedArray:
    """The (strongly typed) aval of an MLIR tensor type, for example `float32[2,3]`."""
    match = _TENSOR.fullmatch(tensor)
    if match is None or match[2] not in _ELEMENTS:
        raise TypeError(f"not a tensor type of a bmgrad program: {tensor}")
    shape = tuple(int(n) for n in match[1].split("x") if n)
    return ShapedArray(shape, _ELEMENTS[match[2]])


def batched_aval(aval: ShapedArray, axis: int, size: int) -> ShapedArray:
    """`aval` over a batch, which is at `axis`; `aval` itself where that is below 0."""
    if axis < 0:
        return aval
    shape = (*aval.shape[:axis], size, *aval.shape[axis:])
    return ShapedArray(shape, aval.dtype, weak_type=aval.weak_type)
