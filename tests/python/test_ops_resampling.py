"""Functions of JAX for signals and images that are made of gathers, products and windows."""

import jax
import jax.image
import jax.numpy as jnp
import jax.scipy.ndimage
import jax.scipy.signal
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


FUNCTIONS = {
    "resize": (lambda x: jax.image.resize(x, (5, 7), "cubic"), array(3, 4)),
    "shrink": (lambda x: jax.image.resize(x, (2, 2), "linear"), array(5, 4)),
    "scale": (
        lambda x, s: jax.image.scale_and_translate(x, (4,), (0,), s, jnp.zeros(1), "lanczos3"),
        array(5),
        np.asarray([0.8]),
    ),
    "coordinates": (
        lambda x, y: jax.scipy.ndimage.map_coordinates(x, [y, 1.5 * y], 1, mode="nearest"),
        array(4, 5),
        np.asarray([0.3, 1.7, 2.2]),
    ),
    "detrend": (lambda x: jax.scipy.signal.detrend(x), array(6)),
    "spectral density": (lambda x: jax.scipy.signal.welch(x, nperseg=4)[1], array(8)),
    "inverse short-time transform": (
        lambda x: jax.scipy.signal.istft(x + 0j, nperseg=4)[1],
        array(3, 4),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name):
    fun, *args = FUNCTIONS[name]
    check_derivatives(lambda *args: fun(*args) ** 2, *args)


@pytest.mark.parametrize("name", ["resize", "coordinates"])
def test_batching(name):
    fun, *args = FUNCTIONS[name]
    check_batching(fun, *args)
