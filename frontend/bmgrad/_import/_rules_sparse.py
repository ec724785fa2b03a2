"""Rules of JAX's sparse formats: gathers, scatters and dense products of what they store.

In: an equation with a primitive of `jax.experimental.sparse`. Out: the ops that JAX's definition
of the primitive consists of, so that derivatives and batches are those of these ops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value
from bmgrad.runtime._jax_internals import sparse_definition, trace

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

_PRIMITIVES = """
    bcoo_dot_general bcoo_dot_general_sampled bcoo_extract bcoo_fromdense bcoo_sort_indices
    bcoo_spdot_general bcoo_sum_duplicates bcoo_todense bcoo_transpose bcsr_dot_general
    bcsr_extract bcsr_fromdense bcsr_todense coo_fromdense coo_matmat coo_matvec coo_todense
    csr_fromdense csr_matmat csr_matvec csr_todense todense
"""


@rule(*_PRIMITIVES.split())
def _written_out(b: Importer, eqn: Equation) -> list[Value]:
    primitive, avals = eqn.primitive, [atom.aval for atom in eqn.invars]
    definition = sparse_definition(primitive.name)

    def run(_: Any, *operands: Any) -> list[Any]:
        results = definition(*operands, **eqn.params)
        return list(results) if primitive.multiple_results else [results]

    names = [f"x{i}" for i in range(len(avals))]
    traced = trace(run, avals, name=primitive.name, arg_names=names)
    captured = [b.module.capture(const) for const in traced.consts]
    return b.evaluate(traced.jaxpr, captured, b.read_all(eqn))
