"""Settings of all tests."""

import os

# The tests compile thousands of small programs and run each once: what XLA's backend optimises
# away costs more than it saves. Must be set before JAX starts its backend.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
).strip()
