"""Stages that users hold, and files that outlive the model's source."""

import collections
import json
import os
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runtime_programs import HandWritten, program

from bmgrad.runtime import _trees
from bmgrad.runtime._artifact import load, save
from bmgrad.runtime._convention import Convention
from bmgrad.runtime._stages import Compiled, Lowered, Traced
from bmgrad.runtime._types import tensor_type

Pair = collections.namedtuple("Pair", ["first", "second"])


class Store:
    """The values of two variables, a weight and a counter."""

    names = ("Linear0.w", "Linear0.count")
    written = (1,)

    def __init__(self):
        self.values = [jnp.arange(3.0), jnp.int32(0)]

    def read(self):
        return self.values

    def write(self, values):
        for i, value in zip(self.written, values, strict=True):
            self.values[i] = value


def step(x, y, w, count):
    """Of `f(batch, scale=...)`: two results, and the counter that it increases."""
    return x * w * y, jnp.sum(x), count + 1


X = jnp.array([1.0, 2.0, 3.0])


@pytest.fixture(scope="module")
def prog():
    return program(
        step,
        X,
        2.0,
        jnp.ones(3),
        jnp.int32(0),
        name="Linear.update",
        in_names=["batch['x']", "scale", *Store.names],
    )


def convention(args, kwargs, result, statics=()):
    return Convention(
        in_tree=jax.tree.structure((args, kwargs)),
        statics=statics,
        out_tree=jax.tree.structure(result),
        variable_names=Store.names,
        written=Store.written,
    )


CALL = convention(({"x": 0, "mode": 0},), {"scale": 0}, Pair(0, [0]), statics=((0, "fast"),))
ARGS = ({"x": X, "mode": "fast"},)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def compiled(prog, store):
    return Lowered(prog, CALL, store).compile()


@pytest.fixture
def saved(compiled, tmp_path):
    path = tmp_path / "update.bmgrad"
    compiled.save(path)
    return path


def test_compiled_is_called_like_the_function(compiled, store):
    for count in (1, 2):
        result = compiled(*ARGS, scale=2.0)
        assert isinstance(result, Pair)
        np.testing.assert_allclose(result.first, [0, 4, 12])
        np.testing.assert_allclose(result.second[0], 6)
        assert store.values[1] == count
    store.values[0] = jnp.ones(3)
    np.testing.assert_allclose(compiled(*ARGS, scale=1.0).first, [1, 2, 3])


def test_compiled_says_what_is_wrong_with_a_call(compiled, store):
    with pytest.raises(TypeError, match=r"compiled for batch\['x'\] of type .*3.* given .*4"):
        compiled({"x": jnp.ones(4), "mode": "fast"}, scale=2.0)
    with pytest.raises(TypeError, match=r"compiled for scale of type .* given .*i.*32"):
        compiled(*ARGS, scale=jnp.int32(2))
    with pytest.raises(TypeError, match="compiled for arguments of the structure"):
        compiled(*ARGS)
    with pytest.raises(TypeError, match=r"value 'fast' of a static argument, .* with 'slow'"):
        compiled({"x": X, "mode": "slow"}, scale=2.0)
    assert store.values[1] == 0


def test_stages(prog, store, compiled):
    assert prog.in_avals == Traced(prog, CALL, store).in_avals
    lowered = Traced(prog, CALL, store).lower()
    assert isinstance(lowered, Lowered)
    assert lowered.out_avals == prog.out_avals
    assert isinstance(compiled, Compiled)
    assert "HloModule" in compiled.as_text()
    assert compiled.cost_analysis()["flops"] > 0
    assert lowered.cost_analysis()["flops"] > 0
    assert compiled.memory_analysis().argument_size_in_bytes >= 28


FRESH = """
import sys
import jax, jax.numpy as jnp
from bmgrad.runtime._artifact import load
assert not any(name.startswith(("runtime_programs", "test_")) for name in sys.modules)
f = load(sys.argv[1])
out = f({"x": jnp.array([1.0, 2.0, 3.0]), "mode": "fast"}, scale=2.0)
print(type(out).__name__, out.first.tolist(), out.second, int(f.variables["Linear0.count"]))
"""


def test_runs_in_a_fresh_process_without_the_source(saved):
    path = os.pathsep.join(p for p in sys.path if p and not p.endswith("tests/python"))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(saved)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0].startswith("Pair [0.0, 4.0, 12.0] [Array(6., ")
    assert done.stdout.strip().endswith("1")


