"""Checks a function's derivatives and batching against JAX and central differences.

Not part of bmgrad: the oracle differentiates with `jax`, the subject with `bmgrad.math`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bmgrad.math as bm

Arrays = tuple[Any, ...]


def check_derivatives(
    fun: Callable[..., Any],
    *args: Any,
    rtol: float = 1e-9,
    differences: bool = True,
    oracle: Callable[..., Any] | None = None,
) -> None:
    """`fun` of float or complex arrays has JAX's value and derivatives of order 1 and 2.

    All in double precision; with `differences`, the first derivative is compared with central
    differences as well (not where `fun` has a kink). JAX differentiates `oracle`, if given, in
    place of `fun`.
    """
    with jax.enable_x64(True):
        args = tuple(_widened(arg) for arg in args)
        rng = np.random.default_rng(0)
        tangents = tuple(_random_like(rng, arg) for arg in args)
        cotangents = jax.tree.map(partial(_random_like, rng), jax.eval_shape(fun, *args))
        values = {
            lib.__name__: jax.jit(partial(_derivatives, lib, f))(args, tangents, cotangents)
            for lib, f in ((bm, fun), (jax, oracle or fun))
        }
        for what, want in values["jax"].items():
            _compare(values[bm.__name__][what], want, rtol, what)
        if differences:
            got = values[bm.__name__]["jvp"][1]
            _compare(got, _central_difference(fun, args, tangents), 1e-5, "central difference")


def check_batching(fun: Callable[..., Any], *args: Any, size: int = 3) -> None:
    """`bm.vmap` of `fun` and of its VJP agree with `jax.vmap`, whichever arguments are batched."""
    with jax.enable_x64(True):
        args = tuple(_widened(arg) for arg in args)
        rng = np.random.default_rng(1)
        stacked = [jnp.stack([arg, *_perturbed(rng, arg, size - 1)]) for arg in args]

        def every_choice(lib: Any, args: Arrays, stacked: list[Any]) -> dict[str, Any]:
            results = {}
            for flags in range(1, 2 ** len(args)):
                in_axes = tuple(0 if flags >> i & 1 else None for i in range(len(args)))
                batched = (
                    arg if axis is None else stack
                    for arg, stack, axis in zip(args, stacked, in_axes, strict=True)
                )
                results[str(in_axes)] = lib.vmap(partial(_value_and_vjp, lib, fun), in_axes)(
                    *batched
                )
            return results

        # One program for all choices: compiling takes most of the time.
        got, want = (jax.jit(partial(every_choice, lib))(args, stacked) for lib in (bm, jax))
        for in_axes in want:
            _compare(got[in_axes], want[in_axes], 1e-9, f"batched with in_axes={in_axes}")


def _derivatives(lib: Any, fun: Callable[..., Any], x: Arrays, dx: Arrays, ct: Any) -> Any:
    def forward(*x: Any) -> Any:
        return lib.jvp(fun, x, dx)[1]

    def reverse(*x: Any) -> Any:
        return lib.vjp(fun, *x)[1](ct)

    return {
        "jvp": lib.jvp(fun, x, dx),
        "vjp": reverse(*x),
        "forward over forward": lib.jvp(forward, x, dx)[1],
        "reverse over forward": lib.vjp(forward, *x)[1](ct),
        "forward over reverse": lib.jvp(reverse, x, dx)[1],
        "reverse over reverse": lib.vjp(reverse, *x)[1](dx),
    }


def _value_and_vjp(lib: Any, fun: Callable[..., Any], *args: Any) -> Any:
    inexact = [jnp.issubdtype(arg.dtype, jnp.inexact) for arg in args]

    def of_inexact(*xs: Any) -> Any:
        rest = iter(xs)
        return fun(*(next(rest) if flag else arg for arg, flag in zip(args, inexact, strict=True)))

    if not any(inexact):
        return fun(*args)
    out, vjp = lib.vjp(of_inexact, *(arg for arg, flag in zip(args, inexact, strict=True) if flag))
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(out)):
        return out
    return out, vjp(jax.tree.map(lambda y: jnp.ones(y.shape, y.dtype), out))


def _central_difference(fun: Callable[..., Any], x: Arrays, dx: Arrays, step: float = 1e-5) -> Any:
    compiled = jax.jit(fun)
    ahead, behind = (
        compiled(*(a + h * da for a, da in zip(x, dx, strict=True))) for h in (step, -step)
    )
    return jax.tree.map(lambda p, q: (p - q) / (2 * step), ahead, behind)


def _widened(arg: Any) -> Any:
    arg = jnp.asarray(arg)
    if jnp.issubdtype(arg.dtype, jnp.complexfloating):
        return arg.astype(jnp.complex128)
    return arg.astype(jnp.float64) if jnp.issubdtype(arg.dtype, jnp.floating) else arg


def _random_like(rng: np.random.Generator, like: Any) -> Any:
    numbers = rng.standard_normal(like.shape)
    if jnp.issubdtype(like.dtype, jnp.complexfloating):
        numbers = numbers + 1j * rng.standard_normal(like.shape)
    return jnp.asarray(numbers, like.dtype)


def _perturbed(rng: np.random.Generator, arg: Any, count: int) -> list[Any]:
    if jnp.issubdtype(arg.dtype, jnp.inexact):
        return [arg + _random_like(rng, arg) for _ in range(count)]
    return [arg if arg.dtype == bool else arg + step for step in range(1, count + 1)]


def _compare(got: Any, want: Any, rtol: float, what: str) -> None:
    got_leaves, want_leaves = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got_leaves) == len(want_leaves), what
    for g, w in zip(got_leaves, want_leaves, strict=True):
        assert g.shape == w.shape, what
        assert g.dtype == w.dtype, what
        np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol, err_msg=what)
