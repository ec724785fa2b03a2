"""Settings of all tests."""

import importlib.metadata
import os

# The tests compile thousands of small programs and run each once: what XLA's backend optimises
# away, and the newer of its ways to write fused loops, cost more than they save. Must be set before
# JAX starts its backend, which aborts at flags that it does not know.
_FLAGS = ["--xla_backend_optimization_level=0"]
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()
