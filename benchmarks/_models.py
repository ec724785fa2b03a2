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


SINGLE_OPS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "sum of squares": jnp.square,
    "softmax": jax.nn.softmax,
    "cumsum": jnp.cumsum,
    "sort": jnp.sort,
    "gather": lambda x: x[::-3][jnp.arange(100)],
    "max": lambda x: x.reshape(256, -1).max(axis=1),
}


def single(op: Callable[[Any], Any]) -> Case:
    """One op on a vector of 2^16; its cotangent comes from outside."""

    def make() -> Callable[..., Any]:
        def loss(x: Any, weights: Any) -> Any:
            y = op(x)
            return (y * weights[: y.size]).sum()

        return loss

    return make, (_normal(2**16, scale=1.0), _normal(2**16, scale=1.0, seed=1))


def discounted_sum() -> Case:
    """A running sum whose cotangent XLA could know when it compiles."""

    def make() -> Callable[..., Any]:
        def loss(x: Any) -> Any:
            return (jnp.cumsum(x) * 0.99 ** jnp.arange(x.size)).sum()

        return loss

    return make, (_normal(2**16, scale=1.0),)


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


def branching(steps: int) -> Case:
    """As many elementwise ops, with a decision by value in Python."""

    def make() -> Callable[..., Any]:
        def loss(x: Any) -> Any:
            for _ in range(steps):
                x = jnp.sin(x) if x.sum() > 0 else jnp.tanh(x)
            return x.sum()

        return loss

    return make, (_normal(16, scale=1.0),)


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


def unrolled_network(steps: int, width: int) -> Case:
    """A leaky recurrent network whose steps a Python loop unrolls."""

    def make() -> Callable[..., Any]:
        def loss(weights: Any, x: Any) -> Any:
            h = x
            for _ in range(steps):
                h = 0.9 * h + 0.1 * jnp.tanh(weights @ h + x)
            return jnp.sum(h**2)

        return loss

    return make, (_normal(width, width), _normal(width, scale=1.0))


def unrolled_equations(steps: int) -> Case:
    """Euler's method for the Lorenz system, unrolled by a Python loop."""

    def make() -> Callable[..., Any]:
        def loss(p: Any, y: Any) -> Any:
            for _ in range(steps):
                dx = p[0] * (y[1] - y[0])
                dy = y[0] * (p[1] - y[2]) - y[1]
                dz = y[0] * y[1] - p[2] * y[2]
                y = y + 0.01 * jnp.stack([dx, dy, dz])
            return jnp.sum(y**2)

        return loss

    return make, (jnp.array([10.0, 28.0, 8 / 3]), jnp.ones(3))


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


def convnet(batch: int) -> Case:
    """Two convolutions with bias and ReLU, average pooling, max pooling, a dense layer."""

    def make() -> Callable[..., Any]:
        def loss(parameters: Any, images: Any) -> Any:
            (k1, b1), (k2, b2), w = parameters
            numbers = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(images, k1, (1, 1), "SAME", dimension_numbers=numbers)
            x = jax.nn.relu(x + b1)
            window, stride = (1, 2, 2, 1), (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, stride, "VALID") / 4
            x = jax.lax.conv_general_dilated(x, k2, (1, 1), "SAME", dimension_numbers=numbers)
            x = jax.nn.relu(x + b2)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, "VALID")
            return -jax.nn.log_softmax(x.reshape(batch, -1) @ w)[:, 0].mean()

        return loss

    parameters = (
        (_normal(3, 3, 1, 16, scale=0.3), _normal(16, scale=0.1)),
        (_normal(3, 3, 16, 32, scale=0.1), _normal(32, scale=0.1)),
        _normal(7 * 7 * 32, 10),
    )
    return make, (parameters, _normal(batch, 28, 28, 1, scale=1.0))


def attention(length: int, width: int, heads: int, batch: int) -> Case:
    """A transformer block: causal attention, layer norms, a GELU network."""

    def make() -> Callable[..., Any]:
        def norm(x: Any) -> Any:
            centred = x - x.mean(-1, keepdims=True)
            return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

        def loss(parameters: Any, x: Any) -> Any:
            w_qkv, w_out, w_up, w_down = parameters
            qkv = (norm(x) @ w_qkv).reshape(batch, length, 3, heads, width // heads)
            q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
            scores = jnp.einsum("bihd,bjhd->bhij", q, k) * (width // heads) ** -0.5
            causal = jnp.tril(jnp.ones((length, length), bool))
            weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
            mixed = jnp.einsum("bhij,bjhd->bihd", weights, v).reshape(batch, length, width)
            x = x + mixed @ w_out
            x = x + jax.nn.gelu(norm(x) @ w_up) @ w_down
            return (x**2).mean()

        return loss

    parameters = (
        _normal(width, 3 * width),
        _normal(width, width),
        _normal(width, 4 * width),
        _normal(4 * width, width),
    )
    return make, (parameters, _normal(batch, length, width, scale=1.0))


def gaussian_process(points: int) -> Case:
    """The log-likelihood of a Gaussian process, by Cholesky factorisation."""

    def make() -> Callable[..., Any]:
        def loss(parameters: Any, x: Any, y: Any) -> Any:
            scale, length, noise = jnp.exp(parameters)
            squares = ((x[:, None] - x[None]) / length) ** 2
            covariance = scale * jnp.exp(-squares / 2) + (noise + 1e-3) * jnp.eye(points)
            factor = jnp.linalg.cholesky(covariance)
            white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
            return white @ white / 2 + jnp.log(jnp.diagonal(factor)).sum()

        return loss

    x = jnp.linspace(0, 10, points)
    return make, (jnp.zeros(3), x, jnp.sin(x) + _normal(points, scale=0.1))


def fft_filter(length: int, batch: int) -> Case:
    """A filter learnt in the frequency domain."""

    def make() -> Callable[..., Any]:
        def loss(response: Any, signals: Any, wanted: Any) -> Any:
            filtered = jnp.fft.irfft(jnp.fft.rfft(signals) * response, length)
            return ((filtered - wanted) ** 2).mean()

        return loss

    signals = _normal(batch, length, scale=1.0)
    return make, (jnp.ones(length // 2 + 1), signals, jnp.cumsum(signals, axis=1))


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
