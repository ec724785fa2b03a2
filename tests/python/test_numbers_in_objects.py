"""Python numbers in modules of users' own types: functions get them as they were passed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bmgrad.math as bm

XS = jnp.arange(1.0, 4.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Dropout:
    rate: float
    weight: object

    def __call__(self, x):
        if isinstance(self.rate, (int, float)):
            return x * self.weight * (1 if self.rate == 0 else 10)
        return x * self.weight * 100 * self.rate


def loss(w, module, x):
    return (w * module(x)).sum()


TRANSFORMS = {
    "grad": lambda m, f: m.grad(f),
    "jacrev": lambda m, f: m.jacrev(f),
    "jacfwd": lambda m, f: m.jacfwd(f),
    "hessian": lambda m, f: m.hessian(f),
    "vmap": lambda m, f: lambda w, *args: m.vmap(f, in_axes=(0, None, None))(w * XS, *args),
    "nested": lambda m, f: lambda w, *args: m.grad(lambda w: m.grad(f)(w, *args) * w)(w),
    "in jit": lambda m, f: lambda w, *args: jax.jit(lambda w: m.grad(f)(w, *args))(w),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_numbers_are_what_was_passed(name):
    ours, jaxs = (TRANSFORMS[name](m, loss) for m in (bm, jax))
    for rate in (0.0, 0.5, 0, 0.0):
        args = 2.0, Dropout(rate, jnp.float32(3.0)), XS
        np.testing.assert_allclose(ours(*args), jaxs(*args), rtol=1e-6)
        in_list = bm.grad(lambda w, modules, x: loss(w, modules[0], x))
        np.testing.assert_allclose(in_list(2.0, [args[1]], XS), jax.grad(loss)(*args), rtol=1e-6)


def test_one_program_for_each():
    gradient = bm.grad(lambda w, module: loss(w, module, XS))
    for rate in (0.0, 0.5, 0.0, 0.5):
        gradient(2.0, Dropout(rate, jnp.float32(3.0)))
    assert gradient.cache_info().misses == 2


def test_numbers_that_are_differentiated_are_traced_once():
    traces = []

    def fun(module, scale):
        traces.append(module)
        return loss(scale, module, XS)

    gradient = bm.grad(fun)
    for rate in (0.5, 0.6, 0.7):
        found = gradient(Dropout(rate, 3.0), 2.0)
        np.testing.assert_allclose(found.rate, 100 * 2 * 3 * XS.sum())
        np.testing.assert_allclose(found.weight, 100 * 2 * rate * XS.sum(), rtol=1e-6)
    assert len(traces) == 1


def test_numbers_in_containers_are_traced_once():
    traces = []

    def fun(x, settings):
        traces.append(settings)
        return x * settings["scale"] * settings["more"][0]

    gradient = bm.grad(fun)
    for scale in (2.0, 3.0):
        assert gradient(1.0, {"scale": scale, "more": (scale,)}) == scale**2
    assert len(traces) == 1
