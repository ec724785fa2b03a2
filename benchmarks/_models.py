"""The functions that are differentiated, the same for both sides.

A case is `(make, args)`: `make()` gives a new function object each time, so that neither
side finds it in a cache; it is called with `args`, returns a scalar, and is differentiated
by the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Make = Callable[[], Callable[..., Any]]
Case = tuple[Make, tuple[Any, ...]]


def _normal(*shape: int, scale: float | None = None, seed: int = 0) -> jax.Array:
    """Normal numbers; by default so scaled that products of matrices keep their size."""
    spread = scale if scale is not None else shape[0] ** -0.5
    values = np.random.default_rng((seed, *shape)).normal(size=shape) * spread
    return jnp.asarray(values, jnp.float32)


def chain(ops: int) -> Case:
    """`ops` elementwise ops in a row on a vector of 16."""

    def make() -> Callable[..., Any]:
        def loss(x: Any) -> Any:
            for _ in range(ops // 5):
                x = jnp.sin(x)
                x = x * 1.01
                x = x + 0.1
                x = jnp.tanh(x)
                x = x - 0.05
            return x.sum()

        return loss

    return make, (_normal(16, scale=1.0),)


def mlp(layers: int, width: int, batch: int) -> Case:
    """Dense layers with tanh, weights and biases in a list."""

    def make() -> Callable[..., Any]:
        def loss(parameters: Any, x: Any) -> Any:
            for w, b in parameters:
                x = jnp.tanh(x @ w + b)
            return (x**2).mean()

        return loss

    parameters = [
        (_normal(width, width, seed=i), _normal(width, scale=0.1, seed=i)) for i in range(layers)
    ]
    return make, (parameters, _normal(batch, width, scale=1.0))


def rnn(steps: int, width: int, batch: int) -> Case:
    """A tanh network over a sequence, by `scan`."""

    def make() -> Callable[..., Any]:
        def loss(parameters: Any, xs: Any) -> Any:
            w_in, w_rec, b = parameters

            def step(h: Any, x: Any) -> Any:
                h = jnp.tanh(x @ w_in + h @ w_rec + b)
                return h, h

            _, hs = jax.lax.scan(step, jnp.zeros((batch, width)), xs)
            return (hs**2).mean()

        return loss

    parameters = _normal(width, width), _normal(width, width, seed=1), _normal(width, scale=0.1)
    return make, (parameters, _normal(steps, batch, width, scale=1.0))


def lstm(steps: int, width: int, batch: int) -> Case:
    """A long short-term memory over a sequence, by `scan`."""

    def make() -> Callable[..., Any]:
        def loss(parameters: Any, xs: Any) -> Any:
            w_in, w_rec, b = parameters

            def step(carry: Any, x: Any) -> Any:
                h, c = carry
                i, f, g, o = jnp.split(x @ w_in + h @ w_rec + b, 4, axis=-1)
                c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            zeros = jnp.zeros((batch, width))
            _, hs = jax.lax.scan(step, (zeros, zeros), xs)
            return (hs**2).mean()

        return loss

    parameters = (
        _normal(width, 4 * width),
        _normal(width, 4 * width, seed=1),
        _normal(4 * width, scale=0.1),
    )
    return make, (parameters, _normal(steps, batch, width, scale=1.0))


# -- The same network in three spellings, for the cost of a call ---------------------------------

LAYERS, WIDTH = 10, 4  # 20 variables, small: a call's own cost is what is measured.


def two_arrays(x: Any, y: Any) -> Any:
    """A function of two arrays that costs next to nothing to compute."""
    return (x * y).sum()


def two_arguments() -> tuple[Any, Any]:
    return np.linspace(0, 1, 8, dtype=np.float32), np.linspace(1, 2, 8, dtype=np.float32)


def leaves() -> list[np.ndarray]:
    """`w0, b0, w1, b1, ...`: 20 arrays."""
    generator = np.random.default_rng(0)
    shapes = [shape for _ in range(LAYERS) for shape in ((WIDTH, WIDTH), (WIDTH,))]
    return [generator.normal(size=shape).astype(np.float32) * 0.5 for shape in shapes]


def network_input() -> np.ndarray:
    return np.linspace(-1, 1, WIDTH, dtype=np.float32)


def stateful_network(bp: Any, bm: Any, base: Any) -> Any:
    """A model with 20 variables, of bmgrad's classes or of BrainPy's."""

    class Network(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for i, value in enumerate(leaves()):
                setattr(self, f"p{i:02}", bm.TrainVar(bm.asarray(value)))

        def loss(self, x: Any) -> Any:
            for i in range(0, 2 * LAYERS, 2):
                x = bm.tanh(bm.dot(x, getattr(self, f"p{i:02}")) + getattr(self, f"p{i + 1:02}"))
            return (x**2).mean()

    return Network()


def flat_network(parameters: list[Any], x: Any) -> Any:
    """The same with the variables passed as a flat list."""
    for i in range(0, len(parameters), 2):
        x = jnp.tanh(jnp.dot(x, parameters[i]) + parameters[i + 1])
    return (x**2).mean()
