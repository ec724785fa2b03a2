"""Options, platform, environment and the cache with its named key."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import pytest

from bmgrad.runtime import _platform
from bmgrad.runtime._cache import Cache, CacheKey, jax_settings
from bmgrad.runtime._options import Options, parse_memory
from bmgrad.runtime._versions import versions


def loss(x):
    return x


KEY = CacheKey(
    function=loss,
    transform="grad",
    grad_vars=None,
    argnums=0,
    options=(("has_aux", False),),
    in_avals=(jax.typeof(jnp.ones(3)),),
    in_tree=jax.tree.structure(((0,), {})),
    static_values=(),
    platform="cpu",
    versions=tuple(versions().items()),
    pass_options=(),
    jax_settings=jax_settings(),
)

CHANGED = {
    "function": lambda x: x,
    "transform": "jacrev",
    "grad_vars": (1,),
    "argnums": (0,),
    "options": (("has_aux", True),),
    "in_avals": (jax.typeof(jnp.ones(4)),),
    "in_tree": jax.tree.structure((([0],), {})),
    "static_values": ((1, "relu"),),
    "platform": "gpu",
    "versions": (("jax", "0"),),
    "pass_options": (("memory", "1"),),
    "jax_settings": (("jax_enable_x64", True),),
}


def test_every_part_of_the_key_is_tried():
    assert set(CHANGED) == {field.name for field in dataclasses.fields(CacheKey)}


@pytest.mark.parametrize("part", CHANGED)
def test_each_part_alone_recompiles(part):
    cache = Cache()
    assert cache.get(KEY, lambda: 1) == 1
    assert cache.get(dataclasses.replace(KEY), lambda: 2) == 1
    other = dataclasses.replace(KEY, **{part: CHANGED[part]})
    assert cache.get(other, lambda: 2) == 2
    assert KEY.differing(other) == (part,)
    assert cache.info()[:3] == (1, 2, 2)


def test_weak_types_differ():
    weak = dataclasses.replace(KEY, in_avals=(jax.typeof(1.0),))
    strong = dataclasses.replace(KEY, in_avals=(jax.typeof(jnp.float32(1)),))
    assert weak.differing(strong) == ("in_avals",)


def test_x64_is_a_part():
    with jax.enable_x64(True):
        other = jax_settings()
    assert other != jax_settings()


def test_the_least_recently_used_goes_first():
    cache = Cache(maxsize=2)
    keys = [dataclasses.replace(KEY, argnums=i) for i in range(3)]
    for i in (0, 1, 0, 2):
        cache.get(keys[i], lambda: None)
    info = cache.info()
    assert info.entries == (keys[0], keys[2])
    assert (info.hits, info.misses, info.size, info.maxsize) == (1, 3, 2, 2)
    cache.clear()
    assert cache.info() == (0, 0, 0, 2, ())


def test_a_failure_is_not_cached():
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.get(KEY, lambda: 1 // 0)
    assert cache.get(KEY, lambda: 3) == 3


def test_threads_get_one_result():
    cache = Cache()
    barrier = threading.Barrier(8)
    results = []

    def compile():
        barrier.wait(timeout=10)  # everyone misses
        return object()

    threads = [
        threading.Thread(target=lambda: results.append(cache.get(KEY, compile))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert len(set(results)) == 1


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
    assert Options(dump_dir=None).pass_options() == ()
    assert Options(memory=5).pass_options() == (("memory", "5"),)
    assert hash(Options(memory=5)) == hash(Options(memory=5))


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
