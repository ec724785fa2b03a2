"""Each op says all it has to: no op of the dialect goes without a rule or a test."""

import inspect
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


# Parameters that no import rule mentions, and why none has to.
NOT_MENTIONED = {
    "what the compiler or the place is told, where JAX decides outside the program": """
        compiler_options_kvs context_mesh copy_semantics ctx_mesh donated_invars in_layouts
        in_shardings inline keep_unused memory_space out_layouts out_shardings srcs
        unconstrained_dims""",
    "what other parameters say": "ft_out update_consts",
    "of equations that JAX lowers itself": "bit_width impl",
    "of the function that JAX makes its rule with": "combine_fn use_vmap",
}


def keywords(function, depth=0):
    """Keyword-only arguments of a rule of JAX, or of the functions that it closes over."""
    if depth > 5 or not callable(function):
        return set()
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    inner = getattr(function, "func", function)
    cells = [cell.cell_contents for cell in getattr(inner, "__closure__", None) or ()]
    found = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    return found.union(*(keywords(c, depth + 1) for c in cells if inspect.isfunction(c)))


def test_no_parameter_of_a_primitive_is_forgotten():
    """Each is read by some rule, or the reason why not is above."""
    root = TESTS.parent
    files = [*root.glob("frontend/bmgrad/_import/*.py"), *root.glob("dialect/include/**/*.td")]
    files += root.glob("runtime/bmgrad/runtime/_jax_internals/*.py")
    mentioned = set(re.findall(r"\w+", " ".join(path.read_text() for path in files)))
    known = {name for names in NOT_MENTIONED.values() for name in names.split()}
    forgotten, seen = {}, set()
    for primitive in vars(jax_primitives).values():
        if not hasattr(primitive, "bind"):
            continue
        rules = [primitive.impl, primitive.abstract_eval, ad.primitive_jvps.get(primitive)]
        names = set().union(*map(keywords, rules))
        seen |= names
        if unknown := names - mentioned - known:
            forgotten[primitive.name] = unknown
    assert {"unroll", "dimension_numbers", "num_keys"} <= seen
    assert forgotten == {}
