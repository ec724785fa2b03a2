"""Rules of solves and decompositions of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bmgrad._import._errors import Unsupported
from bmgrad._import._registry import Equation, rule
from bmgrad._import._text import Value, i64, i64_array, string

if TYPE_CHECKING:
    from bmgrad._import._importer import Importer

# Parameters by the kind of attribute that an op has for them; versions of JAX have
# some of them or all.
_FLAGS = (
    "left_side",
    "lower",
    "transpose_a",
    "conjugate_a",
    "unit_diagonal",
    "perturb_singular",
    "full_matrices",
    "pivoting",
    "sort_eigenvalues",
    "compute_uv",
    "compute_left_eigenvectors",
    "compute_right_eigenvectors",
    "enable_eigvec_derivs",
    "compute_schur_vectors",
)
_CHOICES = ("algorithm", "implementation")


@rule(
    "cholesky",
    "cholesky_update",
    "eig",
    "eigh",
    "lu",
    "lu_pivots_to_permutation",
    "qr",
    "schur",
    "svd",
    "triangular_solve",
    "tridiagonal_solve",
)
def _matrix(b: Importer, eqn: Equation) -> list[Value]:
    if eqn.params.get("sort_eig_vals"):
        raise Unsupported("it sorts eigenvalues, which JAX has not implemented either")
    types = [b.type(var.aval) for var in eqn.outvars]
    name = f"bm.{eqn.primitive.name}"
    return b.multi_op(name, b.read_all(eqn), types, _attributes(eqn.params))


def _attributes(params: Any) -> str:
    parts = [flag for flag in _FLAGS if params.get(flag)]
    for name in _CHOICES:
        if params.get(name) is not None:
            parts.append(f"{name} = {string(params[name].name)}")
    if params.get("subset_by_index") is not None:
        parts.append(f"subset_by_index = {i64_array(params['subset_by_index'])}")
    if params.get("use_magma") is not None:
        parts.append(f"use_magma = {str(params['use_magma']).lower()}")
    if "permutation_size" in params:
        parts.append(f"permutation_size = {i64(params['permutation_size'])}")
    return ", ".join(parts)


@rule("symmetric_product")
def _symmetric_product(b: Importer, eqn: Equation) -> Value:
    # alpha x x^T + beta c.
    x, c = b.read_all(eqn)
    rank = len(x.type.shape)
    batch = i64_array(range(rank - 2))
    columns = i64_array([rank - 1])
    highest = "#bm<precision highest>"
    product = b.op(
        "bm.dot_general",
        [x, x],
        c.type,
        f"lhs_batch = {batch}, rhs_batch = {batch}, lhs_contract = {columns}, "
        f"rhs_contract = {columns}, precision = [{highest}, {highest}]",
    )
    terms = []
    for factor, term in ((eqn.params["alpha"], product), (eqn.params["beta"], c)):
        scale = b.constant(np.asarray(factor, c.type.dtype), c.type.shape)
        terms.append(b.op("bm.mul", [scale, term], c.type))
    return b.op("bm.add", terms, c.type)
