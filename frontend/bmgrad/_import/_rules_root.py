"""Roots, where JAX keeps `custom_root` as an operation of hijax.

In: such an operation, with the equation `f(consts, root) = 0` that its result solves. Out: its
derivative by the implicit function theorem, and what the derivative of `f` in the root, which
the user's `tangent_solve` applies, stands for. JAX would differentiate `f`; here bmgrad does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from bmgrad.runtime import _hijax
from bmgrad.runtime._jax_internals import tangent_aval


def expansion(prim: Any) -> Callable[..., list[Any]]:
    """What computes the results of `prim` from flat arguments."""
    if _hijax.is_of_jax(prim, "_RootLinearMap"):
        return partial(_apply_derivative, prim)
    return lambda *args: _hijax.expand(prim, args)


def _apply_derivative(prim: Any, *args: Any) -> list[Any]:
    """The derivative of `f` at `x` in the direction `v`, or its transpose."""
    from bmgrad._transforms import _functional

    consts, x, v = jax.tree.unflatten(prim.in_tree, args)
    of_x = partial(prim.f, consts)
    if prim.transposed:
        (result,) = _functional.vjp(of_x, x)[1](v)
    else:
        _, result = _functional.jvp(of_x, (x,), (v,))
    flat: list[Any] = prim.out_tree.flatten_up_to(result)
    return flat


def root_jvp(
    prim: Any, primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """From `f(p, x(p)) = 0`: `dx = -(D_x f)^-1 D_p f dp`; `aux` has no derivative."""
    from bmgrad._transforms import _functional

    solve_consts, guess, consts, tangent_consts = jax.tree.unflatten(prim.in_tree, primals)
    first = len(jax.tree.leaves((solve_consts, guess)))
    leaves, tree = jax.tree.flatten(consts)
    directions = [
        np.zeros(x.shape, tangent_aval(jax.typeof(x)).dtype) if dx is None else dx
        for x, dx in zip(leaves, tangents[first : first + len(leaves)], strict=True)
    ]
    solution = prim(solve_consts, guess, consts, tangent_consts)
    root = solution[0] if prim.has_aux else solution

    def residual(*leaves: Any) -> Any:
        return prim.f(jax.tree.unflatten(tree, leaves), root)

    _, moved = _functional.jvp(residual, tuple(leaves), tuple(directions))
    root_dot = jax.tree.map(operator.neg, prim.tangent_solve(tangent_consts, root, moved))
    results = prim.out_tree.flatten_up_to(solution)
    dots = jax.tree.leaves(root_dot)
    return results, [*dots, *[None] * (len(results) - len(dots))]
