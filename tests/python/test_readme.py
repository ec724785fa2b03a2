"""What the documents show is what comes out."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.S)


@pytest.fixture(scope="module")
def printed():
    (example,) = (code for code in blocks("README.md", "python") if code.startswith("import"))
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    return output.getvalue()


@pytest.mark.parametrize("document", ["README.md", "docs/ir.md"])
def test_adjoint_of_the_example(document, printed):
    (shown,) = (ir for ir in blocks(document, "mlir") if ir.startswith("module @Linear.loss.grad"))
    assert printed.strip() == shown.strip()
