"""Steps that a Python loop unrolls: XLA's kernels for them do not grow from step to step."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import bmgrad as bp
import bmgrad.math as bm

Steps = Callable[[int], Callable[[jax.Array, jax.Array], jax.Array]]


def leaky(steps: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A leaky network: what stays of its state is cheap, and needed in each step."""

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        h = x
        for _ in range(steps):
            h = 0.9 * h + 0.1 * jnp.tanh(w @ h)
        return jnp.sum(h**2)

    return loss


def lorenz(steps: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A system of equations that reads its state element by element."""

    def loss(p: jax.Array, y: jax.Array) -> jax.Array:
        total = jnp.zeros((), y.dtype)
        for _ in range(steps):
            dy = [p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]]
            y = y + 0.01 * jnp.stack(dy)
            total = total + jnp.sum(y**2)
        return total

    return loss


WEIGHTS = np.cos(np.arange(25.0)).reshape(5, 5)
CASES: dict[str, tuple[Steps, tuple[np.ndarray, np.ndarray]]] = {
    "leaky": (leaky, (WEIGHTS, np.linspace(-0.5, 1.0, 5))),
    "lorenz": (lorenz, (np.array([10.0, 28.0, 8 / 3]), np.ones(3))),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Steps, tuple[jax.Array, jax.Array]]]:
    make, arguments = CASES[request.param]
    with jax.enable_x64(True):
        yield make, (jnp.asarray(arguments[0]), jnp.asarray(arguments[1]))


def compiled(function: Callable[..., object], *arguments: jax.Array) -> str:
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    return text


def largest_kernel(text: str) -> int:
    """How many instructions it has."""
    kernels = re.findall(r"^%fused_computation.*?^}", text, re.MULTILINE | re.DOTALL)
    return max(kernel.count(" = ") for kernel in kernels)


@pytest.mark.parametrize("order", ["grad", "grad of jvp", "vmap"])
def test_derivatives_are_as_of_single_ops(case: tuple[Steps, tuple], order: str) -> None:
    make, arguments = case
    loss = make(30)
    if order == "grad":
        ours, theirs = bm.grad(loss, argnums=(0, 1)), jax.grad(loss, argnums=(0, 1))
    elif order == "grad of jvp":

        def along(jvp: Callable, p: jax.Array, y: jax.Array) -> jax.Array:
            tangent = jvp(lambda p: loss(p, y), (p,), (jnp.ones_like(p),))[1]
            return jnp.asarray(tangent)

        ours = bm.grad(lambda p, y: along(bm.jvp, p, y), argnums=(0, 1))
        theirs = jax.grad(lambda p, y: along(jax.jvp, p, y), argnums=(0, 1))
    else:
        ours = bm.vmap(bm.grad(loss, argnums=(0, 1)), in_axes=(None, 0))
        theirs = jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, 0))
        arguments = arguments[0], jnp.stack([arguments[1], 0.5 * arguments[1]])
    assert "inlineable" in jax.jit(ours).lower(*arguments).as_text()
    for got, wanted in zip(ours(*arguments), theirs(*arguments), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


def test_kernels_do_not_grow_with_steps(case: tuple[Steps, tuple]) -> None:
    make, arguments = case
    sizes = [largest_kernel(compiled(bm.grad(make(n)), *arguments)) for n in (40, 80)]
    assert sizes[1] < 1.3 * sizes[0]


def test_residuals_of_vjp_do_not_grow_with_steps() -> None:
    arguments = jnp.asarray(WEIGHTS), jnp.linspace(-0.5, 1.0, 5)

    def pullback(steps: int) -> Callable[..., object]:
        return lambda w, x: bm.vjp(leaky(steps), w, x)[1](1.0)

    sizes = [largest_kernel(compiled(pullback(n), *arguments)) for n in (40, 80)]
    assert sizes[1] < 1.3 * sizes[0]


@pytest.mark.parametrize("transform", [bm.grad, bm.value_and_grad], ids=["grad", "value_and_grad"])
@pytest.mark.parametrize(
    ("dtype", "steps"), [("float64", 120), ("bfloat16", 40), ("complex128", 30)]
)
def test_a_kernel_of_all_steps_is_split(transform: Callable, dtype: str, steps: int) -> None:
    """Whose values all lead to one place, so that XLA would make one of it, and then cannot."""

    def loss(x: jax.Array) -> jax.Array:
        a, b, c = x, 0.5 * x + 1.0, 0.3 * x
        for _ in range(steps):
            da, db, dc = b - a, a * (2.0 - c) - b, a * b - 2.6 * c
            a, b, c = a + 0.1 * da, b + 0.01 * db, c + 0.01 * dc
        return jnp.sum(a * b + c).real

    with jax.enable_x64(True):
        x = jnp.linspace(0.1, 0.9, 10).astype(dtype)
        gradient = transform(loss)(x)
        if transform is bm.value_and_grad:
            gradient = gradient[1]
        rtol = 0.2 if dtype == "bfloat16" else 1e-9
        wanted = np.asarray(jax.grad(loss)(x)).astype(complex)
        np.testing.assert_allclose(np.asarray(gradient).astype(complex), wanted, rtol=rtol)
        assert largest_kernel(compiled(transform(loss), x)) < 500


def test_other_platforms_inline_all(case: tuple[Steps, tuple]) -> None:
    make, arguments = case
    gradient = jax.jit(bm.grad(make(40)))
    texts = {
        platforms: export.export(gradient, platforms=platforms)(*arguments).mlir_module()
        for platforms in [("cpu",), ("cuda",), ("tpu",), ("cpu", "cuda")]
    }
    assert [p for p, text in texts.items() if "inlineable" in text] == [("cpu",)]


def test_small_programs_are_left_to_xla() -> None:
    text = jax.jit(bm.grad(leaky(5))).lower(jnp.asarray(WEIGHTS), jnp.ones(5)).as_text()
    assert "inlineable" not in text


def test_what_is_compiled_ahead_of_time(tmp_path: Path, case: tuple[Steps, tuple]) -> None:
    make, arguments = case
    gradient = bm.grad(make(40))
    path = tmp_path / "gradient.bmgrad"
    gradient.trace(*arguments).lower().compile().save(path)
    loaded = bp.load(path)
    assert "inlineable" in loaded.as_text()
    np.testing.assert_allclose(loaded(*arguments), gradient(*arguments), rtol=1e-9)
