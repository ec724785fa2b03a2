"""The versions that decide what a compiled program means."""

import functools
import importlib.metadata


@functools.cache
def versions() -> dict[str, str]:
    """Versions of bmgrad, jax and jaxlib in this process."""
    return {name: importlib.metadata.version(name) for name in ("bmgrad", "jax", "jaxlib")}
