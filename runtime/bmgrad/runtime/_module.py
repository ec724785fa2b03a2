"""Modules of the bm dialect at each stage of their way down to StableHLO.

In: a module as it was imported or derived. Out: its text at each stage, and StableHLO. Each is
made on first use and kept. Next: `_pipeline.py` runs the passes.
"""

import itertools
import re
import threading
from collections.abc import Callable, Hashable
from typing import Literal, TypeAlias, TypeVar

from bmgrad.runtime import _edits, _kernels, _pipeline
from bmgrad.runtime._options import Options
from bmgrad.runtime._source import Source

Stage: TypeAlias = Literal["bm", "adjoint", "optimized", "stablehlo"]
STAGES: tuple[Stage, ...] = ("bm", "adjoint", "optimized", "stablehlo")

_T = TypeVar("_T")
_dump_numbers = itertools.count(1)


def on_platform(source: Source, platform: str) -> bytes:
    """`source` where it runs on `platform`, without the branches for others."""
    return _pipeline.on_platform(
        source, lambda number: _kernels.branch_of(_kernels.get(number), platform)
    )


class Module:
    """A module with entry `@main`.

    Attributes:
      name: for messages, file names and symbols, such as `loss.grad`.
      options: how it is compiled.
    """

    def __init__(self, source: Source, name: str, options: Options) -> None:
        self.name = name
        self.options = options
        self._stages: dict[Stage, Source] = {"bm": source}
        self._memo: dict[Hashable, object] = {}
        # What is made of a module is a key of JAX's caches, so each must be made once only.
        self._lock = threading.RLock()
        self._dump_number: int | None = None

    def as_text(self, stage: Stage) -> str:
        """The module as MLIR text.

        `"bm"`: as imported; `"adjoint"`: transforms expanded; `"optimized"`: what is
        lowered; `"stablehlo"`: in the generic form, which any MLIR parser reads.
        """
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, got {stage!r}")
        return _edits.text(self._stage(stage), generic=stage == "stablehlo")

    def stablehlo(self, platform: str | None = None) -> bytes:
        """The module in StableHLO as bytecode, with the user's locations.

        Given the `platform` that it is for, only what belongs there of what depends on it.
        """
        source = self._stages["bm"]
        if platform is None or not _pipeline.chooses_platform(source):
            return self._lowered()[0]
        return self.once(("stablehlo", platform), lambda: self._lowered_for(source, platform))

    def _lowered_for(self, source: Source, platform: str) -> bytes:
        return _pipeline.stablehlo(on_platform(source, platform), self.options)[0]

    def unused_inputs(self) -> list[int]:
        """The inputs that nothing reads once the module is StableHLO."""
        return self._lowered()[1]

    def _lowered(self) -> tuple[bytes, list[int]]:
        """StableHLO, and the inputs that it does not read."""
        return self.once("stablehlo", self._make_lowered)

    def _make_lowered(self) -> tuple[bytes, list[int]]:
        if self.options.dump_dir is not None:
            self._stage("stablehlo")
        # All at once: stages that nobody looks at are not written down.
        return _pipeline.stablehlo(self._stages["bm"], self.options)

    def source(self) -> Source:
        """The module as imported, text or bytecode: for modules that call this one."""
        return self._stages["bm"]

    def _stage(self, stage: Stage) -> Source:
        with self._lock:
            if stage not in self._stages:
                before = self._stage(STAGES[STAGES.index(stage) - 1])
                if stage == "adjoint":
                    self._dump("bm", before)
                    pipeline = _pipeline.differentiate()
                elif stage == "optimized":
                    pipeline = _pipeline.optimize(self.options)
                else:
                    pipeline = _pipeline.lower()
                self._stages[stage] = after = _pipeline.run(before, pipeline)
                self._dump(stage, after)
            return self._stages[stage]

    def _dump(self, stage: Stage, source: Source) -> None:
        directory = self.options.dump_dir
        if directory is None:
            return
        if self._dump_number is None:
            self._dump_number = next(_dump_numbers)
        directory.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.]+", "_", self.name)
        path = directory / f"{self._dump_number:04d}-{name}-{STAGES.index(stage) + 1}-{stage}.mlir"
        path.write_text(_edits.text(source, locations=True))

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` returned for `key` on this module, called once at most."""
        with self._lock:
            if key not in self._memo:
                self._memo[key] = make()
            return self._memo[key]  # type: ignore[return-value]
