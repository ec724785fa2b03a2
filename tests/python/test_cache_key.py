"""The cache key: each named part alone compiles again, equal keys do not."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import bmgrad.math as bm
from bmgrad.runtime._cache import CacheInfo, CacheKey
from bmgrad.runtime._options import Options


class Probe:
    """Calls transformed functions and says what was compiled for each call."""

    def __init__(self):
        self.traces = 0
        self.w, self.v = bm.TrainVar(1.0), bm.TrainVar(2.0)

    def fun(self, x, y=1.0, how=None):
        self.traces += 1
        return jnp.sum(x * self.w * y) * (2.0 if how == "twice" else 1.0) + self.v.value

    def other(self, x, y=1.0, how=None):
        return self.fun(x, y, how)


def grad(probe, name="fun", grad_vars=None, **options):
    return bm.grad(getattr(probe, name), grad_vars=grad_vars, **options)


def compiled_by(transformed, call):
    """The key of what `call(transformed)` compiled, or None."""
    before = transformed.cache_info().entries
    call(transformed)
    after = transformed.cache_info().entries
    assert after[: len(before)] == before
    assert len(after) - len(before) <= 1
    return after[-1] if len(after) > len(before) else None


X = jnp.ones(3)


def basic(transformed):
    return transformed(X, 1.0, how=None)


# Of each part: the transform and the call that differ from the first in it alone.
CHANGES = {
    "function": (lambda p: grad(p, "other"), basic),
    "transform": (lambda p: bm.vector_grad(p.fun), basic),
    "grad_vars": (lambda p: grad(p, grad_vars=p.v, argnums=0), basic),
    "argnums": (lambda p: grad(p, argnums=1), basic),
    "options": (lambda p: grad(p, return_value=True), basic),
    "in_avals": (grad, lambda g: g(jnp.ones(4), 1.0, how=None)),
    "in_tree": (grad, lambda g: g(X, y=1.0, how=None)),
    "static_values": (grad, lambda g: g(X, 1.0, how="twice")),
    "jax_settings": (grad, lambda g: _with_highest_precision(g)),
}
# These cannot change within a process without another JAX, device or environment.
FIXED = {"platform", "versions", "pass_options"}


def _with_highest_precision(transformed):
    with jax.default_matmul_precision("highest"):
        return basic(transformed)


def test_every_part_is_tried():
    assert {field.name for field in dataclasses.fields(CacheKey)} == set(CHANGES) | FIXED


@pytest.mark.parametrize("part", CHANGES)
def test_each_part_alone_compiles_again(part):
    probe = Probe()
    make, call = CHANGES[part]
    first = grad(probe, grad_vars=probe.w, argnums=0) if part == "grad_vars" else grad(probe)
    start = (lambda g: g(X, 1.0, how="once")) if part == "static_values" else basic
    key = compiled_by(first, start)
    assert key is not None
    assert compiled_by(first, start) is None
    traces = probe.traces
    second = make(probe)
    changed = compiled_by(second, call)
    assert changed is not None
    assert changed.differing(key) == (part,)
    assert probe.traces > traces
    assert compiled_by(second, call) is None
    assert compiled_by(first, start) is None


@pytest.mark.parametrize("part", sorted(FIXED))
def test_parts_that_a_process_cannot_change_are_in_the_key(part):
    key = compiled_by(grad(Probe()), basic)
    value = getattr(key, part)
    assert (
        value
        == {
            "platform": bm.get_platform(),
            "versions": key.versions,
            "pass_options": Options().pass_options(),
        }[part]
    )
    other = dataclasses.replace(key, **{part: "other"})
    assert other != key
    assert other.differing(key) == (part,)


def test_versions_are_those_of_the_packages():
    key = compiled_by(grad(Probe()), basic)
    assert dict(key.versions)["jax"] == jax.__version__
    assert set(dict(key.versions)) == {"bmgrad", "jax", "jaxlib"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.0, jnp.float32(1)),  # weak type
        (1.0, 1),  # dtype
        (jnp.ones(()), jnp.ones(1)),  # rank
        (jnp.ones(1), bm.ones(1)),  # tree
        ((X, X), [X, X]),
        ({"a": X}, {"b": X}),
    ],
)
def test_arguments_that_differ(one, other):
    g = bm.jit(lambda x: jax.tree.leaves(x)[0] * 2)
    assert compiled_by(g, lambda g: g(one)) is not None
    assert compiled_by(g, lambda g: g(other)) is not None
    assert compiled_by(g, lambda g: g(one)) is None
    assert compiled_by(g, lambda g: g(other)) is None
    assert g.cache_info()[:3] == (2, 2, 2)


def test_x64():
    # The argument is float32 in both: the setting alone makes another program.
    g = bm.jit(lambda x: x + jnp.ones(3))
    assert g(jnp.ones(3, "float32")).dtype == "float32"
    with jax.enable_x64(True):
        assert g(jnp.ones(3, "float32")).dtype == "float64"
        assert g(jnp.ones(3, "float32")).dtype == "float64"
    assert g(jnp.ones(3, "float32")).dtype == "float32"
    assert g.cache_info()[:3] == (2, 2, 2)


def test_values_do_not_matter():
    g = grad(Probe())
    compiled_by(g, basic)
    for value in (2.0, -1.0, float("nan")):
        assert compiled_by(g, lambda g, value=value: g(X * value, value, how=None)) is None


def test_equal_transforms_of_one_method_share_what_is_compiled():
    probe = Probe()
    assert compiled_by(grad(probe), basic) is not None
    assert compiled_by(grad(probe), basic) is None
    assert compiled_by(grad(Probe()), basic) is not None


def test_transforms_made_in_a_loop_do_not_compile_again():
    probe = Probe()
    misses = bm.cache_info().misses
    for k in range(5):
        bm.grad(probe.fun, grad_vars=[probe.w, probe.v])(X, float(k))
    assert bm.cache_info().misses == misses + 1


def test_info():
    g = bm.grad(lambda x: x**2)
    assert g.cache_info() == CacheInfo(hits=0, misses=0, size=0, entries=())
    g(1.0)
    g(2.0)
    info = g.cache_info()
    assert (info.hits, info.misses, info.size, len(info.entries)) == (1, 1, 1, 1)
    assert info.entries[0].transform == "grad"
    assert "lambda" in info.entries[0].function
    total = bm.cache_info()
    assert total.misses >= 1
    assert total.hits >= 1
    assert info.entries[0] in total.entries


def test_a_failed_trace_is_no_entry():
    g = bm.grad(lambda x: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            g(1.0)
    assert g.cache_info().size == 0
