"""How long compiled gradients run, beside JAX's."""

from __future__ import annotations

import jax

import bmgrad.math as bm
from benchmarks import _models
from benchmarks._harness import Report, arguments, calls, check_equal

# Calls in a sample, and what is called. Of what takes microseconds each call is waited for: how
# calls overlap that are not differs between two runs of one program more than we from JAX.
CASES: dict[str, tuple[int, _models.Case]] = {
    **{f"{name}, 2^16": (1, _models.single(op)) for name, op in _models.SINGLE_OPS.items()},
    "cumsum, discounted, 2^16": (1, _models.discounted_sum()),
    "500 elementwise ops": (1, _models.chain(500)),
    "MLP, 4 x 256, batch 64": (20, _models.mlp(4, 256, 64)),
    "ConvNet, batch 16": (5, _models.convnet(16)),
    "attention block, 64 x 128": (5, _models.attention(64, 128, 4, 8)),
    "Cholesky log-likelihood, 200": (10, _models.gaussian_process(200)),
    "FFT filter, 4096, batch 16": (20, _models.fft_filter(4096, 16)),
    "RNN scan, 100 x 64, batch 16": (10, _models.rnn(100, 64, 16)),
    "LSTM scan, 100 x 64, batch 16": (10, _models.lstm(100, 64, 16)),
    "40 steps of a network, unrolled": (20, _models.unrolled_network(40, 32)),
    "10 steps of equations, unrolled": (50, _models.unrolled_equations(10)),
}


def main() -> None:
    options = arguments(__doc__)
    rounds, seconds = (11, 0.5) if options.quick else (41, 5.0)
    report = Report("A compiled gradient, running")
    for name, (count, (make, args)) in CASES.items():
        loss = make()
        ours, theirs = bm.grad(loss), jax.jit(jax.grad(loss))
        check_equal(name, ours(*args), theirs(*args))
        # After so many, functions of one code, made again and again, are compiled.
        for _ in range(20):
            ours(*args)
        report.compare(
            name,
            "jax.jit(jax.grad)",
            calls(ours, *args, count=count),
            calls(theirs, *args, count=count),
            rounds=rounds,
            seconds=seconds,
            target=1.0,
        )
    report.close()


if __name__ == "__main__":
    main()
