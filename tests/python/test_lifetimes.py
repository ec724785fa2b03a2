"""What functions close over goes with the last reference to them, not when garbage is collected.

Python's collector counts objects, not the bytes that they hold on a device.
"""

import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import bmgrad as bp
import bmgrad.math as bm

X = jnp.arange(3.0)


@jax.custom_jvp
def with_jvp(x):
    return jnp.sin(x)


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0] * jnp.cos(primals[0])))


@jax.custom_vjp
def with_vjp(x):
    return jnp.sin(x)


with_vjp.defvjp(lambda x: (with_vjp(x), x), lambda x, ct: (ct * jnp.cos(x),))


def by_value(x):
    return x if x.sum() > 0 else 2 * x


class Model(bp.Base):
    def __init__(self, held):
        super().__init__()
        self.w = bm.TrainVar(held)
        self.gradient = bm.grad(self.loss, grad_vars=self.w)

    def loss(self, x):
        return jnp.sum(self.w.value * x)


FUNCTIONS = {
    "plain": lambda x, held: x * held,
    "inner jit": lambda x, held: jax.jit(lambda x: x * held)(x),
    "inner grad": lambda x, held: bm.grad(lambda x: jnp.sum(x**2 * held))(x),
    "custom_jvp": lambda x, held: with_jvp(x * held),
    "custom_vjp": lambda x, held: with_vjp(x * held),
    "scan": lambda x, held: jax.lax.scan(lambda c, _: (c * held, None), x, None, length=2)[0],
    "cond": lambda x, held: jax.lax.cond(x[0] > 0, lambda: x * held, lambda: x),
    "checkpoint": lambda x, held: jax.checkpoint(lambda x: jnp.sin(x * held))(x),
    "by value": lambda x, held: by_value(x * held),
    "custom_jvp by value": lambda x, held: by_value(with_jvp(x * held)),
    "custom_vjp by value": lambda x, held: by_value(with_vjp(x * held)),
    "reference": lambda x, held: jax.new_ref(x * held)[...],
}
TRANSFORMS = {
    "vjp": lambda f: bm.vjp(f, X)[1](1.0),
    "linearize": lambda f: bm.linearize(f, X)[1](X),
    "jvp": lambda f: bm.jvp(f, (X,), (X,)),
    "grad": lambda f: bm.grad(f)(X),
    "two calls": lambda f: [bm.grad(f)(X) for _ in range(2)],
    "hessian": lambda f: bm.hessian(f)(X),
    "vmap": lambda f: bm.vmap(bm.grad(f))(jnp.ones((2, 3))),
    "jit": lambda f: bm.jit(f)(X),
    "jax.jit": lambda f: jax.jit(bm.grad(f))(X),
}


@pytest.fixture
def collector_is_off():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_closed_over(function, transform, collector_is_off):
    if "custom_vjp" in function and transform in ("jvp", "linearize"):
        pytest.skip("it has no forward mode")
    if "by value" in function and transform in ("vmap", "jit", "jax.jit"):
        pytest.skip("there are no values")

    def call():
        held = 2 * X
        TRANSFORMS[transform](lambda x: jnp.sum(FUNCTIONS[function](x, held)))
        return weakref.ref(held)

    assert call()() is None


def test_what_a_model_holds(collector_is_off):
    """The model and its transforms refer to each other; what is made for them does not."""

    def call():
        held = 2 * X
        model = Model(held)
        model.gradient(X)
        model.gradient(X)
        del model.gradient
        return weakref.ref(held), weakref.ref(model)

    assert [reference() for reference in call()] == [None, None]


def test_what_fails(collector_is_off):
    def call():
        held = 2 * X
        with pytest.raises(TypeError, match="dot_general"):
            bm.grad(lambda x: jnp.dot(x * held, jnp.ones(7)))(X)
        return weakref.ref(held)

    assert call()() is None
