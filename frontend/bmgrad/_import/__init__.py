"""The importer: from a jaxpr to a program of the bm dialect.

In: what `bmgrad.runtime._jax_internals.trace` returns. Out: a `Program`. Start
reading at `_program.py`.
"""

from bmgrad._import import (
    _rules_calls,
    _rules_collective,
    _rules_control,
    _rules_custom,
    _rules_custom_vmap,
    _rules_elementwise,
    _rules_hijax,
    _rules_indexing,
    _rules_linear_algebra,
    _rules_pallas,
    _rules_ragged,
    _rules_random,
    _rules_reduction,
    _rules_references,
    _rules_remat,
    _rules_shape,
    _rules_sharding,
    _rules_solve,
    _rules_sparse,
    _rules_windows,
)
from bmgrad._import._errors import (
    MAY_ASK_FOR_VALUES,
    UnsupportedError,
    ValuesAsked,
    asks_for_values,
    cannot_compare_trees,
)
from bmgrad._import._logs import decoded
from bmgrad._import._program import Imported, import_program

# Rules register themselves when their module is imported.
_RULES = (
    _rules_calls,
    _rules_collective,
    _rules_control,
    _rules_custom,
    _rules_custom_vmap,
    _rules_elementwise,
    _rules_hijax,
    _rules_indexing,
    _rules_linear_algebra,
    _rules_pallas,
    _rules_ragged,
    _rules_random,
    _rules_reduction,
    _rules_references,
    _rules_remat,
    _rules_shape,
    _rules_sharding,
    _rules_solve,
    _rules_sparse,
    _rules_windows,
)

__all__ = [
    "MAY_ASK_FOR_VALUES",
    "Imported",
    "UnsupportedError",
    "ValuesAsked",
    "asks_for_values",
    "cannot_compare_trees",
    "decoded",
    "import_program",
]
