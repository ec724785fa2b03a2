"""Measures two ways to do the same thing against each other, and prints who wins.

In: pairs of samplers, functions that do some work and say how many seconds it took. Out:
a table with the ratio of each pair and, after it, where we lose.

The two sides are sampled in turns, in one process, each round in the other order: what
disturbs the machine disturbs both. The ratio is that of the medians, which a disturbance in a few
rounds does not move; the quartiles of the rounds' ratios are printed beside it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

# Does the work once or many times; returns seconds for one time.
Sampler = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """One line of the table; times in seconds, `quartiles` of the rounds' ratios."""

    case: str
    peer: str
    ours: float
    theirs: float
    ratio: float
    quartiles: tuple[float, float]
    target: float | None

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        if self.ratio <= self.target:
            return "ok"
        return "MISSED" if self.quartiles[0] > self.target else "missed, within noise"


@dataclass
class Report:
    """What a script prints: results as they come, then a summary."""

    title: str
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        print(f"\n{self.title}\n(jax {jax.__version__}, {jax.default_backend()}, float32)\n")
        columns = ("ours", "theirs", "ratio", "quartiles", "target")
        print(f"{'case':34} {'against':22}" + "".join(f"{c:>11}" for c in columns), flush=True)

    def compare(
        self,
        case: str,
        peer: str,
        ours: Sampler,
        theirs: Sampler,
        *,
        rounds: int,
        seconds: float = 0.0,
        target: float | None = None,
    ) -> Result:
        """Samples both sides in turns and prints a line.

        `rounds` times, and as many times more as `seconds` allow: the median of few short
        samples is a matter of luck.
        """
        times: list[tuple[float, float]] = []
        collected = 0.0
        end = time.perf_counter() + seconds
        while len(times) < rounds or time.perf_counter() < end:
            if time.perf_counter() - collected > 0.25:
                gc.collect()
                collected = time.perf_counter()
            if len(times) % 2:
                their_time = theirs()
                our_time = ours()
            else:
                our_time = ours()
                their_time = theirs()
            times.append((our_time, their_time))
        ratios = [mine / other for mine, other in times]
        lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        ours_median, theirs_median = (statistics.median(side) for side in zip(*times, strict=True))
        result = Result(
            case,
            peer,
            ours_median,
            theirs_median,
            # A verdict on more digits than are printed would be one on noise.
            round(ours_median / theirs_median, 2),
            (lower, upper),
            target,
        )
        self.results.append(result)
        wanted = "" if target is None else f"<= {target:.2f}"
        print(
            f"{case:34} {peer:22}{spell(result.ours):>11}{spell(result.theirs):>11}"
            f"{result.ratio:>11.2f}{f'{lower:.2f}-{upper:.2f}':>11}{wanted:>11}  {result.verdict}",
            flush=True,
        )
        return result

    def close(self) -> None:
        """Says where we lose."""
        slower = [f"{r.case} ({r.ratio:.2f} x {r.peer})" for r in self.results if r.ratio > 1]
        missed = [
            f"{r.case} ({r.ratio:.2f}, wanted {r.target:.2f})"
            for r in self.results
            if r.target is not None and r.ratio > r.target
        ]
        print(f"\nslower than the peer: {'; '.join(slower) or 'nowhere'}")
        print(f"targets missed: {'; '.join(missed) or 'none'}", flush=True)


def spell(seconds: float) -> str:
    for unit, factor in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.2f} s"


def once(work: Callable[[], Any]) -> Sampler:
    """A sampler that does `work` one time."""

    def sample() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return sample


def calls(function: Callable[..., Any], *args: Any, count: int) -> Sampler:
    """A sampler that calls a compiled function `count` times and waits for the last result."""

    def sample() -> float:
        start = time.perf_counter()
        for _ in range(count):
            result = function(*args)
        jax.block_until_ready(jax.tree.leaves(result))
        return (time.perf_counter() - start) / count

    return sample


def check_equal(case: str, ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    """Raises AssertionError where the two sides' results differ: a wrong answer is not fast.

    The tolerance is relative to the largest number of each array.
    """
    mine, other = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(mine) == len(other), f"{case}: {len(mine)} results against {len(other)}"
    for x, y in zip(mine, other, strict=True):
        scale = float(np.max(np.abs(np.asarray(y)), initial=1e-6))
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale, err_msg=case)


def arguments(description: str | None, extra: Sequence[tuple[str, str]] = ()) -> argparse.Namespace:
    """The options of every script: `--quick`, and `extra` pairs of name and help."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, the same cases")
    # Scripts are run together by one command line, so each takes the options of all.
    parser.add_argument("--brainpy", metavar="PYTHON", help="an interpreter that has BrainPy")
    for name, explanation in extra:
        parser.add_argument(name, action="store_true", help=explanation)
    return parser.parse_args()
