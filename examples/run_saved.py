"""Runs a saved gradient where the model's source is not: `run_saved.py FILE INPUTS OUTPUTS`.

In: a file that `compiled.save` wrote, and its arguments as an npz file, in order. Out: the
leaves of the result as an npz file. `train_digits.py` starts it and compares.
"""

import sys

import jax
import numpy as np

import bmgrad as bp


def main() -> None:
    saved, inputs, outputs = sys.argv[1:]
    gradient = bp.load(saved)
    with np.load(inputs) as stored:
        args = [stored[name] for name in stored.files]
    np.savez(outputs, *jax.tree.leaves(gradient(*args)))


if __name__ == "__main__":
    main()
