"""Writes the page of all JAX primitives: how each is imported and what rules its op has.

In: the ops' records and the importer's rules, as the built package has them. Out: Markdown on
standard output, a line for each primitive that this JAX has. `make docs` runs it.
"""

import collections
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.experimental.sparse
import jax.extend.core.primitives
from jax.extend.core import Primitive

from bmgrad._import._left_out import left_out_reason
from bmgrad._import._registry import RULES
from bmgrad.mlir import op_table

TESTS = Path(__file__).parent.parent / "tests"
OF_PRIMITIVE = {name: op for op in op_table() for name in op["primitives"]}


def jax_primitives() -> dict[str, list[str]]:
    """The name of each primitive that a module of JAX holds, with those modules."""
    holders = collections.defaultdict(set)
    for module in [m for m in sys.modules if m.partition(".")[0] in ("jax", "jaxlib")]:
        for value in list(vars(sys.modules[module]).values()):
            if isinstance(value, Primitive):
                holders[value.name].add(module)
    return {name: sorted(modules) for name, modules in sorted(holders.items())}


def tests_of(op: str) -> list[str]:
    """The test files that mention an op, those of its rules first."""
    lit, word = re.compile(rf"{re.escape(op)}\b"), re.compile(rf"\b{re.escape(op[3:])}\b")
    found = [p for p in sorted(TESTS.glob("python/test_ops_*.py")) if word.search(p.read_text())]
    found += [p for p in sorted(TESTS.glob("lit/**/*.mlir")) if lit.search(p.read_text())]
    return [str(path.relative_to(TESTS)) for path in found]


def _line(name: str, modules: list[str]) -> str:
    op: dict[str, Any] | None = OF_PRIMITIVE.get(name)
    if op is None:
        if name in RULES:
            file = f"{RULES[name].__module__.rpartition('.')[2]}.py"
            return f"| `{name}` | written as other ops, in `{file}` |||||"
        reason = left_out_reason(name, modules) or "**forgotten**"
        return f"| `{name}` | none: {reason} |||||"
    rules = set(op["rules"])
    forward = "yes" if "jvp" in rules else "no tangent"
    reverse = "its own transpose" if "transpose" in rules else "from the forward rule"
    cells = [
        f"`{name}`",
        f"`{op['name']}`",
        forward,
        reverse if forward == "yes" else "",
        "yes" if "batching" in rules else "nothing to batch",
        f"`{op['stablehlo']}`" if op["stablehlo"] else "rule",
        ", ".join(tests_of(op["name"])[:2]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    primitives = jax_primitives()
    imported = sum(name in OF_PRIMITIVE or name in RULES for name in primitives)
    print(f"# The primitives of JAX {jax.__version__} in bmgrad\n")
    print(f"{imported} of {len(primitives)} are ops; why the others are not is said.\n")
    print("| Primitive | Op | Forward | Reverse | Batching | Lowering | Tests |")
    print("|---|---|---|---|---|---|---|")
    for name, modules in primitives.items():
        print(_line(name, modules))


if __name__ == "__main__":
    main()
