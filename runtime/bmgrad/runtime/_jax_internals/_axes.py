"""Named axes: those that are bound now, those that effects tell of, those of a mesh."""

import contextlib
import contextvars
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax._src import config, core

# A name and a size.
Axis = tuple[Hashable, int]


def named_axes() -> tuple[Axis, ...]:
    """The named axes that a function traced now may refer to."""
    return tuple(core.get_axis_env().axis_sizes.items())


def with_axes(axes: Sequence[Axis]) -> contextlib.AbstractContextManager[Any]:
    """A scope in which these named axes are bound, beside those that are."""
    return core.extend_axis_env_nd(axes) if axes else contextlib.nullcontext()


def axes_of(effects: Collection[Any]) -> frozenset[Hashable]:
    """The names of axes among the effects: what is run between the elements along them."""
    return frozenset(e.name for e in effects if isinstance(e, core.NamedAxisEffect))


def axis_effect(name: Hashable) -> Any:
    """What a function does that works over the axis `name`."""
    return core.NamedAxisEffect(name)


def without_axis(effects: Collection[Any], name: Hashable) -> frozenset[Any]:
    """The effects but for those of the axis `name`."""
    return frozenset(e for e in effects if e != axis_effect(name))


def real_effects(effects: Collection[Any]) -> frozenset[Any]:
    """The effects that are no names of axes."""
    return frozenset(e for e in effects if not isinstance(e, core.NamedAxisEffect))


def without_varying() -> contextlib.AbstractContextManager[Any]:
    """A scope in which JAX does not say of values whether devices have different ones.

    What is traced for a program belongs to no mesh, and only values on a mesh can vary.
    """
    scope: contextlib.AbstractContextManager[Any] = config._check_vma(False)
    return scope


def says_varying(name: Hashable) -> bool:
    """Whether JAX says so here for the axis `name`: in `jax.shard_map(..., check_vma=True)`."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return bool(config._check_vma.value) and name in manual


# The parameters of the `shard_map` equation that derivative rules are traced for.
_entered: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar(
    "_entered", default=None
)


@contextlib.contextmanager
def inside_shard_map(params: Mapping[str, Any]) -> Iterator[None]:
    """A scope to trace derivative rules in, of calls in a `shard_map` with these parameters."""
    manual = params["newly_manual_axes"]
    axes = [(name, size) for name, size in params["mesh"].shape.items() if name in manual]
    token = _entered.set(params)
    try:
        with with_axes(axes), mesh_of_rules():
            yield
    finally:
        _entered.reset(token)


@contextlib.contextmanager
def mesh_of_rules() -> Iterator[None]:
    """Within `inside_shard_map` the mesh that JAX traced its function on, whichever is set."""
    params = _entered.get()
    if params is None:
        yield
        return
    types = dict.fromkeys(params["newly_manual_axes"], jax.sharding.AxisType.Manual)
    mesh = params["mesh"].abstract_mesh.update_axis_types(types)
    with jax.sharding.use_abstract_mesh(mesh), config._check_vma(params["check_vma"]):
        yield


def axes_of_mesh(axis_context: Any) -> tuple[Axis, ...]:
    """The axes of the devices that code lowered in this context runs on, in `jax.shard_map`."""
    mesh = getattr(axis_context, "mesh", None)
    return tuple(mesh.shape.items()) if mesh is not None else ()
