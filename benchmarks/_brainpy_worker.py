"""BrainPy's side of `bench_call.py`, run by an interpreter that has BrainPy 2.9.

Reads lines `CASE COUNT` and answers each with the seconds that one of COUNT calls took;
the first line it writes has its version and the gradients, as JSON, to be compared.
"""

import json
import sys
import time
from pathlib import Path

import brainpy as bp
import brainpy.math as bm
import jax
import numpy as np

# Not a package for that interpreter: `benchmarks` would be found by `-m` alone.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import _models


def main() -> None:
    base = bp.Base if hasattr(bp, "Base") else bp.BrainPyObject
    model = _models.stateful_network(bp, bm, base)
    x, y = map(bm.asarray, _models.two_arguments())
    point = bm.asarray(_models.network_input())
    cases = {
        "two_arrays": (bm.jit(bm.grad(_models.two_arrays, argnums=(0, 1))), (x, y)),
        "network": (bm.jit(bm.grad(model.loss, grad_vars=model.train_vars())), (point,)),
    }
    values = {
        name: [np.asarray(leaf).tolist() for leaf in _leaves(function(*args))]
        for name, (function, args) in cases.items()
    }
    print(json.dumps({"version": bp.__version__, "values": values}), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        function, args = cases[name]
        start = time.perf_counter()
        for _ in range(int(count)):
            result = function(*args)
        jax.block_until_ready(_leaves(result))
        print((time.perf_counter() - start) / int(count), flush=True)


def _leaves(result: object) -> list:
    arrays = jax.tree.leaves(result, is_leaf=lambda node: hasattr(node, "value"))
    return [getattr(array, "value", array) for array in arrays]


if __name__ == "__main__":
    main()
