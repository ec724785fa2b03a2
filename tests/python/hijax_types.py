"""Types of values that tests define with hijax, and operations on them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import hijax

Operation: Any = getattr(hijax, "HiPrim", None) or hijax.VJPHiPrimitive
# Only one of the two versions has these.
OlderPrimitive: Any = getattr(hijax, "HiPrimitive", None)
MutableType: Any = getattr(hijax, "MutableHiType", None)

ARRAY = jax.typeof(jnp.zeros(3))
X = jnp.array([0.5, -1.2, 2.0])


# -- Pairs: their tangents are pairs ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pair:
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class PairType(hijax.HiType):
    first: Any
    second: Any
    # JAX compares these of what loops carry and branches return.
    mat = None

    def lo_ty(self):
        return [self.first, self.second]

    def lower_val(self, pair):
        return [pair.first, pair.second]

    def raise_val(self, first, second):
        return Pair(first, second)

    def to_tangent_aval(self):
        return PairType(self.first.to_tangent_aval(), self.second.to_tangent_aval())

    def normalize(self):
        return PairType(self.first.normalize(), self.second.normalize())

    def vspace_add(self, one, other):
        return make_pair(first(one) + first(other), second(one) + second(other))

    def str_short(self, *_, **__):
        return "PairType"


hijax.register_hitype(Pair, lambda pair: PairType(*map(jax.typeof, (pair.first, pair.second))))


class MakePair(Operation):
    def __init__(self, first, second):
        self.in_avals, self.out_aval = (first, second), PairType(first, second)
        self.params = {}
        super().__init__()

    def expand(self, first, second):
        return Pair(first, second)

    def jvp(self, primals, tangents):
        return make_pair(*primals), make_pair(*map(hijax.instantiate_zeros, tangents))

    def vjp_fwd(self, flags, *args):
        return make_pair(*args), None

    def vjp_bwd_retval(self, _, ct):
        return first(ct), second(ct)

    def transpose(self, ct, *totals):
        for total, of_element in zip(totals, (first(ct), second(ct)), strict=True):
            if hasattr(total, "accum"):
                total.accum(of_element)


class Element(Operation):
    """An element of a pair; its gradient is ten times the true one, so that one sees whose it is.

    That is so for `scale=10`.
    """

    def __init__(self, pair, index, scale):
        self.in_avals = (pair,)
        self.out_aval = pair.second if index else pair.first
        self.params = {"index": index, "scale": scale}
        super().__init__()

    def expand(self, pair):
        return pair.second if self.index else pair.first

    def jvp(self, primals, tangents):
        (dot,) = tangents
        of_element = Element(jax.typeof(dot), self.index, 1)(dot)
        return self(*primals), of_element if is_float0(of_element) else self.scale * of_element

    def vjp_fwd(self, flags, pair):
        return self(pair), None

    def vjp_bwd_retval(self, _, ct):
        ty = self.in_avals[0]
        cts = [zero_tangent(aval) for aval in (ty.first, ty.second)]
        cts[self.index] = self.scale * ct
        return (make_pair(*cts),)

    def transpose(self, ct, total):
        total.accum(*self.vjp_bwd_retval(None, ct))


def is_float0(x):
    return x.dtype == jax.dtypes.float0


def zero_tangent(aval):
    aval = aval.to_tangent_aval()
    zeros = np if is_float0(aval) else jnp
    return zeros.zeros(aval.shape, aval.dtype)


def make_pair(one, other):
    return MakePair(jax.typeof(one), jax.typeof(other))(one, other)


def first(pair, scale=1):
    return Element(jax.typeof(pair), 0, scale)(pair)


def second(pair, scale=1):
    return Element(jax.typeof(pair), 1, scale)(pair)


# -- Quantized arrays: their tangents are arrays of floats -----------------------------------------


@dataclasses.dataclass(frozen=True)
class Quantized:
    integers: Any
    scale: Any


class Leading(getattr(hijax, "MappingSpec", object)):
    """Says that a batch is along the first dimension."""


@dataclasses.dataclass(frozen=True)
class QuantizedType(hijax.HiType):
    shape: tuple[int, ...]
    mat = None

    def lo_ty(self):
        return [
            jax.core.ShapedArray(self.shape, np.dtype("int8")),
            jax.core.ShapedArray(self.shape[:-1], np.dtype("float32")),
        ]

    def lower_val(self, value):
        return [value.integers, value.scale]

    def raise_val(self, integers, scale):
        return Quantized(integers, scale)

    def to_tangent_aval(self):
        return jax.core.ShapedArray(self.shape, np.dtype("float32"))

    def dec_rank(self, size, spec):
        return self if spec is None else type(self)(self.shape[1:])

    def inc_rank(self, size, spec):
        return self if spec is None else type(self)((size, *self.shape))

    def leading_axis_spec(self):
        return Leading()

    def str_short(self, *_, **__):
        return f"{type(self).__name__}{self.shape}"


hijax.register_hitype(Quantized, lambda value: QuantizedType(value.integers.shape))


class Quantize(Operation):
    """Rounds, with the derivative of the identity."""

    def __init__(self, aval):
        self.in_avals, self.out_aval, self.params = (aval,), QuantizedType(aval.shape), {}
        super().__init__()

    def expand(self, x):
        scale = jnp.max(jnp.abs(x), -1) / 127
        return Quantized(jnp.round(x / scale[..., None]).astype(jnp.int8), scale)

    def vjp_fwd(self, flags, x):
        return self(x), None

    def vjp_bwd_retval(self, _, ct):
        return (ct,)

    def batch(self, axis_data, args, dims):
        return quantize(jnp.moveaxis(*args, *dims, 0)), Leading()


class Dequantize(Operation):
    def __init__(self, ty):
        self.in_avals, self.out_aval, self.params = (ty,), ty.to_tangent_aval(), {}
        super().__init__()

    def expand(self, value):
        return value.integers * value.scale[..., None]

    def vjp_fwd(self, flags, value):
        return self(value), None

    def vjp_bwd_retval(self, _, ct):
        return (ct,)

    def batch(self, axis_data, args, dims):
        return dequantize(*args), 0


def quantize(x):
    return Quantize(jax.typeof(x))(x)


def dequantize(value):
    return Dequantize(jax.typeof(value))(value)
