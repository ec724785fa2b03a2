"""What a call of a compiled gradient costs, beside JAX's and BrainPy's.

The functions compute next to nothing, so the time is Python's and the dispatch's.
BrainPy is asked where it is installed, or where `--brainpy PYTHON` names an interpreter
that has it; it works in a process of its own, one sample at a time, in turns with us.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import bmgrad as bp
import bmgrad.math as bm
from benchmarks import _models
from benchmarks._harness import Report, Sampler, arguments, calls, check_equal


class BrainPy:
    """A process that calls BrainPy's compiled gradients when it is told to."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).resolve().parent / "_brainpy_worker.py"
        self._process = subprocess.Popen(
            [python, str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hello = json.loads(self._answer())
        self.name = f"BrainPy {hello['version']}"
        self.values: dict[str, list[Any]] = hello["values"]

    def sampler(self, case: str, count: int) -> Sampler:
        def sample() -> float:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{case} {count}\n")
            self._process.stdin.flush()
            return float(self._answer())

        return sample

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("BrainPy's process ended; run _brainpy_worker.py to see why")
        return line


def outside_jit(report: Report, rounds: int) -> None:
    """Calls that trace their function anew each time, as JAX's do."""
    make, args = _models.mlp(4, 16, 16)
    loss = make()

    def pullback(vjp: Any) -> Any:
        out, pull = vjp(lambda parameters: loss(parameters, *args[1:]), args[0])
        return pull(jnp.ones_like(out))

    check_equal("vjp outside jit", pullback(bm.vjp), pullback(jax.vjp))
    report.compare(
        "vjp outside jit, MLP of 4 layers",
        "jax.vjp",
        calls(pullback, bm.vjp, count=10),
        calls(pullback, jax.vjp, count=10),
        rounds=rounds,
    )

    def of_a_closure(grad: Any) -> Any:
        return grad(lambda parameters: loss(parameters, *args[1:]))(args[0])

    for _ in range(3):  # After which functions of one code are known to be made anew.
        check_equal("grad of a closure", of_a_closure(bm.grad), of_a_closure(jax.grad))
    report.compare(
        "grad of a closure made anew",
        "jax.grad",
        calls(of_a_closure, bm.grad, count=10),
        calls(of_a_closure, jax.grad, count=10),
        rounds=rounds,
    )

    make, args = _models.branching(10)
    ours, theirs = bm.grad(make()), jax.grad(make())
    check_equal("Python that branches", ours(*args), theirs(*args))
    report.compare(
        "10 branches of Python by value",
        "jax.grad",
        calls(ours, *args, count=10),
        calls(theirs, *args, count=10),
        rounds=rounds,
    )


def main() -> None:
    options = arguments(__doc__)
    rounds, count = (15, 1000) if options.quick else (41, 2000)
    report = Report("A call of a compiled gradient")

    x, y = map(jnp.asarray, _models.two_arguments())
    of_two = bm.grad(_models.two_arrays, argnums=(0, 1))
    theirs = jax.jit(jax.grad(_models.two_arrays, argnums=(0, 1)))
    check_equal("two arrays", of_two(x, y), theirs(x, y))
    two_arrays = calls(of_two, x, y, count=count)
    report.compare(
        "two arrays",
        "jax.jit(jax.grad)",
        two_arrays,
        calls(theirs, x, y, count=count),
        rounds=rounds,
        target=1.2,
    )

    boxed = bm.asarray(x), bm.asarray(y)
    report.compare(
        "two bm.Arrays",
        "jax.jit(jax.grad)",
        calls(of_two, *boxed, count=count),
        calls(theirs, x, y, count=count),
        rounds=rounds,
    )

    model = _models.stateful_network(bp, bm, bp.Base)
    point = jnp.asarray(_models.network_input())
    of_model = bm.grad(model.loss, grad_vars=model.train_vars())
    theirs = jax.jit(jax.grad(_models.flat_network))
    parameters = list(map(jnp.asarray, _models.leaves()))
    check_equal("20 variables", of_model(point), theirs(parameters, point))
    network = calls(of_model, point, count=count)
    report.compare(
        "20 variables",
        "jax.jit, a flat list",
        network,
        calls(theirs, parameters, point, count=count),
        rounds=rounds,
        target=1.5,
    )

    outside_jit(report, rounds)

    python = options.brainpy or (sys.executable if importlib.util.find_spec("brainpy") else None)
    if python is None:
        print("BrainPy: not installed, not compared (--brainpy PYTHON names an interpreter)")
    else:
        brainpy = BrainPy(python)
        for case, name, sampler, gradients in (
            ("two arrays", "two_arrays", two_arrays, of_two(x, y)),
            ("20 variables", "network", network, of_model(point)),
        ):
            leaves = jax.tree.leaves(gradients)
            check_equal(case, leaves, [jnp.asarray(value) for value in brainpy.values[name]])
            report.compare(
                case,
                brainpy.name,
                sampler,
                brainpy.sampler(name, count),
                rounds=rounds,
                target=1 / 3,
            )
        brainpy.close()
    report.close()


if __name__ == "__main__":
    main()
