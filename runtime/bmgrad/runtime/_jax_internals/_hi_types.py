"""Types that users define (hijax): the arrays that stand for their values.

In: such a type. Out: its *arrays*, those that it lowers to; and which of them *move*, so that their
tangents are together one of the type that the user names for tangents. That need not be what it
lowers to: a quantized matrix holds integers, and its tangent may be a matrix of floats. Then arrays
are added for it, *carriers*: they are zeros, and only derivatives read them. An array stands for
itself, so that all here takes any aval. Next: `_hi_operations.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import dtypes
from jax.experimental import hijax
from jax.interpreters import ad

from bmgrad.runtime._errors import UnsupportedError
from bmgrad.runtime._jax_internals._avals import has_tangent
from bmgrad.runtime._jax_internals._hi_lowering import lowering

# The class of operations has another name in each of the two versions.
Operation: Any = getattr(hijax, "HiPrim", None) or vars(hijax)["VJPHiPrimitive"]


def is_hi_type(aval: Any) -> bool:
    """Whether values of `aval` are of a type that users define, and never change."""
    return isinstance(aval, hijax.HiType)


def is_hi_value(value: Any) -> bool:
    """Whether `value`, or what a tracer stands for, is of such a type."""
    try:
        return is_hi_type(jax.typeof(value))
    except (TypeError, OverflowError):
        return False


class Standing(hijax.HiType):
    """The base of types of our own, which stand for those of users."""


def are_defined() -> bool:
    """Whether users define types; where they do not, no program is searched for values of them."""
    return any(cls is not Standing for cls in hijax.HiType.__subclasses__())


class Form(NamedTuple):
    """What stands for values of a type.

    Attributes:
      lowered: what JAX lowers them to. Those of dtype float0, which have no values, are no arrays.
      avals: those of the arrays: of `lowered`, then of carriers.
      moving: the positions among the arrays of those that have the tangents.
      tangent: the type of tangents; None where programs cannot hold any.
    """

    lowered: tuple[Any, ...]
    avals: tuple[Any, ...]
    moving: tuple[int, ...]
    tangent: Any

    @property
    def has_carriers(self) -> bool:
        return bool(self.moving) and self.moving[-1] >= sum(map(has_value, self.lowered))


@functools.lru_cache(maxsize=1024)
def form(aval: Any) -> Form:
    """What stands for values of `aval`."""
    lowered = _lowered(aval)
    arrays = tuple(filter(has_value, lowered))
    moving = tuple(i for i, array in enumerate(arrays) if has_tangent(array))
    if type(aval).to_tangent_aval is hijax.HiType.to_tangent_aval:
        return Form(lowered, arrays, (), None)
    tangent = aval.to_tangent_aval()
    if not is_hi_type(aval):
        return Form(lowered, arrays, moving, tangent)
    tangents = tuple(filter(has_value, _lowered(tangent)))
    if not all(map(has_tangent, tangents)):
        return Form(lowered, arrays, (), None)
    if [(t.shape, t.dtype) for t in tangents] == [
        (arrays[i].shape, arrays[i].dtype) for i in moving
    ]:
        return Form(lowered, arrays, moving, tangent)
    count = len(arrays)
    return Form(lowered, arrays + tangents, tuple(range(count, count + len(tangents))), tangent)


def _lowered(aval: Any) -> tuple[Any, ...]:
    if not is_hi_type(aval):
        return (aval,)
    lowered = tuple(lowering(aval).lo_ty())
    if inner := [lo for lo in lowered if is_hi_type(lo)]:
        raise UnsupportedError(
            f"the type {aval.str_short()} lowers to values of type {inner[0].str_short()}, which "
            "users define too; let lo_ty, lower_val and raise_val say arrays"
        )
    return lowered


def has_value(aval: Any) -> bool:
    """Whether arrays of `aval` hold anything: those of dtype float0 do not."""
    return getattr(aval, "dtype", None) != jax.dtypes.float0


# -- Values --------------------------------------------------------------------------------------


def to_arrays(aval: Any, value: Any) -> tuple[Any, ...]:
    """The arrays of a value, or of a tracer of one."""
    if not is_hi_type(aval):
        return (value,) if has_value(aval) else ()
    if isinstance(value, jax.core.Tracer):
        return tuple(Lower(aval)(value))
    lowered, known = lowering(aval, value).lower_val(value), form(aval)
    arrays = [x for x, lo in zip(lowered, known.lowered, strict=True) if has_value(lo)]
    return (*arrays, *zeros(known.avals[len(arrays) :]))


def to_value(aval: Any, arrays: Sequence[Any]) -> Any:
    """The value that these arrays stand for, as JAX traces it."""
    return Raise(aval)(*arrays) if is_hi_type(aval) else to_object(aval, arrays)


def to_object(aval: Any, arrays: Sequence[Any]) -> Any:
    """The value that these arrays stand for, as an object of the user's class."""
    given = iter(arrays)
    # Where JAX lowers a value it takes constants of NumPy as its own only.
    lowered = [
        next(given) if has_value(lo) else dtypes.canonicalize_value(np.zeros(lo.shape, lo.dtype))
        for lo in form(aval).lowered
    ]
    return lowering(aval).raise_val(*lowered) if is_hi_type(aval) else lowered[0]


