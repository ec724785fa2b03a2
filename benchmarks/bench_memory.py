"""How much memory compiled gradients need beside inputs and results, next to JAX's.

XLA plans it when it compiles, so nothing is run. With `jax.checkpoint` and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import bmgrad.math as bm
from benchmarks._harness import arguments, check_equal

DOTS = jax.checkpoint_policies.dots_saveable
WRAPS: dict[str, Callable[[Any], Any]] = {
    "everything kept": lambda layer: layer,
    "checkpoint": jax.checkpoint,
    "checkpoint, products kept": lambda layer: jax.checkpoint(layer, policy=DOTS),
}


def layer(w: Any, x: Any) -> Any:
    z = x @ w
    return jnp.tanh(jnp.sin(z) * jnp.exp(-(jnp.cos(z) ** 2)))


def unrolled(wrap: Callable[[Any], Any], ws: Any, x: Any) -> Any:
    for w in ws:
        x = wrap(layer)(w, x)
    return x.sum()


def scanned(wrap: Callable[[Any], Any], ws: Any, x: Any) -> Any:
    return jax.lax.scan(lambda x, w: (wrap(layer)(w, x), None), x, ws)[0].sum()


def main() -> None:
    arguments(__doc__)
    keys = jax.random.split(jax.random.key(0))
    ws, x = jax.random.normal(keys[0], (8, 64, 64)) / 8, jax.random.normal(keys[1], (4096, 64))
    print(f"\nTemporary memory of a compiled gradient\n(jax {jax.__version__}, float32)\n")
    print(f"{'case':48}{'ours':>10}{'jax':>10}{'ratio':>8}")
    for name, network in (("8 layers", unrolled), ("8 layers in a scan", scanned)):
        for kept, wrap in WRAPS.items():
            case = f"{name}, {kept}"
            compiled = [
                jax.jit(lib.grad(lambda ws, x, n=network, w=wrap: n(w, ws, x)))
                .lower(ws, x)
                .compile()
                for lib in (bm, jax)
            ]
            check_equal(case, *(gradient(ws, x) for gradient in compiled))
            ours, theirs = (c.memory_analysis().temp_size_in_bytes / 2**20 for c in compiled)
            print(f"{case:48}{ours:>6.1f} MiB{theirs:>6.1f} MiB{ours / theirs:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
