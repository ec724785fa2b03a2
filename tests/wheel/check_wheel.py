"""Runs with an installed wheel, away from the sources and from any compiler."""

import shutil
import sys
from importlib.metadata import files
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import bmgrad.math as bm


def check_surroundings() -> None:
    for tool in ("cc", "c++", "gcc", "g++", "clang", "ld", "cmake", "ninja"):
        assert shutil.which(tool) is None, f"{tool} is in reach"


def check_gradient() -> None:
    x = np.arange(3, dtype=np.float32)
    gradient = bm.grad(lambda x: jnp.sin(x).sum(), argnums=0)(x)
    np.testing.assert_allclose(np.asarray(gradient), np.cos(x), rtol=1e-6)


def check_contents() -> None:
    """Neither headers nor archives, and one copy of each library."""
    contents = files("bmgrad") or []
    unwanted = [f for f in contents if f.suffix in {".h", ".a", ".td", ".cpp", ".inc"}]
    assert not unwanted, f"the wheel holds {unwanted}"
    sizes = [f.size for f in contents if f.size and f.size > 1 << 20]
    assert len(sizes) == len(set(sizes)), "the wheel holds a large file twice"


def check_loaded_libraries() -> None:
    """Every library in memory is the system's or lies in this environment."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    loaded = {line.split()[-1] for line in maps.read_text().splitlines() if ".so" in line}
    assert not [f for f in loaded if "libLLVM" in f or "libMLIR.so" in f]
    known = tuple(str(Path(p).resolve()) for p in (sys.prefix, sys.base_prefix, "/lib", "/usr"))
    strange = sorted(f for f in loaded if not f.startswith(known))
    assert not strange, f"loaded from elsewhere: {strange}"


if __name__ == "__main__":
    check_surroundings()
    check_gradient()
    check_contents()
    check_loaded_libraries()
    print("wheel: ok")