def test_loaded_is_called_like_the_function(saved):
    loaded = load(saved)
    for count in (1, 2):
        result = loaded(*ARGS, scale=2.0)
        np.testing.assert_allclose(result.first, [0, 4, 12])
        assert loaded.variables["Linear0.count"] == count
    loaded.variables["Linear0.w"] = jnp.ones(3)
    np.testing.assert_allclose(loaded(*ARGS, scale=1.0).first, [1, 2, 3])
    assert "stablehlo.multiply" in loaded.as_text()
    assert "Linear.update" in repr(loaded)
    with pytest.raises(TypeError, match=r"batch\['x'\] of shape \(3,\) and dtype float32"):
        loaded({"x": jnp.ones(4), "mode": "fast"}, scale=2.0)
    with pytest.raises(TypeError, match="compiled for arguments of the structure"):
        loaded(*ARGS)
    with pytest.raises(TypeError, match=r"'fast' of a static argument, .* 'slow'"):
        loaded({"x": X, "mode": "slow"}, scale=2.0)


def test_what_it_assigns_does_not_leave_a_transform_of_jax(saved):
    loaded = load(saved)

    def call(y):
        return loaded({"x": X, "mode": "fast"}, scale=y).second[0]

    assert jax.jit(call)(2.0) == 6
    with pytest.raises(jax.errors.UnexpectedTracerError, match=r"variable 'Linear0\.count' of Lin"):
        call(2.0)
    loaded.variables["Linear0.count"] = jnp.int32(0)
    assert call(2.0) == 6
    assert loaded.variables["Linear0.count"] == 1


def test_who_calls_it_in_a_transform_of_jax_may_take_its_variables(saved):
    loaded = load(saved)

    @jax.jit
    def call(count):
        before, loaded.variables = loaded.variables, {**loaded.variables, "Linear0.count": count}
        loaded(*ARGS, scale=2.0)
        after, loaded.variables = loaded.variables, before
        return after["Linear0.count"]

    assert call(5) == 6
    assert loaded.variables["Linear0.count"] == 0


def test_plain_jax_export_runs_it(saved):
    with zipfile.ZipFile(saved) as archive:
        exported = jax.export.deserialize(bytearray(archive.read("program.jax_export")))
    state = {"Linear0.w": jnp.arange(3.0), "Linear0.count": jnp.int32(4)}
    (first, second), assigned = exported.call([X, jnp.float32(2)], state)
    np.testing.assert_allclose(first, [0, 4, 12])
    assert second == 6
    assert assigned == {"Linear0.count": 5}


def test_manifest_is_readable(saved):
    with zipfile.ZipFile(saved) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["arguments"]["arrays"][0] == {
        "name": "batch['x']",
        "shape": [3],
        "dtype": "float32",
    }
    assert manifest["arguments"]["arrays"][1]["weak_type"]
    assert manifest["variables"][1]["assigned"]
    assert manifest["platforms"] == ["cpu"]
    assert set(manifest["versions"]) == {"bmgrad", "jax", "jaxlib"}