def to_tangent(aval: Any, tangents: Mapping[int, Any] | Sequence[Any]) -> Any:
    """The tangent, or cotangent, of a value of `aval` from those of its arrays that move."""
    check_has_tangents([aval])
    known = form(aval)
    # A tangent has a tangent in its turn, for which there may be carriers.
    avals = form(known.tangent).avals
    moving = [tangents[i] for i in known.moving]
    return to_value(known.tangent, [*moving, *zeros(avals[len(moving) :])])


def from_tangent(aval: Any, tangent: Any) -> tuple[Any, ...]:
    """The tangents of the arrays from that of the value, or None: a `Zero` for what is zero."""
    known = form(aval)
    given = () if tangent is None else to_arrays(known.tangent, tangent)
    moved = dict(zip(known.moving, given, strict=False))
    pairs = enumerate(known.avals)
    return tuple(moved.get(i, ad.Zero(array.to_tangent_aval())) for i, array in pairs)


def zeros(avals: Sequence[Any]) -> list[Any]:
    """Arrays of these avals, of zeros."""
    return [jnp.zeros(aval.shape, aval.dtype) for aval in avals]


def check_has_tangents(avals: Sequence[Any]) -> None:
    """Raises where a derivative needs tangents that programs cannot hold."""
    for aval in avals:
        if form(aval).tangent is None:
            raise UnsupportedError(
                f"values of type {aval.str_short()} have no derivative in bmgrad programs, for the "
                "type of their tangents (to_tangent_aval) is not defined, or holds integers"
            )


class Raise(Operation):  # type: ignore[misc]
    """From arrays to the value that they stand for. It is for tracing: no rules."""

    def __init__(self, ty: Any) -> None:
        self.in_avals, self.out_aval, self.params = form(ty).avals, ty, {"ty": ty}
        super().__init__()

    def expand(self, *arrays: Any) -> Any:
        return to_object(self.out_aval, arrays)


class Lower(Operation):  # type: ignore[misc]
    """From a value to the arrays that stand for it. It is for tracing: no rules."""

    def __init__(self, ty: Any) -> None:
        self.in_avals, self.out_aval, self.params = (ty,), form(ty).avals, {"ty": ty}
        super().__init__()

    def expand(self, value: Any) -> Any:
        return to_arrays(self.in_avals[0], value)


# -- Trees ---------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HiArrays:
    """The arrays that stand for a value of type `ty`, where trees are to have arrays as leaves."""

    arrays: tuple[Any, ...]
    ty: Any = dataclasses.field(metadata={"static": True})


def is_hi_arrays(leaf: Any) -> bool:
    """Whether `leaf` stands for a value."""
    return isinstance(leaf, HiArrays)


def is_hi_node(kind: type) -> bool:
    """The like of the type of a container."""
    return kind is HiArrays


def has_hi_arrays(tree: Any) -> bool:
    """Whether anything in `tree` does."""
    return are_defined() and any(map(is_hi_arrays, jax.tree.leaves(tree, is_leaf=is_hi_arrays)))


def taken_apart(tree: Any) -> Any:
    """`tree` with `HiArrays` in the place of values of types that users define, if it has any."""
    if not are_defined() or not any(map(is_hi_value, jax.tree.leaves(tree))):
        return tree

    def arrays(leaf: Any) -> Any:
        ty = jax.typeof(leaf) if is_hi_value(leaf) else None
        return leaf if ty is None else HiArrays(to_arrays(ty, leaf), ty)

    return jax.tree.map(arrays, tree)


def put_together(tree: Any, value: Callable[[Any, Sequence[Any]], Any] = to_value) -> Any:
    """`tree` with `value(type, arrays)` in the place of `HiArrays`, if it has any."""
    if not has_hi_arrays(tree):
        return tree
    return jax.tree.map(
        lambda leaf: value(leaf.ty, leaf.arrays) if is_hi_arrays(leaf) else leaf,
        tree,
        is_leaf=is_hi_arrays,
    )


def tangents_put_together(tree: Any) -> Any:
    """The like for a tree of tangents, where `HiArrays` have the types that these belong to."""
    return put_together(tree, to_tangent)


def tangents_taken_apart(tree: Any, tangents: Any) -> Any:
    """What `tangents_put_together` makes `tangents` of, `tree` being that of what they belong to.

    Where they have another tree they are as they were.
    """
    if not are_defined() or not _has_hi_node(tree):
        return tangents
    outer: Any
    skeleton = jax.tree.unflatten(tree, range(tree.num_leaves))
    leaves, outer = jax.tree.flatten(skeleton, is_leaf=is_hi_arrays)
    try:
        given = outer.flatten_up_to(tangents)
    except ValueError:
        return tangents
    return jax.tree.unflatten(outer, map(_tangent_taken_apart, leaves, given))


def _has_hi_node(tree: Any) -> bool:
    node = tree.node_data()
    return node is not None and (is_hi_node(node[0]) or any(map(_has_hi_node, tree.children())))


def _tangent_taken_apart(leaf: Any, tangent: Any) -> Any:
    if not is_hi_arrays(leaf):
        return tangent
    pairs = zip(form(leaf.ty).avals, from_tangent(leaf.ty, tangent), strict=True)
    filled = (_filled(aval.to_tangent_aval(), x) for aval, x in pairs)
    return HiArrays(tuple(filled), leaf.ty)


def _filled(aval: Any, tangent: Any) -> Any:
    return np.zeros(aval.shape, aval.dtype) if isinstance(tangent, ad.Zero) else tangent
