"""Each op says all it has to: no op of the dialect goes without a rule or a test."""

import re
from pathlib import Path

import jax.extend.core.primitives as jax_primitives
import op_table as page
import pytest
from jax.interpreters import ad

from bmgrad._import._left_out import KERNELS, LEFT_OUT, left_out_reason
from bmgrad._import._registry import RULES
from bmgrad.mlir import op_table

TABLE = {op["name"]: op for op in op_table()}
TESTS = Path(__file__).parent.parent

# Replaced before anything is lowered, or parts of other ops.
WITHOUT_RULES = {"bm.jvp", "bm.vjp", "bm.batch", "bm.yield"}
NO_OPERANDS = {"bm.axis_index", "bm.constant", "bm.iota"}
# Gone before lowering: calls of what they refer to take their place.
NOT_LOWERED = {"bm.custom_jvp", "bm.custom_vjp", "bm.custom_lin", "bm.linear_solve"}


@pytest.mark.parametrize("name", sorted(TABLE.keys() - WITHOUT_RULES))
def test_has_its_rules(name):
    rules = set(TABLE[name]["rules"])
    expected = {"lowering"} if name not in NOT_LOWERED else set()
    if name not in NO_OPERANDS:
        expected |= {"jvp", "batching"}
    assert rules >= expected


@pytest.mark.parametrize("name", sorted(TABLE))
def test_is_tested_as_ir(name):
    word = re.compile(rf"{re.escape(name)}\b")
    mentioned = any(word.search(path.read_text()) for path in TESTS.glob("lit/**/*.mlir"))
    by_derivative = any(name[3:] in path.read_text() for path in TESTS.glob("python/test_ops_*.py"))
    assert mentioned or by_derivative


def test_primitives_belong_to_one_op_each_and_exist():
    known = {p.name for p in vars(jax_primitives).values() if hasattr(p, "bind")}
    claimed = [primitive for op in TABLE.values() for primitive in op["primitives"]]
    assert len(claimed) == len(set(claimed))
    # Primitives that only one of the supported versions of JAX has, or has not made public.
    unknown = set(claimed) - known
    assert len(unknown) < len(claimed) / 4, unknown


def imported(name):
    return name in page.OF_PRIMITIVE or name in RULES


def test_no_primitive_of_jax_is_forgotten():
    """Each is imported, or the reason why not is in `_left_out.py`."""
    found = page.jax_primitives()
    assert len(found) > 250
    forgotten = [
        name
        for name, modules in found.items()
        if not imported(name) and not left_out_reason(name, modules)
    ]
    assert forgotten == []


def test_nothing_is_left_out_that_is_imported():
    assert [name for name in LEFT_OUT if imported(name)] == []


def test_what_jax_differentiates_is_no_mere_kernel():
    differentiated = {primitive.name for primitive in ad.primitive_jvps}
    assert [name for name in KERNELS if name in differentiated] == []


def test_the_page_has_a_line_for_each_primitive(capsys):
    page.main()
    text = capsys.readouterr().out
    assert "forgotten" not in text
    for name in page.jax_primitives():
        assert f"\n| `{name}` | " in text
    assert re.search(
        r"\| `sin` \| `bm.sin` \| yes \| from the forward rule \| yes \| `\w+.sine` \|", text
    )
