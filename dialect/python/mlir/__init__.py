"""MLIR's Python bindings with the bm dialect and its passes in them.

In: `ir.Module` text or bytecode. Out: the same after `passmanager.PassManager`
ran. `ir`, `passmanager`, `rewrite` and `dialects.func` are upstream's; contexts
made here know `bm` and `func` from the start, and every bm pass is registered.
"""

from ._mlir_libs._bm import op_table, pipeline_names, set_batching_rules

__all__ = ["op_table", "pipeline_names", "set_batching_rules"]
