"""`trace`, `lower`, `compile`, `save`, `load` of transformed functions, and dumped IR."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad as bp
import bmgrad.math as bm

STAGES = ("bm", "adjoint", "optimized", "stablehlo")


class Linear(bp.Base):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(np.arange(6.0, dtype="f").reshape(2, 3) / 10)
        self.b = bm.TrainVar(bm.zeros(2))
        self.calls = bm.Variable(bm.zeros(()))

    def loss(self, x, mode="sum"):
        self.calls += 1
        y = jnp.tanh(self.w.value @ x + self.b.value)
        return y.sum() if mode == "sum" else y.mean()


@pytest.fixture
def model():
    bp.clear_name_cache()
    return Linear()


def close(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert jax.typeof(ours).str_short() == jax.typeof(theirs).str_short()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


X = jnp.ones(3)
TRANSFORMS = {
    "grad": lambda m: bm.grad(m.loss, grad_vars=m.train_vars(), argnums=0, return_value=True),
    "grad of args": lambda m: bm.grad(m.loss),
    "value_and_grad": lambda m: bm.value_and_grad(m.loss, grad_vars=m.w),
    "vector_grad": lambda m: bm.vector_grad(lambda x: m.w.value @ x, grad_vars=[m.w]),
    "jacrev": lambda m: bm.jacrev(lambda x: {"y": m.w.value @ x}, grad_vars=m.w, argnums=(0,)),
    "jacfwd": lambda m: bm.jacfwd(lambda x: jnp.sin(x) * m.b.value[0]),
    "hessian": lambda m: bm.hessian(m.loss, grad_vars=m.b),
    "jit": lambda m: bm.jit(m.loss),
    "nested": lambda m: bm.jit(lambda x: bm.grad(lambda y: bm.grad(m.loss)(y).sum())(x)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_compiled_does_what_the_call_does(model, name):
    transformed = TRANSFORMS[name](model)
    compiled = transformed.trace(X).lower().compile()
    assert float(model.calls) == 0
    close(compiled(X), transformed(X))
    calls = float(model.calls)
    model.w.value = model.w * 2
    close(compiled(X + 1), transformed(X + 1))
    assert float(model.calls) == 2 * calls


def test_texts(model):
    lowered = TRANSFORMS["grad"](model).lower(X)
    texts = {stage: lowered.as_text(stage) for stage in STAGES}
    assert len(set(texts.values())) == 4
    assert lowered.as_text() == texts["stablehlo"]
    main = r"@main\(%x: tensor<3xf32>, .*%Linear0.w: tensor<2x3xf32>"
    for stage in ("bm", "adjoint", "optimized"):
        assert re.search(main, texts[stage]), stage
    assert "bm.vjp @" in texts["bm"]
    assert "bm.vjp" not in texts["adjoint"]
    assert texts["adjoint"].count("bm.dot_general") == 3
    assert texts["optimized"].count("bm.tanh") == 1
    assert "stablehlo.tanh" in texts["stablehlo"]
    assert "bm." not in texts["stablehlo"].replace("bmgrad", "")
    with pytest.raises(ValueError, match="stage must be one of bm, adjoint, optimized, stablehlo"):
        lowered.as_text("nothing")


def test_traced(model):
    traced = TRANSFORMS["grad"](model).trace(X)
    assert "bm.vjp" in traced.as_text()
    assert traced.in_avals[0].str_short() == "float32[3]"
    assert len(traced.in_avals) == 4
    assert len(traced.out_avals) == 5
    assert traced.program.in_names[0] == "x"
    assert set(traced.program.in_names[1:]) == {"Linear0.w", "Linear0.b", "Linear0.calls"}


def test_shapes_are_enough(model):
    grad = bm.grad(model.loss)
    compiled = grad.trace(jax.ShapeDtypeStruct((3,), "float32")).lower().compile()
    close(compiled(X), grad(X))


def test_boxes_keywords_and_static_arguments(model):
    grad = bm.grad(model.loss)
    compiled = grad.trace(bm.ones(3), mode="mean").lower().compile()
    got = compiled(bm.ones(3), mode="mean")
    assert type(got) is bm.Array
    close(got, grad(bm.ones(3), mode="mean"))
    with pytest.raises(TypeError, match=r"compiled for the value 'mean'.*called with 'sum'"):
        compiled(bm.ones(3), mode="sum")
    with pytest.raises(TypeError, match="compiled for arguments of the structure"):
        compiled(bm.ones(3))
    with pytest.raises(TypeError, match=r"compiled for x of type .*\[3\].* given .*\[4\]"):
        compiled(bm.ones(4), mode="mean")


@pytest.mark.parametrize("traced_for", [bm.ones(3), jnp.ones(3)], ids=["boxed", "plain"])
@pytest.mark.parametrize("given", [bm.ones(3), jnp.ones(3), np.ones(3, "f")], ids=type)
def test_boxes_are_arrays_to_what_is_compiled(traced_for, given, tmp_path):
    grad = bm.grad(lambda p: (p["a"] ** 2).sum())
    compiled = grad.trace({"a": traced_for}).lower().compile()
    compiled.save(tmp_path / "f")
    for call in (compiled, bp.load(tmp_path / "f")):
        got = call({"a": given})["a"]
        assert type(got) is (bm.Array if type(traced_for) is bm.Array else type(jnp.ones(3)))
        np.testing.assert_array_equal(got, [2, 2, 2])
        with pytest.raises(TypeError, match="structure"):
            call({"b": given})
        with pytest.raises(TypeError, match="structure"):
            call({"a": [given]})


def test_variables_have_their_names_whichever_function_reads_them(tmp_path):
    node = bp.Base("readout")
    node.w = bm.TrainVar(bm.ones(3))
    closed_over = jnp.arange(3.0)
    draws = bm.grad(lambda x: (x * node.w * closed_over + bm.random.rand(3)).sum())
    draws.lower(X).compile().save(tmp_path / "f")
    names = list(bp.load(tmp_path / "f").variables)
    assert names[:2] == ["readout.w", "random.DEFAULT"]
    assert len(names) == 3


def test_python_numbers():
    square = bm.grad(lambda x, y: x**2 * y)
    compiled = square.trace(2.0, 3.0).lower().compile()
    np.testing.assert_allclose(compiled(4.0, 0.5), 4)


def test_closed_over_arrays():
    table = jnp.arange(3.0)
    grad = bm.grad(lambda x: (x**2 * table).sum())
    compiled = grad.trace(X).lower().compile()
    close(compiled(X), 2 * table)


def test_analyses(model):
    compiled = TRANSFORMS["grad"](model).lower(X).compile()
    assert "HloModule" in compiled.as_text()
    cost = compiled.cost_analysis()
    assert (cost[0] if isinstance(cost, list) else cost)["flops"] > 0
    assert compiled.memory_analysis().argument_size_in_bytes == 4 * (3 + 6 + 2 + 1)


def test_save_and_load_in_a_process_without_the_model(model, tmp_path):
    grad = TRANSFORMS["grad"](model)
    path = tmp_path / "grad.bmgrad"
    compiled = grad.lower({"x": X}["x"], mode="mean").compile()
    compiled.save(path)
    script = f"""
