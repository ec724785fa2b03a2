"""``bm.Array``: a jax array in a box, so that a class can change its values in place.

In: anything ``jax.numpy`` makes an array of. Out: an object whose *identity* is the variable and
whose ``value`` is an immutable jax array. Reads and writes go through :attr:`Array.value` alone,
which is where a tracer sees them. Next: ``_variable.py`` (variables), ``_tracing_state.py`` (the
hook).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey, register_pytree_with_keys

from bmgrad._array_checks import check_bounds, left_behind, no_array, rank, scalar_rank
from bmgrad._tracing_state import _stack
from bmgrad.runtime import _jax_internals, _trees
from bmgrad.runtime._dispatch import begin_array, new_array, node_functions
from bmgrad.runtime._jax_internals import ConcreteArray

if TYPE_CHECKING:
    from jax.typing import DTypeLike

__all__ = ["Array", "result", "unwrap", "wrap"]

A = TypeVar("A", bound="Array")


def unwrap(tree: Any) -> Any:
    """``tree`` with every :class:`Array` in it replaced by its value."""
    if isinstance(tree, Array):
        return tree.value
    if isinstance(tree, (list, tuple, dict)):
        return jax.tree.map(unwrap, tree, is_leaf=_is_array)
    return tree


def wrap(tree: Any) -> Any:
    """``tree`` with every jax array or tracer in it put into an :class:`Array`."""
    if isinstance(tree, jax.Array):
        return _new(tree)
    if isinstance(tree, (list, tuple, dict)):
        return jax.tree.map(wrap, tree, is_leaf=_is_array)
    return tree


def result(tree: Any) -> Any:
    """``wrap`` for what operators and functions give: scalars come as jax arrays.

    A number that was computed is rarely changed in place, and JAX takes jax arrays where it
    looks at the class of what it is given: as an index, as the condition of a loop.
    """
    if isinstance(tree, jax.Array):
        return _new(tree) if tree.ndim else tree
    if isinstance(tree, (list, tuple, dict)):
        return jax.tree.map(result, tree, is_leaf=_is_array)
    return tree


def _is_array(x: object) -> bool:
    return isinstance(x, Array)


def _new(value: Any) -> Array:
    """An Array that holds ``value`` unchecked (jax puts tracers and placeholders into pytrees)."""
    return new_array(Array, value)


def _to_jax(value: Any, dtype: DTypeLike | None = None) -> jax.Array:
    value = unwrap(value)
    if isinstance(value, jax.Array):
        array: jax.Array = _jax_internals.revived(value)
        return array if dtype is None else array.astype(dtype)
    # jnp.array copies: a numpy array that the caller changes later must not change ours.
    return jnp.array(value, dtype=dtype)


def _index(index: Any) -> Any:
    """``index`` as jax.numpy takes it: without Arrays, lists as arrays."""
    if isinstance(index, tuple):
        return tuple(_index(item) for item in index)
    if isinstance(index, list):
        return jnp.asarray(unwrap(index), dtype=None if index else jnp.int32)
    if isinstance(index, slice):
        return slice(unwrap(index.start), unwrap(index.stop), unwrap(index.step))
    return unwrap(index)


def _binary(op: Callable[[Any, Any], Any]) -> Callable[[Array, Any], Array]:
    def method(self: Array, other: Any) -> Array:
        return cast("Array", result(op(self.value, unwrap(other))))

    return method


def _reflected(op: Callable[[Any, Any], Any]) -> Callable[[Array, Any], Array]:
    def method(self: Array, other: Any) -> Array:
        return cast("Array", result(op(unwrap(other), self.value)))

    return method


def _inplace(op: Callable[[Any, Any], Any]) -> Callable[[A, Any], A]:
    def method(self: A, other: Any) -> A:
        self._store(op(self.value, unwrap(other)))
        return self

    return method


def _unary(op: Callable[[Any], Any]) -> Callable[[Array], Array]:
    def method(self: Array) -> Array:
        return cast("Array", result(op(self.value)))

    return method


def _method(name: str) -> Callable[..., Array]:
    def method(self: Array, *args: Any, **kwargs: Any) -> Array:
        bound = getattr(self.value, name)
        args, kwargs = unwrap(args), unwrap(kwargs)
        return cast("Array", result(bound(*args, **kwargs)))

    method.__name__ = name
    method.__doc__ = f"See :func:`jax.numpy.{name}`."
    return method


class Array:
    """An array of numbers whose values can be changed in place.

    It behaves as ``numpy.ndarray`` does, computes as ``jax.numpy`` does (float32 by default,
    lazily, on any device), and can be handed to any function of JAX. Arithmetic gives a new
    ``Array``, or a jax array where the result has no axes; ``x[i] = v``, ``x += v``,
    ``x.value = v``, ``x.fill(v)`` and ``x.sort()`` change ``x`` itself, for everyone who holds it.

    Args:
        value: an array, a number, or nested lists of them, which may contain ``Array`` objects.
        dtype: the element type; by default the one that ``jax.numpy.array`` would choose.

    Raises:
        ValueError: a write would change the shape.
        TypeError: a write would change the dtype, or put floats into integers.
        IndexError: an integer index lies outside its axis.

    Example:
        >>> import bmgrad.math as bm
        >>> x = bm.Array([1.0, 2.0, 3.0])
        >>> x[0] = 5
        >>> x += 1
        >>> x
        Array([6., 3., 4.], dtype=float32)

    Objects compare elementwise and hash by identity, so they can be keys of a dictionary.
    """

    # _lifted: a compiled program reads this object (set by the tracer).
    # _name: how messages and programs call it, e.g. 'Linear0.w' (set when a node takes it as an
    # attribute).
    # _left_behind: a value of a trace, and why it is still held when that is over.
    __slots__ = ("__weakref__", "_left_behind", "_lifted", "_name", "_value")

    # Above jax.Array's 100, so that numpy leaves ``ndarray + Array`` to us.
    __array_priority__ = 1000

    _value: Any
    _lifted: bool
    _name: str | None
    _left_behind: tuple[Any, str]
    _how_to_mend = ""  # How one of this class is given a value, if in a way of its own.

    def __init__(self, value: Any, dtype: DTypeLike | None = None) -> None:
        self._value = _to_jax(value, dtype)
        begin_array(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _register(cls)

    # ---- the value: the only way in and out

    @property
    def value(self) -> jax.Array:
        """The jax array that this object holds now (a tracer while a function is being traced)."""
        context = _stack.top
        held: jax.Array = self._value if context is None else context.read(self)
        is_usable = context is not None or type(held) is ConcreteArray
        if not is_usable and _jax_internals.is_left_behind(held):
            held = self._value = _jax_internals.revived(held)
            if _jax_internals.is_left_behind(held):
                raise left_behind("what runs here", self)
        return held

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(value, (bool, int, float, complex)):  # numbers have no dtype of their own
            value = self._cast_scalar(value)
        try:
            value = _to_jax(value)
        except (TypeError, ValueError) as error:
            raise no_array(error, self._label(), value) from None
        if value.shape != self._value.shape:
            raise ValueError(
                f"{self._label()} has shape {self._value.shape}, but the new value has shape "
                f"{value.shape}. Reshape the value, or bind a new array to the name or attribute."
            )
        if value.dtype != self._value.dtype:
            raise TypeError(
                f"{self._label()} has dtype {self._value.dtype}, but the new value has dtype "
                f"{value.dtype}. Convert it first: value.astype('{self._value.dtype}')."
            )
        # A weak type that creeps in would make another input type of a compiled program.
        if getattr(value, "weak_type", False) and not getattr(self._value, "weak_type", False):
            value = jax.lax.convert_element_type(value, value.dtype)
        context = _stack.top
        if context is None:
            self._value = value
        else:
            context.write(self, value)

    def update(self, value: Any) -> None:
        """Give the array new values of the same shape and dtype: as ``x.value = value`` does."""
        self.value = value

    def _label(self) -> str:
        kind = type(self).__name__
        return kind if self._name is None else f"{kind} '{self._name}'"

    def _cast_scalar(self, value: complex) -> jax.Array:
        if scalar_rank(value) > rank(self.dtype):
            raise TypeError(self._lossy(f"the number {value!r}"))
        return jnp.asarray(value, dtype=self.dtype)

    def _cast(self, value: Any) -> jax.Array:
        """``value`` in the dtype of this array, if it has that kind or a lower one."""
        if isinstance(value, (bool, int, float, complex)):
            return self._cast_scalar(value)
        array = _to_jax(value)
        if array.dtype == self.dtype:
            return array
        if rank(array.dtype) > rank(self.dtype):
            raise TypeError(self._lossy(f"values of dtype {array.dtype}"))
        return array.astype(self.dtype)

    def _lossy(self, what: str) -> str:
        return (
            f"{self._label()} has dtype {self.dtype}, and writing {what} into it would lose "
            f"information. Convert first with .astype('{self.dtype}'), or make a new array "
            "(x = x + y instead of x += y)."
        )

    def _store(self, result: Any) -> None:
        """Take the result of an in-place operator."""
        self.value = self._cast(result)

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return cast("tuple[int, ...]", self._value.shape)

    @property
    def dtype(self) -> Any:
        """The element type, as numpy's."""
        return self._value.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._value.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(self._value.size)

    @property
    def nbytes(self) -> int:
        """The bytes that the elements take."""
        return self.size * self.itemsize

    @property
    def itemsize(self) -> int:
        """The bytes that one element takes."""
        return int(self.dtype.itemsize)

    @property
    def weak_type(self) -> bool:
        """Whether the dtype gives way to that of the other operand, as a Python number's does."""
        return bool(self._value.weak_type)

    @property
    def T(self) -> Array:
        """The array with its axes in reverse order."""
        return cast("Array", result(self.value.T))

    @property
    def mT(self) -> Array:
        """The array with its last two axes exchanged."""
        return cast("Array", result(self.value.mT))

    @property
    def real(self) -> Array:
        """The real part."""
        return cast("Array", result(self.value.real))

    @property
    def imag(self) -> Array:
        """The imaginary part."""
        return cast("Array", result(self.value.imag))

    @property
    def at(self) -> _At:
        """``x.at[i].set(v)``, ``.add(v)``, ... give a changed copy, as jax arrays' do."""
        return _At(self)

    @property
    def device(self) -> Any:
        """The device, or the sharding, that holds the value."""
        return self.value.device

    @property
    def sharding(self) -> Any:
        """How the value is laid out over devices."""
        return self.value.sharding

    def devices(self) -> set[jax.Device]:
        """The devices that hold the value."""
        return self.value.devices()

    def block_until_ready(self) -> Self:
        """Wait until the value has been computed, and return the array."""
        jax.block_until_ready(self.value)
        return self

    # ---- to other libraries

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Any:
        return np.array(self.value, dtype=dtype, copy=copy)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.value.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.value.__dlpack_device__()  # type: ignore[attr-defined]  # not in its type

    def to_numpy(self, dtype: DTypeLike | None = None) -> np.ndarray[Any, Any]:
        """The values as a new ``numpy.ndarray``."""
        return np.array(self.value, dtype=dtype)

    numpy = to_numpy

    def to_jax(self, dtype: DTypeLike | None = None) -> jax.Array:
        """The values as a ``jax.Array``."""
        return _to_jax(self, dtype)

    def item(self, *args: int) -> Any:
        """One element as a Python number: the only one, or the one at ``args``."""
        return self.value.item(*args)

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.value.tolist()

    def tobytes(self, order: Any = "C") -> bytes:
        """The bytes of the values, as ``numpy.ndarray.tobytes`` gives them."""
        return np.asarray(self.value).tobytes(order)

    def __getstate__(self) -> dict[str, Any]:
        state = {"_value": self.value, "_name": self._name}
        return state | getattr(self, "__dict__", {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        begin_array(self)
        for name, value in state.items():
            setattr(self, name, value)

    # ---- Python's own protocols

    def __repr__(self) -> str:
        text, name = repr(self._shown()), type(self).__name__
        if not text.startswith("Array("):
            return f"{name}({text})"
        body = text.removeprefix("Array(").replace("\n" + " " * 6, "\n" + " " * (len(name) + 1))
        return f"{name}({body}"

    def __str__(self) -> str:
        return str(self._shown())

    def _shown(self) -> Any:
        """The value to be looked at, which may be one that cannot be used."""
        return self._value if _stack.top is None else self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    # Equality is elementwise, so the hash cannot follow the values: the object is the variable.
    __hash__ = object.__hash__

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without axes; its shape is ()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return map(result, self.value)

    def __contains__(self, item: Any) -> bool:
        return bool((self.value == unwrap(item)).any())

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __complex__(self) -> complex:
        return complex(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    def __round__(self, ndigits: int = 0) -> Array:
        return cast("Array", result(self.value.round(ndigits)))

    def __getitem__(self, index: Any) -> Array:
        index = _index(index)
        check_bounds(index, self.shape)
        return cast("Array", result(self.value[index]))

    def __setitem__(self, index: Any, value: Any) -> None:
        index = _index(index)
        check_bounds(index, self.shape)
        self.value = self.value.at[index].set(self._cast(value))

    # ---- operators

    __neg__ = _unary(operator.neg)
    __pos__ = _unary(operator.pos)
    __abs__ = _unary(operator.abs)
    __invert__ = _unary(operator.invert)

    __eq__ = _binary(operator.eq)  # type: ignore[assignment]  # elementwise, as numpy's
    __ne__ = _binary(operator.ne)  # type: ignore[assignment]
    __lt__ = _binary(operator.lt)
    __le__ = _binary(operator.le)
    __gt__ = _binary(operator.gt)
    __ge__ = _binary(operator.ge)

    __add__ = _binary(operator.add)
    __sub__ = _binary(operator.sub)
    __mul__ = _binary(operator.mul)
    __truediv__ = _binary(operator.truediv)
    __floordiv__ = _binary(operator.floordiv)
    __mod__ = _binary(operator.mod)
    __divmod__ = _binary(divmod)
    __pow__ = _binary(operator.pow)
    __matmul__ = _binary(operator.matmul)
    __and__ = _binary(operator.and_)
    __or__ = _binary(operator.or_)
    __xor__ = _binary(operator.xor)
    __lshift__ = _binary(operator.lshift)
    __rshift__ = _binary(operator.rshift)

    __radd__ = _reflected(operator.add)
    __rsub__ = _reflected(operator.sub)
    __rmul__ = _reflected(operator.mul)
    __rtruediv__ = _reflected(operator.truediv)
    __rfloordiv__ = _reflected(operator.floordiv)
    __rmod__ = _reflected(operator.mod)
    __rdivmod__ = _reflected(divmod)
    __rpow__ = _reflected(operator.pow)
    __rmatmul__ = _reflected(operator.matmul)
    __rand__ = _reflected(operator.and_)
    __ror__ = _reflected(operator.or_)
    __rxor__ = _reflected(operator.xor)
    __rlshift__ = _reflected(operator.lshift)
    __rrshift__ = _reflected(operator.rshift)

    __iadd__ = _inplace(operator.add)
    __isub__ = _inplace(operator.sub)
    __imul__ = _inplace(operator.mul)
    __itruediv__ = _inplace(operator.truediv)
    __ifloordiv__ = _inplace(operator.floordiv)
    __imod__ = _inplace(operator.mod)
    __ipow__ = _inplace(operator.pow)
    __imatmul__ = _inplace(operator.matmul)
    __iand__ = _inplace(operator.and_)
    __ior__ = _inplace(operator.or_)
    __ixor__ = _inplace(operator.xor)
    __ilshift__ = _inplace(operator.lshift)
    __irshift__ = _inplace(operator.rshift)

    # ---- methods that change the array, as numpy's do

    def fill(self, value: Any) -> None:
        """Set every element to the number ``value``."""
        self.value = jnp.full_like(self.value, self._cast(value))

    def sort(self, axis: int = -1, *, stable: bool = True, descending: bool = False) -> None:
        """Sort along ``axis``, in place."""
        self.value = jnp.sort(self.value, axis=axis, stable=stable, descending=descending)

    # ---- methods that give a new array

    all = _method("all")
    any = _method("any")
    argmax = _method("argmax")
    argmin = _method("argmin")
    argpartition = _method("argpartition")
    argsort = _method("argsort")
    astype = _method("astype")
    choose = _method("choose")
    clip = _method("clip")
    compress = _method("compress")
    conj = _method("conj")
    conjugate = _method("conjugate")
    copy = _method("copy")
    cumprod = _method("cumprod")
    cumsum = _method("cumsum")
    diagonal = _method("diagonal")
    dot = _method("dot")
    flatten = _method("flatten")
    max = _method("max")
    mean = _method("mean")
    min = _method("min")
    nonzero = _method("nonzero")
    prod = _method("prod")
    ptp = _method("ptp")
    ravel = _method("ravel")
    repeat = _method("repeat")
    reshape = _method("reshape")
    round = _method("round")
    searchsorted = _method("searchsorted")
    squeeze = _method("squeeze")
    std = _method("std")
    sum = _method("sum")
    swapaxes = _method("swapaxes")
    take = _method("take")
    trace = _method("trace")
    transpose = _method("transpose")
    var = _method("var")
    view = _method("view")


class _At:
    """``x.at``: jax's indexed updates, with Arrays allowed as indices and values."""

    __slots__ = ("_array",)

    def __init__(self, array: Array) -> None:
        self._array = array

    def __getitem__(self, index: Any) -> _IndexedUpdate:
        return _IndexedUpdate(self._array.value.at[_index(index)])


class _IndexedUpdate:
    __slots__ = ("_reference",)

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def __getattr__(self, name: str) -> Callable[..., Array]:
        method = getattr(self._reference, name)

        def call(*args: Any, **kwargs: Any) -> Array:
            args, kwargs = unwrap(args), unwrap(kwargs)
            return cast("Array", result(method(*args, **kwargs)))

        return call


def _register(cls: type[Array]) -> None:
    """Make ``cls`` a pytree node with one child; out of a pytree comes a plain Array."""
    _jax_internals.accept_as_array(cls, lambda array: array.value)
    _trees.register_node(cls, "bm.Array", lambda children: _new(*children))
    flatten, unflatten = node_functions(Array)
    register_pytree_with_keys(
        cls,
        lambda array: (((GetAttrKey("value"), array.value),), None),
        unflatten,
        flatten,
    )


_register(Array)
