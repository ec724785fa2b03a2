"""The environment variables that bmgrad reads; no other module reads any.

`BMGRAD_DUMP_DIR`  a directory for the IR of every compiled function, stage by stage.
"""

import os
from pathlib import Path


def dump_dir() -> Path | None:
    """`BMGRAD_DUMP_DIR` as a path, or None where it is unset or empty."""
    if not (value := os.environ.get("BMGRAD_DUMP_DIR", "")):
        return None
    if (path := Path(value)).exists() and not path.is_dir():
        raise NotADirectoryError(f"BMGRAD_DUMP_DIR must name a directory, got {value}, a file")
    return path
