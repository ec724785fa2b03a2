"""Fourier transforms: values, derivatives and batching against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from derivative_checks import check_batching, check_derivatives
from jax import lax

import bmgrad.math as bm


def array(*shape):
    return np.sin(np.arange(1, np.prod(shape, dtype=int) + 1) * 1.3).reshape(shape)


def complex_array(*shape):
    return array(*shape) + 1j * array(*shape)[::-1]


def transform(kind, *lengths):
    return lambda x: lax.fft(x, kind, lengths)


TRANSFORMS = {
    "fft": (transform("fft", 5), complex_array(2, 5)),
    "ifft": (transform("ifft", 4), complex_array(2, 4)),
    "rfft": (transform("rfft", 6), array(2, 6)),
    "rfft, odd": (transform("rfft", 5), array(5)),
    "irfft": (transform("irfft", 6), complex_array(2, 4)),
    "irfft, odd": (transform("irfft", 5), complex_array(3)),
    "fft of two": (transform("fft", 3, 4), complex_array(2, 3, 4)),
    "ifft of three": (transform("ifft", 2, 3, 2), complex_array(2, 3, 2)),
    "rfft of two": (transform("rfft", 3, 4), array(2, 3, 4)),
    "rfft of three": (transform("rfft", 2, 3, 5), array(2, 3, 5)),
    "irfft of two": (transform("irfft", 3, 4), complex_array(2, 3, 3)),
    "irfft of three": (transform("irfft", 2, 3, 5), complex_array(2, 3, 3)),
    "lengths of one": (transform("rfft", 1), array(3, 1)),
    "inverse of one": (transform("irfft", 1), complex_array(3, 1)),
    "two": (transform("rfft", 2), array(3, 2)),
    "empty batch": (transform("fft", 3), complex_array(0, 3)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives(name):
    fun, x = TRANSFORMS[name]
    check_derivatives(lambda x: fun(jnp.sin(x)) ** 2, x)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_batching(name):
    fun, x = TRANSFORMS[name]
    check_batching(lambda x: fun(x) ** 2, x)


def energy(y):
    return jnp.sum(jnp.abs(y) ** 4)


NUMPY = {
    "fft": (lambda x: energy(jnp.fft.fft(x, n=7)), array(5)),
    "fft, axis and norm": (lambda x: energy(jnp.fft.fft(x, axis=0, norm="ortho")), array(3, 2)),
    "ifft": (lambda x: energy(jnp.fft.ifft(x, n=3)), complex_array(4)),
    "rfft": (lambda x: energy(jnp.fft.rfft(x, norm="forward")), array(6)),
    "irfft": (lambda x: energy(jnp.fft.irfft(x, n=7)), complex_array(4)),
    "hfft": (lambda x: energy(jnp.fft.hfft(x)), complex_array(4)),
    "ihfft": (lambda x: energy(jnp.fft.ihfft(x)), array(5)),
    "fft2": (lambda x: energy(jnp.fft.fft2(x)), array(3, 4)),
    "irfft2": (lambda x: energy(jnp.fft.irfft2(x)), complex_array(3, 3)),
    "fftn": (lambda x: energy(jnp.fft.fftn(x)), array(2, 3, 2)),
    "rfftn": (lambda x: energy(jnp.fft.rfftn(x, axes=(0, 2))), array(2, 3, 4)),
    "fftshift": (lambda x: energy(jnp.fft.fftshift(jnp.fft.fft(x)) * jnp.fft.fftfreq(5)), array(5)),
    "filter": (lambda x: energy(jnp.fft.irfft(jnp.fft.rfft(x) * jnp.arange(4))), array(6)),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy(name):
    fun, x = NUMPY[name]
    # Central differences along complex directions see what JAX's convention leaves out.
    check_derivatives(fun, x, differences=not np.iscomplexobj(x))


def test_there_and_back():
    check_derivatives(lambda x: jnp.fft.irfft2(jnp.fft.rfft2(x)) ** 3, array(4, 4))


def test_spectrum_of_a_signal():
    def spectrum(x):
        return jax.scipy.signal.stft(x, nperseg=4)[2]

    check_derivatives(lambda x: jnp.abs(spectrum(x)) ** 2, array(12))
    check_derivatives(lambda x: jax.scipy.signal.fftconvolve(x, x[:3], mode="same"), array(8))


def test_single_precision():
    x = jnp.asarray(array(8), jnp.float32)
    got, want = (lib.grad(lambda x: energy(jnp.fft.rfft(x)))(x) for lib in (bm, jax))
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5)
