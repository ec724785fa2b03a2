"""Discrete Fourier transforms: the functions of ``jax.numpy.fft``, for ``bm.Array``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from bmgrad.math._wrapping import export

__all__ = export(
    """
    fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 irfftn rfft
    rfft2 rfftfreq rfftn
    """,
    jnp.fft,
    globals(),
    __name__,
)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