def test_the_same_function_is_the_same_file(compiled, tmp_path):
    for name in ("one", "two"):
        compiled.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def edit(path, **changed):
    """Rewrites members of a saved file; None removes one."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, data in changed.items():
        name = next(member for member in members if member.startswith(name))
        if callable(data):
            manifest = json.loads(members[name])
            data(manifest)
            data = json.dumps(manifest).encode()
        members[name] = data
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)


def test_each_fault_has_its_own_error(saved, tmp_path):
    text = tmp_path / "model.py"
    text.write_text("print()")
    with pytest.raises(ValueError, match="it is no zip archive"):
        load(text)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


@pytest.mark.parametrize("member", ["program", "variables", "manifest"])
def test_missing_member(saved, member):
    edit(saved, **{member: None})
    with pytest.raises(ValueError, match=f"it has no {member}"):
        load(saved)


@pytest.mark.parametrize("member", ["program", "variables"])
def test_bad_checksum(saved, member):
    edit(saved, **{member: b"other"})
    with pytest.raises(ValueError, match=f"damaged: {member}.* does not have its checksum"):
        load(saved)


def test_flipped_bit(saved):
    data = bytearray(saved.read_bytes())
    data[len(data) // 4] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        load(saved)


def test_unknown_format(saved):
    edit(saved, manifest=lambda m: m.update(format=99))
    with pytest.raises(ValueError, match=r"format version 99; this bmgrad .* reads version 1"):
        load(saved)


@pytest.mark.parametrize(("version", "trouble"), [(99, "too old"), (1, "too new")])
def test_wrong_jax(saved, version, trouble):
    edit(saved, manifest=lambda m: m.update(calling_convention_version=version))
    with pytest.raises(ValueError, match=rf"jax {jax.__version__} is {trouble} for .*{version}"):
        load(saved)


def test_wrong_platform(compiled, tmp_path):
    path = tmp_path / "tpu"
    compiled.save(path, platforms=("tpu", "gpu"))
    with pytest.raises(RuntimeError, match=r"saved for tpu and cuda, but .* runs on cpu"):
        load(path)
    compiled.save(path, platforms=("tpu", "cpu"))
    np.testing.assert_allclose(load(path)(*ARGS, scale=2.0).first, [0, 4, 12])
    with pytest.raises(ValueError, match="'cpu', 'gpu' and 'tpu', got 'vax'"):
        compiled.save(path, platforms="vax")
    with pytest.raises(FileNotFoundError, match=r"cannot save to .*/no/f: there is no directory"):
        compiled.save(tmp_path / "no" / "f")


def test_values_of_every_dtype(tmp_path):
    key = jax.random.key(3)
    values = [jnp.bfloat16(1.5), jnp.ones((2, 2), jnp.complex64), jnp.array([True, False]), key]
    values += [jnp.arange(4, dtype=jnp.uint8)]
    names = ("w", "file", "w", "RandomState0", "mask")  # np.savez has a keyword `file`

    avals = [jax.typeof(x) for x in (X, *values)]
    types = [tensor_type(aval) for aval in avals]
    inputs = ", ".join(f"%{i}: {t}" for i, t in enumerate(types))
    text = f"func.func @main({inputs}) -> ({', '.join(types)}) {{ return %0, %1, %2, %3, %4, %5"
    text += f" : {', '.join(types)} }}"
    prog = HandWritten(text, avals, avals, name="all", in_names=["x", *names])
    call = Convention(
        in_tree=jax.tree.structure(((0,), {})),
        statics=(),
        out_tree=jax.tree.structure((0,) * 6),
        variable_names=names,
        written=(),
    )
    path = tmp_path / "all"
    save(path, prog, call, values)
    loaded = load(path)
    assert list(loaded.variables) == ["w#1", "file", "w#2", "RandomState0", "mask"]
    assert loaded.variables["w#1"].dtype == jnp.bfloat16
    assert loaded.variables["RandomState0"].dtype == key.dtype
    *got, key_again, mask = loaded(X)
    for result, want in zip((*got, mask), (X, *values[:3], values[4]), strict=True):
        assert result.dtype == want.dtype
        np.testing.assert_array_equal(result, want)
    assert jax.random.uniform(key_again) == jax.random.uniform(key)


@jax.tree_util.register_pytree_node_class
class Custom:
    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_trees_round_trip():
    value = ({"b": 1, "a": [None, (2,)], "3": {}}, Pair(4, ()), {5: 6, -1: 7})
    encoded = json.loads(json.dumps(_trees.encode(jax.tree.structure(value))))
    decoded = _trees.decode(encoded)
    rebuilt = jax.tree.unflatten(decoded, jax.tree.leaves(value))
    assert rebuilt == value
    assert type(rebuilt[1]).__name__ == "Pair"


def test_trees_with_unknown_nodes():
    tree = jax.tree.structure([Custom(1, 2)])
    with pytest.raises(TypeError, match=r"cannot save .* of type .*Custom: a file holds"):
        _trees.encode(tree)
    with pytest.raises(TypeError, match="dict with the key"):
        _trees.encode(jax.tree.structure({(1, 2): 0}))
    with pytest.raises(ValueError, match=r"type test\.Other, which this bmgrad does not know"):
        _trees.decode({"kind": "test.Other", "children": ["leaf"]})


def test_registered_nodes(monkeypatch):
    monkeypatch.setattr(_trees, "_names", {})
    monkeypatch.setattr(_trees, "_builders", {})
    _trees.register_node(Custom, "test.Custom", lambda children: Custom(*children))
    tree = jax.tree.structure({"a": Custom(1, 2)})
    assert _trees.decode(json.loads(json.dumps(_trees.encode(tree)))) == tree


def test_static_values_that_json_cannot_hold(prog, store, tmp_path):
    call = convention(({"x": 0, "mode": 0},), {"scale": 0}, (0, 0), statics=((0, len),))
    with pytest.raises(TypeError, match="static argument <built-in function len>"):
        save(tmp_path / "f", prog, call, store.read())
    assert list(tmp_path.iterdir()) == []
