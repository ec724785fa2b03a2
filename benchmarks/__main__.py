"""Runs every benchmark, each in a process of its own so that no cache or memory is shared."""

import subprocess
import sys
from pathlib import Path


def main() -> None:
    here = Path(__file__).resolve().parent
    failed = []
    for script in sorted(here.glob("bench_*.py")):
        command = [sys.executable, "-m", f"benchmarks.{script.stem}", *sys.argv[1:]]
        if subprocess.run(command, cwd=here.parent).returncode:
            failed.append(script.stem)
    if failed:
        sys.exit(f"did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
