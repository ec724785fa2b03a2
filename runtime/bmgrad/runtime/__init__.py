"""The runtime of bmgrad: programs in StableHLO, run and transformed by JAX.

In: `Program` objects, which the frontend makes. Out: results, executables, files.
Start reading at `_program.py`, then `_primitive.py`; `_stages.py` and
`_artifact.py` are what users hold.
"""

from bmgrad.runtime._artifact import load
from bmgrad.runtime._platform import disable_x64, enable_x64, get_platform, set_platform
from bmgrad.runtime._primitive import bind
from bmgrad.runtime._program import LinearProgram, Program

__all__ = [
    "LinearProgram",
    "Program",
    "bind",
    "disable_x64",
    "enable_x64",
    "get_platform",
    "load",
    "set_platform",
]
