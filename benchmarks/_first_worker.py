"""One side of `bench_first.py`, in a process of its own: `CASE ours|theirs`.

Writes the seconds that the first call of a gradient took, and the gradient, as JSON.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.ode import odeint

import bmgrad.math as bm
from benchmarks import _models

X = jnp.array([2.0, 3.0])


def pendulum(x: Any) -> Any:
    times = jnp.linspace(0.0, 2.0, 5)
    return jnp.sum(odeint(lambda y, t: jnp.stack([y[1], -jnp.sin(y[0])]), x, times) ** 2)


def linear_solve(x: Any) -> Any:
    import lineax as lx

    matrix = lx.MatrixLinearOperator(jnp.eye(2) * 3 + jnp.outer(x, x))
    return lx.linear_solve(matrix, jnp.ones(2), lx.QR()).value.sum()


def least_squares(x: Any) -> Any:
    import optimistix as optx

    def residual(y: Any, x: Any) -> Any:
        return jnp.stack([y[0] ** 2 - x[0], y[1] * y[0] - x[1]])

    solver = optx.LevenbergMarquardt(1e-4, 1e-4)
    return optx.least_squares(residual, solver, jnp.ones(2), x).value.sum()


def solved(solver: str, adjoint: str, times: Any = None) -> Callable[[Any], Any]:
    def loss(x: Any) -> Any:
        import diffrax

        saved = {"t1": True} if times is None else {"ts": times}
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -args * y),
            getattr(diffrax, solver)(),
            0.0,
            1.0,
            0.1,
            x,
            args=2.0,
            saveat=diffrax.SaveAt(**saved),
            stepsize_controller=diffrax.PIDController(1e-3, 1e-3),
            adjoint=getattr(diffrax, adjoint)(),
        )
        return found.ys.sum()

    return loss


def solved_from_several(x: Any) -> Any:
    solve = solved("Tsit5", "RecursiveCheckpointAdjoint", jnp.linspace(0.0, 1.0, 5))
    return jnp.sum(jax.vmap(solve)(jnp.stack([x, 2 * x, 3 * x])))


# With the library that a case needs, if that is not JAX alone.
CASES: dict[str, tuple[Callable[[], _models.Case], str]] = {
    "MLP of 10 layers": (lambda: _models.mlp(10, 128, 64), ""),
    "RNN scan": (lambda: _models.rnn(100, 64, 16), ""),
    "LSTM scan": (lambda: _models.lstm(100, 64, 16), ""),
    "40 steps of a network, unrolled": (lambda: _models.unrolled_network(40, 32), ""),
    "10 steps of equations, unrolled": (lambda: _models.unrolled_equations(10), ""),
    "odeint": (lambda: (lambda: pendulum, (X,)), ""),
    "lineax, QR": (lambda: (lambda: linear_solve, (X,)), "lineax"),
    "optimistix, Levenberg-Marquardt": (lambda: (lambda: least_squares, (X,)), "optimistix"),
    "diffrax, Tsit5, checkpointed": (
        lambda: (lambda: solved("Tsit5", "RecursiveCheckpointAdjoint"), (X,)),
        "diffrax",
    ),
    "diffrax, Tsit5, checkpointed, vmap": (lambda: (lambda: solved_from_several, (X,)), "diffrax"),
    "diffrax, Tsit5, backsolve": (
        lambda: (lambda: solved("Tsit5", "BacksolveAdjoint"), (X,)),
        "diffrax",
    ),
    "diffrax, Kvaerno3, checkpointed": (
        lambda: (lambda: solved("Kvaerno3", "RecursiveCheckpointAdjoint"), (X,)),
        "diffrax",
    ),
}


def available() -> list[str]:
    return [
        name
        for name, (_, library) in CASES.items()
        if not library or importlib.util.find_spec(library)
    ]


def main() -> None:
    case, side = sys.argv[1:]
    make, args = CASES[case][0]()
    loss = make()
    gradient = bm.grad(loss) if side == "ours" else jax.jit(jax.grad(loss))
    start = time.perf_counter()
    result = jax.block_until_ready(gradient(*args))
    seconds = time.perf_counter() - start
    leaves = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(result)]
    print(json.dumps({"seconds": seconds, "gradient": leaves}))


if __name__ == "__main__":
    main()
