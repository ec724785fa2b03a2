"""IR tests: `lit <build>/tests/lit` runs the *.mlir files of this folder.

lit executes this file with `config` defined; the build folder's lit.site.cfg.py
has filled in where bm-opt and FileCheck are.
"""

# ruff: noqa: F821
import os
from pathlib import Path

import lit.formats

config.name = "bmgrad"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.test_source_root = str(Path(__file__).parent)
config.environment["PATH"] = os.pathsep.join([*config.tool_dirs, os.environ["PATH"]])
