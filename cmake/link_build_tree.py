"""Makes an editable install use the files of the build folder instead of copies.

After that a run of ninja is enough to change what Python imports.
"""

import sys
import sysconfig
from pathlib import Path

build = Path(sys.argv[1]).resolve() / "python"
installed = Path(sysconfig.get_path("platlib"))

for path in (installed / "bmgrad").rglob("*"):
    source = build / path.relative_to(installed)
    if source.is_file() and not source.samefile(path):
        path.unlink()
        path.symlink_to(source)
