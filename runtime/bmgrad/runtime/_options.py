"""How a function is compiled: one frozen value, passed by keyword, part of the cache key.

In: keywords of the user and the environment. Out: `Options`, read by `_program.py`.
"""

import dataclasses
import re
from pathlib import Path

from bmgrad.runtime import _environment

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)\s*")


def parse_memory(memory: int | str) -> int:
    """Bytes of `memory`: an int, or a string such as `"512MB"` or `"1.5 GiB"`."""
    if isinstance(memory, str):
        match = _MEMORY.fullmatch(memory)
        if match is None or match[2] not in _UNITS:
            raise ValueError(
                f"memory={memory!r} is not a size; write for example '512MB', '1.5GiB' or an int"
            )
        memory = int(float(match[1]) * _UNITS[match[2]])
    if memory <= 0:
        raise ValueError(f"memory must be positive, got {memory}")
    return memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one compilation.

    Attributes:
      memory: bytes that loops may keep for the backward step, or None for no bound.
      dump_dir: where to write every stage of every compiled function, or None.
    """

    memory: int | None = None
    dump_dir: Path | None = dataclasses.field(default_factory=_environment.dump_dir)

    def pass_options(self) -> tuple[tuple[str, str], ...]:
        """The part that changes what is compiled, as it is given to the pipelines."""
        return () if self.memory is None else (("memory", str(self.memory)),)
