"""How long the first call of a gradient takes in a new process, imports left out.

Tracing, derivation, lowering and XLA's compilation together, for small models and for solvers
of other libraries, where those are installed: programs full of rules of third parties.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks._first_worker import available
from benchmarks._harness import Report, Sampler, arguments, check_equal


def first_call(case: str, side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks._first_worker", case, side]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{case}, {side}:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def sampler(case: str, side: str) -> Sampler:
    return lambda: float(first_call(case, side)["seconds"])


def main() -> None:
    options = arguments(__doc__)
    report = Report("The first call of a gradient in a new process")
    for case in available():
        ours, theirs = (
            list(map(np.asarray, first_call(case, side)["gradient"])) for side in ("ours", "theirs")
        )
        check_equal(case, ours, theirs)
        report.compare(
            case,
            "jax.jit(jax.grad)",
            sampler(case, "ours"),
            sampler(case, "theirs"),
            rounds=3 if options.quick else 7,
            target=1.0,
        )
    report.close()


if __name__ == "__main__":
    main()
