"""Rules of JAX's sparse formats: gathers, scatters and dense products of what they store.

In: an equation with a primitive of `jax.experimental.sparse`. Out: the ops that JAX's definition
of the primitive consists of, so that derivatives and batches are those of these ops; a solve is a
`bm.linear_solve` around JAX's kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from bmgrad._import._registry import Equation, rule
from bmgrad._import._rules_custom import side_effect
from bmgrad._import._rules_foreign import trace_flat
from bmgrad._import._rules_kernel import kernel
from bmgrad._import._text import Value, i32_array
from bmgrad.runtime._jax_internals import sparse_definition

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
    primitive, definition = eqn.primitive, sparse_definition(eqn.primitive.name)

    def run(*operands: Any) -> list[Any]:
        results = definition(*operands, **eqn.params)
        return list(results) if primitive.multiple_results else [results]

    return _evaluate(b, run, eqn, b.read_all(eqn))


def _evaluate(
    b: Importer, run: Callable[..., list[Any]], eqn: Equation, operands: Sequence[Value]
) -> list[Value]:
    """What `run` makes of values like the first operands of the equation."""
    avals = [atom.aval for atom in eqn.invars[: len(operands)]]
    return b.evaluate_closed(trace_flat(run, avals, eqn.primitive.name), operands)


# -- Solves --------------------------------------------------------------------------------------


@rule("spsolve")
def _solve(b: Importer, eqn: Equation) -> list[Value]:
    number, solve = kernel(b, eqn)
    operands, types = b.read_all(eqn), [b.type(atom.aval) for atom in eqn.invars]

    def matvec(*operands: Any) -> list[Any]:
        return [_csr(*operands) @ operands[-1]]

    def vecmat(*operands: Any) -> list[Any]:
        return [_csr(*operands).T @ operands[-1]]

    def transpose_solve(args: list[Value]) -> list[Value]:
        *matrix, rhs = args
        return solve([*_evaluate(b, _transposed, eqn, matrix), rhs])

    def define() -> dict[str, str]:
        bodies = {
            "solve": solve,
            "matvec": lambda args: _evaluate(b, matvec, eqn, args),
            "transpose_solve": transpose_solve,
            "vecmat": lambda args: _evaluate(b, vecmat, eqn, args),
        }
        symbols = {role: b.module.new_symbol(f"spsolve.{role}") for role in bodies}
        for role, write in bodies.items():
            b.module.function(symbols[role], b.module.body(types, write), [])
        return symbols

    symbols = b.once((), define, ("spsolve", number))
    attributes = ", ".join(f"{role} = @{symbol}" for role, symbol in symbols.items())
    segments = i32_array([len(operands) - 1, 1])
    attributes += f", operandSegmentSizes = {segments}{side_effect(eqn)}"
    return b.multi_op("bm.linear_solve", operands, types[-1:], attributes)


def _csr(data: Any, columns: Any, starts: Any, rhs: Any) -> Any:
    # Which loads SciPy, so only whoever has used it pays for that.
    from jax.experimental import sparse

    return sparse.CSR((data, columns, starts), shape=(rhs.size, rhs.size))


def _transposed(data: Any, columns: Any, starts: Any) -> list[Any]:
    """The CSR arrays of the transpose of a square matrix."""
    places = jnp.arange(data.size, dtype=starts.dtype)
    rows = jnp.searchsorted(starts, places, side="right").astype(columns.dtype) - 1
    columns, rows, data = jax.lax.sort((columns, rows, data), num_keys=2)
    numbers = jnp.arange(starts.size, dtype=columns.dtype)
    return [data, rows, jnp.searchsorted(columns, numbers).astype(starts.dtype)]
