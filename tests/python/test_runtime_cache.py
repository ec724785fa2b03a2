"""Options, platform, environment and JAX's settings; the key is in test_cache_key.py."""

import jax
import jax.numpy as jnp
import pytest

import bmgrad.math as bm
from bmgrad.runtime import _platform
from bmgrad.runtime._cache import jax_settings
from bmgrad.runtime._options import Options, parse_memory


def test_x64_is_a_part_of_the_key():
    with jax.enable_x64(True):
        other = jax_settings()
    assert other != jax_settings()


def test_what_jax_keys_its_traces_by_is_seen_by_the_next_call():
    """Also where it is no part of what we list: this one is of `jax.random.key`."""
    gradient = bm.grad(lambda x: x * jax.random.normal(jax.random.key(0)))
    before = gradient(1.0)
    jax.config.update("jax_random_seed_offset", 5)
    try:
        offset = gradient(1.0)
        assert offset == jax.random.normal(jax.random.key(0)) != before
    finally:
        jax.config.update("jax_random_seed_offset", 0)
    assert gradient(1.0) == before


@pytest.mark.parametrize(
    ("given", "size"),
    [("512MB", 512_000_000), ("1.5 GiB", 3 << 29), ("10 B", 10), (77, 77), ("2KB", 2000)],
)
def test_memory_sizes(given, size):
    assert parse_memory(given) == size


@pytest.mark.parametrize("given", ["", "12", "MB", "-1MB", "0MB", "5 parsecs", "1iB", 0, -4])
def test_memory_that_is_none(given):
    with pytest.raises(ValueError, match="memory"):
        parse_memory(given)


def test_options_come_from_the_environment_and_are_hashable(monkeypatch, tmp_path):
    monkeypatch.delenv("BMGRAD_DUMP_DIR", raising=False)
    assert Options().dump_dir is None
    monkeypatch.setenv("BMGRAD_DUMP_DIR", str(tmp_path))
    assert Options().dump_dir == tmp_path
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BMGRAD_DUMP_DIR", str(tmp_path / "file"))
    with pytest.raises(NotADirectoryError, match=r"must name a directory, got .*file"):
        Options()
    monkeypatch.setenv("BMGRAD_DUMP_DIR", "")
    assert Options(dump_dir=None).pass_options() == ()
    assert Options(memory=5).pass_options() == (("memory", "5"),)
    assert len({Options(memory=5, dump_dir=None), Options(memory=5, dump_dir=None)}) == 1


@pytest.fixture
def default_device():
    before = jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", before)


def test_platform(default_device):
    assert _platform.get_platform() == jax.default_backend()
    _platform.set_platform("cpu")
    assert _platform.get_platform() == "cpu"
    assert jnp.ones(2).devices() == {jax.devices("cpu")[0]}
    with pytest.raises(ValueError, match="'cpu', 'gpu', 'tpu', got 'cuda'"):
        _platform.set_platform("cuda")


def test_missing_platform_is_named(default_device):
    try:
        jax.devices("tpu")
    except RuntimeError:
        with pytest.raises(RuntimeError, match="'tpu' is not available here; JAX found: "):
            _platform.set_platform("tpu")
        assert _platform.get_platform() == jax.default_backend()
    else:
        pytest.skip("there is a TPU")


def test_precision_is_jaxs():
    before = jax.config.jax_enable_x64
    try:
        _platform.enable_x64()
        assert jnp.ones(1).dtype == "float64"
        _platform.disable_x64()
        assert jnp.ones(1).dtype == "float32"
    finally:
        _platform.enable_x64(before)
