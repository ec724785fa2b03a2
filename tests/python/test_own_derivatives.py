"""The derivatives are ours: everything here runs while JAX's own differentiation raises.

The tutorial's tests are run again under that condition, then recurrent and spiking models
of order one and two, the functional forms, and derivative rules of users.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_model import CLASSES, Classifier
from jax._src import api as jax_api
from jax._src.interpreters import ad
from test_tutorial import (  # noqa: F401  # collected here again, under the fixture below
    TestClassObjects,
    TestJacobian,
    TestPreliminary,
    TestPureFunctions,
    TestVectorGrad,
    fresh_names,
)

import bmgrad.math as bm
from bmgrad._transforms import _call
from bmgrad._transforms._by_identity import ByIdentity

PUBLIC = [
    "grad",
    "value_and_grad",
    "vjp",
    "jvp",
    "linearize",
    "linear_transpose",
    "jacrev",
    "jacfwd",
    "jacobian",
    "hessian",
]
OF_API = [*PUBLIC, "_jvp"]
OF_AD = [
    "jvp",
    "linearize",
    "jvp_subtrace",
    "linearize_subtrace",
    "jvp_subtrace_2",
    "linearize_subtrace_2",
    "linearize_jaxpr",
    "_linearize_jaxpr",
    "jvp_jaxpr",
    "_jvp_jaxpr",
    "backward_pass",
    "backward_pass3",
    "linearize_from_jvp",
    "linear_jvp",
    "linear_transpose",
    "linear_transpose2",
]


class DifferentiatedByJAX(Exception):
    pass


def refuse(*args, **kwargs):
    raise DifferentiatedByJAX


@pytest.fixture(autouse=True)
def no_derivatives_by_jax(monkeypatch):
    """Nothing is compiled beforehand, and every way into JAX's differentiation raises."""
    monkeypatch.setattr(_call, "_states", ByIdentity())
    jax.clear_caches()
    for module, names in ((jax, PUBLIC), (jax_api, OF_API), (ad, OF_AD)):
        for name in names:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    for trace in (ad.JVPTrace, ad.LinearizeTrace):
        monkeypatch.setattr(trace, "process_primitive", refuse)
    assert jax.grad is refuse
    assert ad.backward_pass3 is refuse
    # The derivative rules of JAX's own primitives; ours is registered beside them.
    ours = {p for p in ad.primitive_jvps if p.name.startswith("bmgrad")}
    assert ours
    for table in (ad.primitive_jvps, ad.primitive_transposes):
        for primitive in [p for p in table if p not in ours]:
            monkeypatch.setitem(table, primitive, refuse)
    yield
    monkeypatch.undo()
    jax.clear_caches()


def test_jax_cannot():
    for derivative in (jax_api.grad, jax_api.jacfwd, jax.vjp):
        with pytest.raises(DifferentiatedByJAX):
            derivative(jnp.sin)(1.0)


def numeric(loss, array, index, eps=1e-2):
    value = array.value
    array.value = value.at[index].add(eps)
    up = loss()
    array.value = value.at[index].add(-eps)
    down = loss()
    array.value = value
    return float(up - down) / (2 * eps)


def digits(count):
    """Images of the demo's kind, whose brightest row says the class, and their labels."""
    random = np.random.RandomState(1)
    labels = random.randint(0, CLASSES, count)
    images = 0.1 * random.rand(count, CLASSES, 8)
    images[np.arange(count), labels] += 1
    return images.astype("f"), labels


def test_recurrent_classifier_of_the_demo():
    bm.random.seed(0)
    model = Classifier(8, 6)
    images, labels = digits(4)
    grad = bm.grad(model.loss, grad_vars=model.train_vars(), return_value=True)
    grads, value = grad(images, labels)
    assert {name.split(".")[1] for name in grads} == {"w_in", "w_rec", "w", "b"}
    assert len(grads) == 5
    assert float(model.seen) == 4
    np.testing.assert_allclose(value, model.loss(images, labels), rtol=1e-5)
    for name, array in model.train_vars().items():
        index = (1,) * array.ndim
        expected = numeric(lambda: model.loss(images, labels), array, index)
        np.testing.assert_allclose(grads[name][index], expected, rtol=2e-2, atol=1e-4)


def test_training_the_demo_lowers_the_loss():
    bm.random.seed(0)
    model = Classifier(8, 16)
    images, labels = digits(64)
    train_vars = model.train_vars()
    grad = bm.grad(model.loss, grad_vars=train_vars, return_value=True)
    losses = []
    for _ in range(100):
        grads, value = grad(images, labels)
        losses.append(float(value))
        for name, gradient in grads.items():
            train_vars[name].value = train_vars[name].value - 0.5 * gradient
    assert losses[-1] < 0.5 * losses[0]
    assert grad.cache_info().misses == 1


@jax.custom_jvp
def spike(v):
    return (v > 0).astype(v.dtype)


@spike.defjvp
def _(primals, tangents):
    (v,), (dv,) = primals, tangents
    return spike(v), 25.0 / (10.0 * jnp.abs(v) + 1) ** 2 * dv


def test_spiking_neuron():
    w = bm.TrainVar(0.6)

    def count():
        def step(v, _):
            v = 0.8 * v + w.value
            s = spike(v - 1.0)
            return v - s, s

        return jax.lax.scan(step, 0.0, None, length=8)[1].sum()

    def by_hand(w):
        """The same recursion with the surrogate's slope, in float64."""
        v = dv = total = 0.0
        for _ in range(8):
            v, dv = 0.8 * v + w, 0.8 * dv + 1.0
            slope = 25.0 / (10.0 * abs(v - 1.0) + 1) ** 2
            v, dv, total = v - (v > 1.0), dv - slope * dv, total + slope * dv
        return total

    np.testing.assert_allclose(bm.grad(count, grad_vars=w)(), by_hand(0.6), rtol=1e-4)


def test_second_order():
    hessian = bm.hessian(lambda x: (jnp.sin(x) * x**2).sum())(jnp.array([0.3, 1.1]))
    x = np.array([0.3, 1.1])
    expected = np.diag((2 - x**2) * np.sin(x) + 4 * x * np.cos(x))
    np.testing.assert_allclose(hessian, expected, rtol=1e-5, atol=1e-6)
    grad_of_grad = bm.grad(lambda x: bm.grad(lambda y: jnp.exp(2 * y))(x))
    np.testing.assert_allclose(grad_of_grad(0.5), 4 * np.exp(1.0), rtol=1e-6)


def test_functional_forms():
    out, vjp = bm.vjp(jnp.sin, 0.5)
    out2, tangent = bm.jvp(jnp.sin, (0.5,), (2.0,))
    out3, linear = bm.linearize(jnp.sin, 0.5)
    assert float(out) == float(out2) == float(out3)
    expected = np.cos(0.5)
    np.testing.assert_allclose([vjp(1.0)[0], tangent / 2, linear(1.0)], [expected] * 3, rtol=1e-6)


def test_around_and_inside_jax_transforms():
    cube = bm.grad(lambda x: jnp.sin(x) ** 3)
    xs = jnp.array([0.1, 0.7])
    expected = 3 * np.sin(xs) ** 2 * np.cos(xs)
    np.testing.assert_allclose(jax.vmap(cube)(xs), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(cube))(xs), expected, rtol=1e-6)
    inside = bm.grad(lambda x: jax.jit(jax.vmap(jnp.sin))(x).sum())
    np.testing.assert_allclose(inside(xs), np.cos(xs), rtol=1e-6)