import sys
import numpy as np, jax.numpy as jnp
import bmgrad as bp
loaded = bp.load({str(path)!r})
assert set(loaded.variables) == {{"Linear0.w", "Linear0.b", "Linear0.calls"}}
for k in (1, 2):
    (of_vars, of_x), value = loaded(jnp.ones(3) * k, mode="mean")
    assert float(loaded.variables["Linear0.calls"]) == k
print(np.asarray(of_vars["Linear0.w"]).tolist(), np.asarray(of_x).tolist(), float(value))
assert "test_stages" not in sys.modules
try:
    loaded(jnp.ones(4), mode="mean")
except TypeError as error:
    assert "takes x of shape" in str(error), error
else:
    raise SystemExit("a wrong shape was taken")
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    (of_vars, of_x), value = grad(2 * X, mode="mean")
    expected = [of_vars["Linear0.w"].tolist(), of_x.tolist(), float(value)]
    got = eval("[" + run.stdout.strip().replace("] [", "], [").replace("] ", "], ") + "]")
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", ["jit", "jacrev", "nested"])
def test_loaded_does_what_the_call_does(model, name, tmp_path):
    transformed = TRANSFORMS[name](model)
    transformed.lower(X).compile().save(tmp_path / "f")
    close(bp.load(tmp_path / "f")(X), transformed(X))


def test_boxes_survive_a_file(tmp_path):
    grad = bm.grad(lambda p: (p["a"] ** 2).sum())
    grad.lower({"a": bm.ones(2)}).compile().save(tmp_path / "f")
    got = bp.load(tmp_path / "f")({"a": bm.ones(2)})
    assert type(got["a"]) is bm.Array
    assert got["a"].tolist() == [2, 2]


