"""Which kind of device bmgrad runs on, and in which precision: a thin cover of JAX's own choice.

In: `"cpu"`, `"gpu"` or `"tpu"`. Out: JAX's default device and types, for all of JAX.
"""

from typing import Any

import jax

PLATFORMS = ("cpu", "gpu", "tpu")


def set_platform(platform: str) -> None:
    """Runs everything from now on on `platform`: `"cpu"`, `"gpu"` or `"tpu"`.

    May be called at any time; arrays stay where they are. It is an error if this
    machine has no such device. (To keep JAX from opening a GPU at all, set the
    environment variable `JAX_PLATFORMS=cpu` before the program starts.)
    """
    if platform not in PLATFORMS:
        raise ValueError(f"platform must be one of 'cpu', 'gpu', 'tpu', got {platform!r}")
    try:
        jax.devices(platform)
    except RuntimeError as error:
        present = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise RuntimeError(
            f"platform {platform!r} is not available here; JAX found: {present}. JAX says: {error}"
        ) from None
    jax.config.update("jax_default_device", platform)


def get_platform() -> str:
    """The platform that computations run on now: `"cpu"`, `"gpu"` or `"tpu"`."""
    config: Any = jax.config
    default = config.jax_default_device
    if default is None:
        return str(jax.default_backend())
    return default if isinstance(default, str) else str(default.platform)


def enable_x64(mode: bool = True) -> None:
    """Gives new arrays 64-bit types from now on; `mode=False` 32-bit ones, as is the default."""
    jax.config.update("jax_enable_x64", bool(mode))


def disable_x64() -> None:
    """`enable_x64(False)`."""
    enable_x64(False)
