"""The importer: from a jaxpr to a program of the bm dialect.

In: what `bmgrad.runtime._jax_internals.trace` returns. Out: a `Program`. Start
reading at `_program.py`.
"""

import importlib
import pkgutil

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
for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("_rules_"):
        importlib.import_module(f"{__name__}.{_module.name}")

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
