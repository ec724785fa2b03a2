"""Each op says all it has to: no op of the dialect goes without a rule or a test."""

import re
from pathlib import Path

import jax.extend.core.primitives as jax_primitives
import pytest

from bmgrad.mlir import op_table

TABLE = {op["name"]: op for op in op_table()}
TESTS = Path(__file__).parent.parent

# Replaced before anything is lowered, or parts of other ops.
WITHOUT_RULES = {"bm.jvp", "bm.vjp", "bm.batch", "bm.yield"}
NO_OPERANDS = {"bm.constant", "bm.iota"}
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
