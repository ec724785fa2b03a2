"""How long XLA takes to compile our StableHLO, and how long JAX's for the same gradient."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

import bmgrad.math as bm
from benchmarks import _models
from benchmarks._harness import Report, Sampler, arguments, check_equal

CASES: dict[str, _models.Case] = {
    "500 elementwise ops": _models.chain(500),
    "MLP of 10 layers": _models.mlp(10, 128, 64),
    "RNN scan": _models.rnn(100, 64, 16),
    "LSTM scan": _models.lstm(100, 64, 16),
    "40 steps of a network, unrolled": _models.unrolled_network(40, 32),
    "10 steps of equations, unrolled": _models.unrolled_equations(10),
}


def compilation(transform: Callable[..., Any], case: _models.Case) -> Sampler:
    """A sampler of the compilation alone, of a function that is new each time."""

    make, args = case

    def sample() -> float:
        lowered = jax.jit(transform(make())).trace(*args).lower()
        start = time.perf_counter()
        lowered.compile()
        return time.perf_counter() - start

    return sample


def main() -> None:
    options = arguments(__doc__)
    rounds = 5 if options.quick else 15
    report = Report("XLA's compilation of a gradient")
    for name, case in CASES.items():
        make, args = case
        loss = make()
        check_equal(name, bm.grad(loss)(*args), jax.jit(jax.grad(loss))(*args))
        report.compare(
            name,
            "JAX's StableHLO",
            compilation(bm.grad, case),
            compilation(jax.grad, case),
            rounds=rounds,
            target=1.0,
        )
    report.close()


if __name__ == "__main__":
    main()
