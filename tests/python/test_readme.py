"""What the documents show is what comes out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.S)


@pytest.fixture(scope="module")
def printed():
    (example,) = (code for code in blocks("README.md", "python") if code.startswith("import"))
    # In a process of its own, as a reader runs it: names like Linear0 count within a process.
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/ir.md"])
def test_adjoint_of_the_example(document, printed):
    (shown,) = (ir for ir in blocks(document, "mlir") if ir.startswith("module @Linear.loss.grad"))
    assert printed.strip() == shown.strip()


@pytest.mark.parametrize(
    "script", sorted((ROOT / "benchmarks").glob("bench_*.py")), ids=lambda p: p.stem
)
def test_benchmarks_find_what_they_measure(script):
    """They look into the package, so it must not move away from them."""
    command = [sys.executable, "-m", f"benchmarks.{script.stem}", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
