"""How long a gradient takes from the Python function to StableHLO, beside JAX.

Both sides end with a `jax.stages.Lowered`, whose module XLA can take as it is, and both get
a new function object each time, so no cache helps; programs that came out equal before,
which we keep, are forgotten. The first line of a case is the way of
`bm.grad(f).trace(...).lower()` and the hand-over to JAX; the second has `jax.jit` around
`bm.grad(f)`, for which JAX traces more. A last table says where our time goes.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax

import bmgrad.math as bm
from benchmarks import _models
from benchmarks._harness import Report, arguments, check_equal, once, spell
from bmgrad._import._program import _shared_program
from bmgrad._transforms import _trace
from bmgrad.runtime import _jax_internals, _pipeline, _source

CASES: dict[str, _models.Case] = {
    "5,000 elementwise ops": _models.chain(5000),
    "MLP of 100 layers": _models.mlp(100, 32, 16),
    "RNN scan": _models.rnn(100, 64, 16),
    "LSTM scan": _models.lstm(100, 64, 16),
}
TARGETS = {"LSTM scan": None}  # measured for interest; the others have the target


def ours(case: _models.Case) -> Any:
    """Through the stages, and handed over to JAX, which has StableHLO that it can compile."""
    make, args = case
    _shared_program.cache_clear()
    lowered = bm.grad(make()).trace(*args).lower()
    return lowered._lowered()


def ours_in_jit(case: _models.Case) -> Any:
    make, args = case
    _shared_program.cache_clear()
    return jax.jit(bm.grad(make())).trace(*args).lower()


def theirs(case: _models.Case) -> Any:
    make, args = case
    return jax.jit(jax.grad(make())).trace(*args).lower()


# -- Our parts -----------------------------------------------------------------------------------


class Clock:
    """Seconds by part. A part inside another is not counted in that one too."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()
        self._inner: list[float] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] += spent - self._inner.pop()
            if self._inner:
                self._inner[-1] += spent


# Who does each part: where it is looked up, and what it is called there.
PLACES: list[tuple[Any, str, str]] = [
    (_jax_internals, "trace", "trace (JAX runs the function)"),
    (_trace, "import_program", "import (jaxpr to text of bm)"),
    (_source, "read", "read the text"),
    (_pipeline, "stablehlo", "passes"),
    (_pipeline, "bytecode", "write the bytecode of StableHLO"),
    (_jax_internals, "call_module", "hand over (JAX reads it)"),
]
assert all(hasattr(module, name) for module, name, _ in PLACES)


@contextlib.contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Puts the clock around the functions that do each part, whatever calls them."""
    with contextlib.ExitStack() as undo:
        for module, name, part in PLACES:
            original = getattr(module, name)

            def timed(*args: Any, _original: Any = original, _part: str = part, **kw: Any) -> Any:
                with clock.part(_part):
                    return _original(*args, **kw)

            setattr(module, name, functools.wraps(original)(timed))
            undo.callback(setattr, module, name, original)
        yield


def breakdown(case: _models.Case, rounds: int) -> dict[str, float]:
    """The median of each part's seconds, and of what is left."""
    samples = []
    for _ in range(rounds):
        clock = Clock()
        with clocked(clock), clock.part("everything else"):
            ours(case)
        samples.append(clock.seconds)
    return {part: statistics.median(s[part] for s in samples) for part in samples[0]}


def main() -> None:
    options = arguments(__doc__)
    rounds = 5 if options.quick else 15
    report = Report("From a Python function to the StableHLO of its gradient")
    for name, case in CASES.items():
        make, args = case
        check_equal(name, bm.grad(make())(*args), theirs(case).compile()(*args))
        for label, sampled, target in (
            (name, ours, TARGETS.get(name, 0.5)),
            ("  under an outer jax.jit", ours_in_jit, None),
        ):
            report.compare(
                label,
                "jax.jit(jax.grad)",
                once(functools.partial(sampled, case)),
                once(functools.partial(theirs, case)),
                rounds=rounds,
                target=target,
            )
    report.close()
    print("\nwhere our time goes")
    for name, case in CASES.items():
        parts = breakdown(case, rounds)
        total = sum(parts.values())
        print(f"  {name}")
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
            print(f"    {part:34}{spell(seconds):>10}{seconds / total:>7.0%}")


if __name__ == "__main__":
    main()
