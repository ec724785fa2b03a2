"""Trains a recurrent network on handwritten digits, by gradients that bmgrad made.

In: the 1,797 digits of 8 x 8 pixels that scikit-learn ships. Each is read row by row, a
sequence of 8 vectors, by the model of `digits_model.py`. Out, in `demo_output/`: the
learning curve, the gradient's program at every stage from our IR to the machine's HLO, and
the compiled gradient as a file, which `run_saved.py` runs again in a process that has never
seen this model.

    python examples/train_digits.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import matplotlib
import numpy as np
import optax
from digits_model import Classifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import bmgrad.math as bm

matplotlib.use("Agg")  # A picture in a file needs no display.
import matplotlib.pyplot as plt

STAGES = ("bm", "adjoint", "optimized", "stablehlo")


# -- The data ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Images `(n, 8, 8)` in [0, 1] and labels `(n,)`, for training and for the test."""

    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def load(cls, seed: int) -> Digits:
        data = load_digits()
        images = (data.images / 16).astype(np.float32)
        labels = data.target.astype(np.int32)
        parts = train_test_split(images, labels, test_size=0.2, random_state=seed, stratify=labels)
        return cls(*parts)

    def batches(self, size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """One epoch: positions of training images in random order, in batches of `size`."""
        order = generator.permutation(len(self.train_labels))
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


# -- Training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class History:
    """Loss of each step; accuracy on both sets after each epoch."""

    losses: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]


def train(model: Classifier, digits: Digits, epochs: int, batch: int, seed: int) -> History:
    variables = model.train_vars()
    gradient = bm.grad(model.loss, grad_vars=variables, return_value=True)
    accuracy = bm.jit(model.accuracy)

    steps = len(digits.batches(batch, np.random.default_rng(seed)))
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(1e-2, epochs * steps)),
    )
    state = optimiser.init({name: v.value for name, v in variables.items()})

    @jax.jit
    def updated(grads: Any, state: Any, values: Any) -> Any:
        updates, state = optimiser.update(grads, state, values)
        return optax.apply_updates(values, updates), state

    history = History([], [], [])
    generator = np.random.default_rng(seed)
    with tqdm(total=epochs * steps, unit="step", desc="training", mininterval=0.5) as bar:
        for _ in range(epochs):
            model.seen.value = model.right.value = bm.zeros(())
            for chosen in digits.batches(batch, generator):
                grads, loss = gradient(digits.train_images[chosen], digits.train_labels[chosen])
                values, state = updated(
                    dict(grads), state, {name: v.value for name, v in variables.items()}
                )
                for name, value in values.items():
                    variables[name].value = value
                history.losses.append(float(loss))
                bar.update()
            history.train_accuracy.append(float(model.right / model.seen))
            history.test_accuracy.append(float(accuracy(digits.test_images, digits.test_labels)))
            bar.set_postfix(loss=f"{loss:.3f}", test=f"{history.test_accuracy[-1]:.1%}")
    return history


def draw(history: History, path: Path) -> None:
    """The learning curve: loss of each step, accuracy after each epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.semilogy(history.losses, linewidth=0.8)
    left.set(title="Training loss", xlabel="step", ylabel="cross-entropy")
    epochs = range(1, len(history.test_accuracy) + 1)
    right.plot(epochs, history.train_accuracy, label="training digits")
    right.plot(epochs, history.test_accuracy, label="test digits")
    right.set(title="Accuracy", xlabel="epoch", ylim=(0, 1.02))
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


# -- The program, to look at and to keep ---------------------------------------------------------


def write_stages(lowered: Any, compiled: Any, directory: Path) -> None:
    """The gradient's text at each stage, one file a stage, numbered."""
    for number, stage in enumerate(STAGES, start=1):
        (directory / f"{number}-{stage}.mlir").write_text(lowered.as_text(stage))
    (directory / "5-optimised_hlo.txt").write_text(compiled.as_text())


def check_saved(compiled: Any, args: tuple[np.ndarray, ...], directory: Path) -> None:
    """Saves `compiled`, runs the file in a fresh process, and compares the results.

    Raises AssertionError where they differ.
    """
    saved = directory / "gradient.bmgrad"
    inputs, outputs = directory / "saved_inputs.npz", directory / "saved_outputs.npz"
    compiled.save(saved)
    np.savez(inputs, *args)
    # Another folder, and a script that imports nothing but bmgrad: no model's source there.
    script = Path(__file__).resolve().parent / "run_saved.py"
    files = [str(path.resolve()) for path in (saved, inputs, outputs)]
    subprocess.run([sys.executable, str(script), *files], check=True, cwd=directory)
    with np.load(outputs) as stored:
        again = [stored[name] for name in stored.files]
    here = jax.tree.leaves(compiled(*args))
    assert len(again) == len(here), f"{len(here)} results here, {len(again)} from the file"
    for ours, theirs in zip(here, again, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    bm.random.seed(options.seed)
    digits = Digits.load(options.seed)
    model = Classifier(digits.train_images.shape[-1], options.hidden)
    history = train(model, digits, options.epochs, options.batch, options.seed)
    accuracy = history.test_accuracy[-1]
    print(f"test accuracy: {accuracy:.1%} of {len(digits.test_labels)} digits never trained on")
    draw(history, options.output / "learning_curve.png")

    gradient = bm.grad(model.loss, grad_vars=model.train_vars(), return_value=True)
    example = digits.test_images[: options.batch], digits.test_labels[: options.batch]
    lowered = gradient.trace(*example).lower()
    compiled = lowered.compile()
    write_stages(lowered, compiled, options.output)
    check_saved(compiled, example, options.output)
    print("saved gradient: a fresh process without this model gave the same results")

    print(f"written to {options.output}/:")
    for path in sorted(options.output.iterdir()):
        print(f"  {path.name:24} {path.stat().st_size:9,} bytes")
    print(f"done in {time.perf_counter() - start:.1f} s")
    if accuracy <= 0.9:
        sys.exit("the test accuracy should be better than 90 %")


if __name__ == "__main__":
    main()
