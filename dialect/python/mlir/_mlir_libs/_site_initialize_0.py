"""Read by MLIR's bindings: what each new Context gets."""

from ._bm import register_dialects as register_dialects

# Modules here are small: threads would cost more than they give.
disable_multithreading = True
