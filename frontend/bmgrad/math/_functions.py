"""The array functions of ``bmgrad.math``: those of ``jax.numpy`` and ``jax.nn``, for ``bm.Array``.

In: the names below. Out: a function for each, made by ``_wrapping.py``. What it computes is jax's
business: a name that should be there is added to a list, not written. Next: ``__init__.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from bmgrad.math._wrapping import Indexed, as_jax, as_numpy, as_variable, export, inplace

# In jax.numpy: take arrays, give arrays or facts about them.
_NUMPY = """
    abs absolute acos acosh add all allclose amax amin angle any append apply_along_axis
    apply_over_axes arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin
    argpartition argsort argwhere around array array_equal array_equiv array_repr array_split
    array_str asarray asin asinh astype atan atan2 atanh atleast_1d atleast_2d atleast_3d average
    bartlett bincount bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not
    bitwise_or bitwise_right_shift bitwise_xor blackman block broadcast_arrays broadcast_shapes
    broadcast_to can_cast cbrt ceil choose clip column_stack compress concat concatenate conj
    conjugate convolve copy copysign corrcoef correlate cos cosh count_nonzero cov cross cumprod
    cumsum cumulative_prod cumulative_sum deg2rad degrees delete diag diag_indices diag_indices_from
    diagflat diagonal diff digitize divide divmod dot dsplit dstack ediff1d einsum einsum_path empty
    empty_like equal exp exp2 expand_dims expm1 extract eye fabs flatnonzero flip fliplr flipud
    float_power floor floor_divide fmax fmin fmod frexp from_dlpack frombuffer fromfunction fromiter
    fromstring full full_like gcd geomspace gradient greater greater_equal hamming hanning heaviside
    histogram histogram2d histogram_bin_edges histogramdd hsplit hstack hypot i0 identity imag
    indices inner insert interp intersect1d invert isclose iscomplex iscomplexobj isfinite isin
    isinf isnan isneginf isposinf isreal isrealobj isscalar iterable ix_ kaiser kron lcm ldexp
    left_shift less less_equal lexsort linspace log log10 log1p log2 logaddexp logaddexp2
    logical_and logical_not logical_or logical_xor logspace mask_indices matmul matrix_transpose
    matvec max maximum mean median meshgrid min minimum mod modf moveaxis multiply nan_to_num
    nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod
    nanquantile nanstd nansum nanvar ndim negative nextafter nonzero not_equal ones ones_like outer
    packbits pad partition percentile permute_dims piecewise poly polyadd polyder polydiv polyfit
    polyint polymul polysub polyval positive pow power prod ptp quantile rad2deg radians ravel
    ravel_multi_index real reciprocal remainder repeat reshape resize result_type right_shift rint
    roll rollaxis roots rot90 round searchsorted select setdiff1d setxor1d shape sign signbit sin
    sinc sinh size sort sort_complex spacing split sqrt square squeeze stack std subtract sum
    swapaxes take take_along_axis tan tanh tensordot tile trace transpose trapezoid tri tril
    tril_indices tril_indices_from trim_zeros triu triu_indices triu_indices_from true_divide trunc
    union1d unique unique_all unique_counts unique_inverse unique_values unpackbits unravel_index
    unstack unwrap vander var vdot vecdot vecmat vsplit vstack where zeros zeros_like
"""

# In jax.nn: the activation functions and their relatives.
_ACTIVATIONS = """
    celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu log_sigmoid log_softmax
    logmeanexp logsumexp mish one_hot relu relu6 selu sigmoid silu soft_sign softmax softplus
    sparse_plus sparse_sigmoid squareplus standardize swish
"""

# Names that numpy has dropped or spells otherwise and that older programs use.
_ALIASES = {
    "alltrue": "all",
    "asanyarray": "asarray",
    "ascontiguousarray": "asarray",
    "cumproduct": "cumprod",
    "in1d": "isin",
    "normalize": "standardize",
    "product": "prod",
    "round_": "round",
    "row_stack": "vstack",
    "sometrue": "any",
    "trapz": "trapezoid",
}

# In jax.numpy, but of no use with an immutable argument: they change the Array that comes first.
_INPLACE = ("fill_diagonal", "place", "put", "put_along_axis")

# Passed on as they are: dtypes and what describes them, constants, index helpers.
_AS_IS = """
    bfloat16 bool_ cdouble complex128 complex64 complex_ complexfloating csingle double float16
    float32 float64 float8_e4m3b11fnuz float8_e4m3fn float8_e5m2 float_ floating inexact int16 int32
    int4 int64 int8 int_ integer number signedinteger single uint uint16 uint32 uint4 uint64 uint8
    unsignedinteger dtype finfo iinfo isdtype issubdtype promote_types e euler_gamma inf nan newaxis
    pi get_printoptions printoptions set_printoptions index_exp s_
"""

# Objects that one indexes to make arrays.
_INDEXED = ("c_", "mgrid", "ogrid", "r_")

as_device_array = as_jax
as_ndarray = as_numpy

_HERE = globals()
_names = export(_NUMPY, jnp, _HERE, "bmgrad.math")
_names += export(_ACTIVATIONS, jax.nn, _HERE, "bmgrad.math")
for _old, _new in _ALIASES.items():
    if _new in _HERE:
        _HERE[_old] = _HERE[_new]
        _names.append(_old)
for _name in _INPLACE:
    _HERE[_name] = inplace(_name)
for _name in _AS_IS.split():
    _HERE[_name] = getattr(jnp, _name)
for _name in _INDEXED:
    _HERE[_name] = Indexed(_name)

__all__ = [
    *_names,
    *_INPLACE,
    *_AS_IS.split(),
    *_INDEXED,
    "as_device_array",
    "as_jax",
    "as_ndarray",
    "as_numpy",
    "as_variable",
]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