def test_exported_program_runs_without_bmgrad(model, tmp_path):
    import zipfile

    bm.grad(model.loss).lower(X).compile().save(tmp_path / "f")
    with zipfile.ZipFile(tmp_path / "f") as archive:
        (tmp_path / "program").write_bytes(archive.read("program.jax_export"))
    script = """
import sys, jax, jax.numpy as jnp
exported = jax.export.deserialize(bytearray(open("program", "rb").read()))
w = jnp.arange(6.0).reshape(2, 3) / 10
state = {"Linear0.w": w, "Linear0.b": jnp.zeros(2), "Linear0.calls": jnp.zeros(())}
results, written = exported.call([jnp.ones(3)], state)
assert "bmgrad" not in sys.modules
print(results[0].tolist(), float(written["Linear0.calls"]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    gradient, calls = run.stdout.rsplit(" ", 1)
    np.testing.assert_allclose(eval(gradient), bm.grad(model.loss)(X), rtol=1e-5)
    assert float(calls) == 1


def test_dump_dir(model, tmp_path, monkeypatch):
    directory = tmp_path / "dumped"
    monkeypatch.setenv("BMGRAD_DUMP_DIR", str(directory))
    bm.grad(model.loss)(X)
    names = sorted(os.listdir(directory))
    parts = [re.fullmatch(r"(\d{4})-(.*)-(\d)-(\w+)\.mlir", name).groups() for name in names]
    assert [stage for _, _, _, stage in parts] == list(STAGES)
    assert [number for _, _, number, _ in parts] == ["1", "2", "3", "4"]
    assert len({number for number, _, _, _ in parts}) == 1
    assert all("Linear.loss" in name for _, name, _, _ in parts)
    text = (directory / names[0]).read_text()
    assert "bm.vjp" in text
    assert f'{__file__}":' in text
    bm.jacrev(model.loss)(X)
    assert len(os.listdir(directory)) > 4


def _scoped(x):
    with jax.named_scope("outer"):
        # Written in place, as a function that is called, and in a loop.
        y = jax.nn.relu(x)
        with jax.named_scope("inner"):
            y = jax.jit(lambda y: jnp.tanh(y) * jnp.cos(y) * jnp.sin(y) * y)(y)
        y, _ = jax.lax.scan(lambda c, _: (jnp.exp(-c), None), y, None, length=3)
    y, _ = jax.lax.scan(lambda c, _: (jnp.sqrt(c), None), y, None, length=3)
    return (y * y).sum()


def test_named_scopes_reach_the_profiler():
    compiled = jax.jit(bm.grad(_scoped)).lower(jnp.ones(3)).compile().as_text()
    names = re.findall('op_name=".*bmgrad_program/(.*?)"', compiled)
    assert {"outer/custom_jvp_call", "outer/inner/jit", "outer/exp"} <= set(names)
    assert not any("sqrt" in name for name in names)
    bm_text = bm.grad(_scoped).lower(jnp.ones(3)).as_text("bm")
    assert "outer" not in bm_text


def test_errors_in_named_scopes_name_the_line():
    def fun(x):
        with jax.named_scope("outer"):
            return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: jnp.sin(c) * 2 * c, x).sum()

    with pytest.raises(ValueError, match=r"at .*test_stages.py:\d+"):
        bm.grad(fun)(jnp.ones(3))


def test_inputs_have_the_names_that_the_function_gives_them():
    def loss(first, tree, /, second, *rest, key):
        return first + tree["w"] + second + sum(rest) + key

    w = {"w": jnp.float32(2.0)}
    traced = bm.grad(loss).trace(1.0, w, 3.0, 4.0, 5.0, key=6.0)
    assert traced.program.in_names == ("first", "tree.w", "second", "arg3", "arg4", "key")


COMPILES = """
import sys

import jax
import jax.numpy as jnp

import bmgrad.math as bm

model = lambda x: jax.scipy.special.logsumexp(jnp.linalg.inv(x) @ x) + jnp.sort(x).sum()
for transform in (bm.grad, bm.hessian, bm.jit, lambda f: lambda x: bm.vjp(f, x)[1](1.0)):
    transform(model)(jnp.eye(2) * 2)
print([name for name in sys.modules if name == "bmgrad.mlir.dialects.bm"])
"""


def test_to_compile_does_not_load_the_builders_of_ops():
    """Which took longer than to compile a small program. They are there for who writes IR."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", COMPILES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_flags_are_part_of_what_is_compiled(tmp_path):
    """As in calls: `if b is True` holds; an array, or what stands for one, is no flag."""
    x = jnp.ones(3)
    gradient = bm.grad(lambda x, b: (x**2).sum() if b is True else x.sum())
    for flag in (True, False):
        compiled = gradient.trace(x, flag).lower().compile()
        compiled.save(tmp_path / "gradient.bmgrad")
        for run in (compiled, bp.load(tmp_path / "gradient.bmgrad")):
            np.testing.assert_array_equal(run(x, flag), gradient(x, flag))
            with pytest.raises(TypeError, match=f"compiled for the value {flag} of a static"):
                run(x, not flag)
    scaled = bm.grad(lambda x, b: (x**2 * b).sum())
    compiled = scaled.trace(x, jax.ShapeDtypeStruct((), bool)).lower().compile()
    np.testing.assert_array_equal(compiled(x, True), 2 * x)
    np.testing.assert_array_equal(compiled(x, False), 0 * x)
