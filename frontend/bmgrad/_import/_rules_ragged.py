"""Products with ragged dimensions: one product of matrices a group, made dense by masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_foreign import trace_flat
from bmgrad._import._text import Value

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer


@rule("ragged_dot_general")
def _ragged_dot(b: Importer, eqn: Equation) -> list[Value]:
    params = eqn.params
    if params["group_offset"] is not None:
        raise Unsupported("group_offset is not supported, as in JAX")
    dot = partial(
        lax.dot_general,
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )

    def run(lhs: Any, rhs: Any, sizes: Any) -> list[Any]:
        return [_dense_product(dot, lhs, rhs, sizes, params["ragged_dot_dimension_numbers"])]

    avals = [atom.aval for atom in eqn.invars]
    return b.evaluate_closed(trace_flat(run, avals, "ragged_dot"), b.read_all(eqn))


def _dense_product(dot: Any, lhs: Any, rhs: Any, sizes: Any, numbers: Any) -> Any:
    """The product, computed as JAX does where there is no kernel for it."""
    (l_contract, r_contract), (l_batch, r_batch) = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    if ragged in l_batch:
        return dot(lhs, rhs, numbers.dot_dimension_numbers)
    kept = [dim for dim in range(lhs.ndim) if dim not in (*l_contract, *l_batch)]
    l_prefix = [*l_batch, *_before(l_contract if ragged in l_contract else kept, ragged)]
    if sizes.ndim == 1:
        shape = (*(lhs.shape[dim] for dim in l_prefix), sizes.shape[0])
        sizes = jnp.broadcast_to(sizes, shape)
    by_group = _by_group(lhs, ragged, sizes, l_prefix)
    if ragged not in l_contract:
        (group,) = numbers.rhs_group_dimensions
        contract = [*_after_group(l_contract), 0], [*r_contract, group]
        return dot(by_group, rhs, (contract, (_after_group(l_batch), r_batch)))
    r_ragged = r_contract[l_contract.index(ragged)]
    r_prefix = [*r_batch, *_before(r_contract, r_ragged)]
    contract = _after_group(l_contract), _after_group(r_contract)
    batch = [0, *_after_group(l_batch)], [0, *_after_group(r_batch)]
    return dot(by_group, _by_group(rhs, r_ragged, sizes, r_prefix), (contract, batch))


def _before(dims: Sequence[int], dim: int) -> Sequence[int]:
    return dims[: dims.index(dim)]


def _after_group(dims: Sequence[int]) -> list[int]:
    return [dim + 1 for dim in dims]


def _by_group(x: Any, ragged: int, sizes: Any, prefix: Sequence[int]) -> Any:
    """`[groups, *x.shape]`: of each group its part along `ragged`, and zeros elsewhere.

    The dimensions of `sizes` are those `prefix` of `x`, then the groups.
    """
    shape = (sizes.shape[-1], *x.shape)
    dims = [*_after_group(prefix), 0]
    order = sorted(range(len(dims)), key=dims.__getitem__)

    def spread(bounds: Any) -> Any:
        return lax.broadcast_in_dim(lax.transpose(bounds, order), shape, sorted(dims))

    ends = jnp.cumsum(sizes, axis=-1, dtype=sizes.dtype)
    index = lax.broadcasted_iota(sizes.dtype, shape, ragged + 1)
    inside = (spread(ends - sizes) <= index) & (index < spread(ends))
    return jnp.where(inside, x, jnp.zeros((), x.dtype))
