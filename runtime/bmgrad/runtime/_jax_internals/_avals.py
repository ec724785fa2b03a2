"""Avals, and where arrays lie on a mesh."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax._src import array, core, dtypes, sharding_impls
from jax._src import mesh as internal_mesh
from jax.sharding import PartitionSpec

from bmgrad.runtime._errors import UnsupportedError, no_values_of

ShapedArray = jax.core.ShapedArray
# What holds values, as tracers do not.
ConcreteArray: type = array.ArrayImpl


def plain_aval(aval: Any) -> ShapedArray:
    """`aval` without sharding or memory space: shape, dtype and weak type only."""
    try:
        return _plain_aval(aval.shape, aval.dtype, aval.weak_type)
    except AttributeError:
        raise UnsupportedError(no_values_of(aval)) from None


# Making one takes 4 us, and each argument has a dozen on its way.
@functools.lru_cache(maxsize=1024)
def _plain_aval(shape: tuple[int, ...], dtype: Any, weak_type: bool) -> ShapedArray:
    return ShapedArray(shape, dtype, weak_type=weak_type)


def physical_aval(aval: ShapedArray) -> ShapedArray:
    """The aval of the buffer behind `aval`: PRNG keys become uint32, the rest stays."""
    physical: ShapedArray = core.physical_aval(aval)
    return physical


def tangent_aval(aval: ShapedArray) -> ShapedArray:
    """The aval of `aval`'s tangents: its own, or float0 where it is not differentiable."""
    tangent: ShapedArray = aval.to_tangent_aval()
    return tangent


def has_tangent(aval: ShapedArray) -> bool:
    """Whether `aval` is differentiable: float or complex, and no reference."""
    if is_reference_aval(aval):
        return False
    # Types that users define (hijax) have no dtype; values of them are refused elsewhere.
    return getattr(aval.to_tangent_aval(), "dtype", jax.dtypes.float0) != jax.dtypes.float0


def is_reference_aval(aval: Any) -> bool:
    """Whether `aval` is of references."""
    return isinstance(aval, jax.ref.AbstractRef)


def is_reference(value: Any) -> bool:
    """Whether `value` is a mutable array, as `jax.new_ref` makes them."""
    try:
        return is_reference_aval(jax.typeof(value))
    except (TypeError, OverflowError):
        return False


def referent_key(reference: Any) -> int:
    """Equal for two that are the same reference."""
    return id(core.get_referent(reference))


def match_varying(args: Sequence[Any]) -> Sequence[Any]:
    """Makes `args` vary over the same manual mesh axes, as JAX does before an `add`.

    Matters inside `jax.shard_map` only.
    """
    matched: Sequence[Any] = core.auto_insert_reshard(*args)
    return matched


def placed_like(
    name: str, out_avals: Sequence[ShapedArray], in_avals: Sequence[ShapedArray]
) -> list[ShapedArray]:
    """`out_avals` as results on the current mesh of an operation on `in_avals`.

    They vary over the manual axes that the operands vary over (inside `shard_map`),
    and are replicated over explicit axes.
    """
    if core.get_cur_mesh_sharding().mesh.empty:
        return list(out_avals)
    mat = core.ManualAxisType(varying=core.standard_vma_rule(name, *in_avals))
    return [
        ShapedArray(
            aval.shape,
            aval.dtype,
            weak_type=aval.weak_type,
            sharding=core.get_cur_mesh_sharding(PartitionSpec(*[None] * aval.ndim)),
            manual_axis_type=mat,
        )
        for aval in out_avals
    ]


def placed_as_cotangent(ct: Any, primal: ShapedArray) -> Any:
    """`ct` on the explicit mesh axes that JAX expects of a cotangent of `primal`."""
    wanted = primal.to_ct_aval().sharding
    if wanted.mesh.empty or jax.typeof(ct).sharding == wanted:
        return ct
    return jax.reshard(ct, wanted)


def aval_on_mesh(value: Any) -> ShapedArray:
    """The aval of `value`, with its place on explicit mesh axes, if it has one."""
    aval = jax.typeof(value)
    plain, mesh = plain_aval(aval), aval.sharding.mesh
    if not mesh.explicit_axes or mesh.manual_axes:
        return plain
    placed: ShapedArray = plain.update(sharding=aval.sharding)
    return placed


def placed_as(value: Any, aval: ShapedArray) -> Any:
    """`value` in the place of `aval` on the mesh with explicit axes that is set, if it has one."""
    wanted = aval.sharding
    if wanted.mesh.empty or jax.typeof(value).sharding == wanted or explicit_mesh() != wanted.mesh:
        return value
    return jax.reshard(value, wanted)


@contextlib.contextmanager
def without_mesh() -> Iterator[None]:
    """A scope in which values belong to no mesh, as inside a program they do not.

    What a program does is placed where it is called; see `placed_like`. A PartitionSpec in a
    sharding constraint is one of the mesh around.
    """
    mesh = internal_mesh.get_concrete_mesh()
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        if mesh.empty:
            yield
            return
        # Where JAX looks for one beside values' own.
        resources = internal_mesh.thread_resources
        before, resources.env = resources.env, resources.env.with_mesh(mesh)
        try:
            with sharding_impls._internal_use_concrete_mesh(internal_mesh.empty_concrete_mesh):
                yield
        finally:
            resources.env = before


def mesh_of_trace() -> contextlib.AbstractContextManager[None]:
    """A scope to trace functions in that programs are made of: without a mesh, mostly.

    A function may place values on the explicit axes of a mesh (`jax.reshard`, `out_sharding`), so
    it is traced on that. What it says of places is not imported; see `replicated`.
    """
    return without_mesh() if explicit_mesh() is None else contextlib.nullcontext()


def replicated(aval: ShapedArray) -> ShapedArray:
    """`aval` as an input of what is traced in `mesh_of_trace`; a rule's may have a place there."""
    mesh = explicit_mesh()
    if mesh is None or is_reference_aval(aval) or aval.sharding.mesh == mesh:
        return aval
    spec = PartitionSpec(*[None] * aval.ndim)
    placed: ShapedArray = aval.update(sharding=core.get_cur_mesh_sharding(spec))
    return placed


def explicit_mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh that is set, if functions may name places on it."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.explicit_axes and not mesh.manual_axes else None


def on_mesh(mesh: jax.sharding.AbstractMesh | None) -> contextlib.AbstractContextManager[Any]:
    """A scope in which this `explicit_mesh` is set."""
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh)


def accept_as_array(cls: type, value: Callable[[Any], Any]) -> None:
    """Lets every JAX operation take objects of class `cls` as the arrays that `value` gives.

    JAX calls `__jax_array__` in `jax.numpy` only; this is for `jax.lax` and the rest.
    """
    dtypes.register_canonicalize_value_handler(cls, lambda x: dtypes.canonicalize_value(value(x)))
    core.pytype_aval_mappings[cls] = lambda x: core.typeof(value(x))
