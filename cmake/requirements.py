"""Prints what pyproject.toml asks for: to build, to run, and each extra named as an argument."""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads(Path("pyproject.toml").read_text())
project = pyproject["project"]
extras = project["optional-dependencies"]


def extra(name: str) -> list[str]:
    prefix = project["name"] + "["
    requirements = []
    for requirement in extras[name]:
        if requirement.startswith(prefix):
            requirements += extra(requirement.removeprefix(prefix).removesuffix("]"))
        else:
            requirements.append(requirement)
    return requirements


requirements = pyproject["build-system"]["requires"] + project["dependencies"]
for name in sys.argv[1:]:
    requirements += extra(name)
print("\n".join(requirements))
