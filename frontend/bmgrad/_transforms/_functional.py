"""The functional forms: ``vjp``, ``jvp`` and ``linearize`` at a point.

In: a function and primal values (concrete, or tracers of any trace). Out: its value
and its derivative there, as values or as a function that is cheap to call again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._transforms._targets import split_aux
from bmgrad._transforms._trace import Arguments, TracedFunction, trace_function
from bmgrad.runtime import bind


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value of ``fun`` and the function from output cotangents to input cotangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays; the point.
      has_aux: whether ``fun`` returns auxiliary data as well.

    Returns:
      ``(out, vjp_fn)`` or ``(out, vjp_fn, aux)``. ``vjp_fn(ct)`` takes a cotangent with the
      tree, shapes and dtypes of ``out`` and returns a tuple with one cotangent for each
      primal (float0 zeros for integers).

    Raises:
      TypeError: if ``has_aux`` and no pair is returned, or a cotangent does not fit.

    Example:
      >>> import bmgrad.math as bm
      >>> out, vjp_fn = bm.vjp(bm.sin, bm.zeros(2))
      >>> vjp_fn(bm.ones(2))[0].tolist()
      [1.0, 1.0]
    """
    point = _Point(fun, primals, has_aux, "vjp")
    derivative = VjpFunction(point)
    return (point.out, derivative, point.aux) if has_aux else (point.out, derivative)


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Value of ``fun`` and its derivative, a linear function of tangents.

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: pytrees of arrays; the point.

    Returns:
      ``(out, jvp_fn)`` or ``(out, jvp_fn, aux)``. ``jvp_fn(*tangents)`` gives the tangent of
      ``out`` without computing the value again.

    Example:
      >>> import bmgrad.math as bm
      >>> out, jvp_fn = bm.linearize(bm.sin, 0.0)
      >>> float(jvp_fn(2.0))
      2.0
    """
    point = _Point(fun, primals, has_aux, "linearize")
    derivative = LinearFunction(point)
    return (point.out, derivative, point.aux) if has_aux else (point.out, derivative)


def jvp(
    fun: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> Any:
    """Value of ``fun`` and its directional derivative (forward mode).

    Args:
      fun: takes ``*primals`` and returns a pytree of arrays, or with ``has_aux`` a pair
        ``(out, aux)``.
      primals: a tuple or list of pytrees of arrays; the point.
      tangents: a tuple or list with the same trees, shapes and dtypes; the direction. For
        integer arrays the tangent has dtype ``jax.dtypes.float0``.

    Returns:
      ``(out, tangents_out)``, or ``(out, tangents_out, aux)``.

    Raises:
      TypeError: if primals and tangents do not fit.

    Example:
      >>> import bmgrad.math as bm
      >>> out, tangent = bm.jvp(bm.sin, (0.0,), (1.0,))
      >>> float(tangent)
      1.0
    """
    for given, what in ((primals, "primals"), (tangents, "tangents")):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"jvp takes {what} as a tuple or list, one entry for each argument of the "
                f"function, got {type(given).__name__}"
            )
    arguments = Arguments.of(tuple(primals), {})
    traced, value_tree, aux_tree = _trace(fun, arguments, has_aux)
    leaves = _matching_leaves(
        tuple(primals), tuple(tangents), arguments.leaves, "tangent", "primal"
    )
    active = _active_inputs(traced, arguments)
    outputs = bind(
        traced.program.jvp(active),
        *traced.inputs(arguments.leaves),
        *(leaf for leaf, primal in zip(leaves, arguments.leaves, strict=True) if _inexact(primal)),
    )
    num_primal = len(traced.program.out_avals)
    results = traced.commit(outputs[:num_primal])
    out, aux = _unflatten_results(results, value_tree, aux_tree)
    tangents_out = _with_zeros(results[: value_tree.num_leaves], outputs[num_primal:])
    tangent = jax.tree.unflatten(value_tree, tangents_out)
    return (out, tangent, aux) if has_aux else (out, tangent)


class _Point:
    """A function linearized: its value, the residuals and the linear program."""

    def __init__(
        self, fun: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, what: str
    ) -> None:
        self.what = what
        self.primals = primals
        self.arguments = Arguments.of(primals, {})
        traced, self.value_tree, aux_tree = _trace(fun, self.arguments, has_aux)
        fwd, self.lin = traced.program.linearize(_active_inputs(traced, self.arguments))
        outputs = bind(fwd, *traced.inputs(self.arguments.leaves))
        num_primal = len(traced.program.out_avals)
        self.residuals = outputs[num_primal:]
        results = traced.commit(outputs[:num_primal])
        self.values = results[: self.value_tree.num_leaves]
        self.out, self.aux = _unflatten_results(results, self.value_tree, aux_tree)
        # Tangents of auxiliary and written outputs follow those of the value.
        self.num_tangents = sum(_inexact(value) for value in self.values)
        self.all_tangents = sum(_inexact(value) for value in outputs[:num_primal])


class VjpFunction:
    """From cotangents of the outputs to cotangents of the inputs, at one point."""

    def __init__(self, point: _Point) -> None:
        self._point = point

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """A cotangent for each primal; ``cotangent`` has the tree and shapes of the output."""
        point = self._point
        leaves = _matching_leaves(point.out, cotangent, point.values, "cotangent", "output")
        cotangents = [c for c, v in zip(leaves, point.values, strict=True) if _inexact(v)]
        wanted = (True,) * (len(point.lin.in_avals) - len(point.residuals))
        nonzero = [i < point.num_tangents for i in range(point.all_tangents)]
        program = point.lin.transpose(wanted, nonzero)
        results = _with_zeros(point.arguments.leaves, bind(program, *point.residuals, *cotangents))
        args, _ = point.arguments.rebuild(results)
        return args


class LinearFunction:
    """From tangents of the inputs to the tangent of the output, at one point."""

    def __init__(self, point: _Point) -> None:
        self._point = point

    def __call__(self, *tangents: Any) -> Any:
        """The tangent of the output; ``tangents`` have the trees and shapes of the primals."""
        point = self._point
        primals = point.arguments.leaves
        leaves = _matching_leaves(point.primals, tangents, primals, "tangent", "primal")
        active = [t for t, p in zip(leaves, primals, strict=True) if _inexact(p)]
        outputs = bind(point.lin, *point.residuals, *active)[: point.num_tangents]
        return jax.tree.unflatten(point.value_tree, _with_zeros(point.values, outputs))


def _trace(
    fun: Callable[..., Any], arguments: Arguments, has_aux: bool
) -> tuple[TracedFunction, Any, Any]:
    name = getattr(fun, "__qualname__", type(fun).__qualname__).replace("<lambda>", "lambda")

    def paired(*args: Any) -> tuple[Any, Any]:
        return split_aux(fun(*args), has_aux, name)

    traced = trace_function(
        paired, arguments, name=name.replace("<locals>.", ""), owner=getattr(fun, "__self__", fun)
    )
    value_tree, aux_tree = traced.out_tree.children()
    return traced, value_tree, aux_tree


def _unflatten_results(results: Sequence[Any], value_tree: Any, aux_tree: Any) -> tuple[Any, Any]:
    count = value_tree.num_leaves
    return (
        jax.tree.unflatten(value_tree, results[:count]),
        jax.tree.unflatten(aux_tree, results[count:]),
    )


def _inexact(x: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.inexact))


def _active_inputs(traced: TracedFunction, arguments: Arguments) -> tuple[bool, ...]:
    others = len(traced.program.in_avals) - len(arguments.leaves)
    return (*(_inexact(leaf) for leaf in arguments.leaves), *(False,) * others)


def _with_zeros(like: Sequence[Any], inexact: Sequence[Any]) -> list[Any]:
    """``inexact`` for the leaves that have a derivative, float0 zeros for the others."""
    rest = iter(inexact)
    return [next(rest) if _inexact(x) else np.zeros(jnp.shape(x), jax.dtypes.float0) for x in like]


def _matching_leaves(
    primal: Any, given: Any, primal_leaves: Sequence[Any], what: str, of: str
) -> list[Any]:
    """The leaves of ``given``, checked to fit ``primal`` in tree, shape and dtype."""
    leaves, tree = jax.tree.flatten(_plain(given))
    expected: Any = jax.tree.structure(_plain(primal))
    if tree != expected:
        raise TypeError(
            f"the {what} has the tree {tree}, but the {of} has {expected}; they must be equal"
        )
    for position, (leaf, like) in enumerate(zip(leaves, primal_leaves, strict=True)):
        dtype = jnp.result_type(like) if _inexact(like) else jax.dtypes.float0
        came = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
        weak = not hasattr(leaf, "dtype")
        if jnp.shape(leaf) != jnp.shape(like) or (came != dtype and not weak):
            raise TypeError(
                f"{what} {position} has shape {jnp.shape(leaf)} and dtype {np.dtype(came)}, but "
                f"its {of} asks for shape {jnp.shape(like)} and dtype {np.dtype(dtype)}"
            )
        if weak and dtype != jax.dtypes.float0:
            leaves[position] = jnp.asarray(leaf, dtype)
    return leaves


def _plain(tree: Any) -> Any:
    """The tree with ``bm.Array`` nodes replaced by their values: they are one kind of leaf."""
    from bmgrad._array import Array

    return jax.tree.map(
        lambda x: x.value if isinstance(x, Array) else x,
        tree,
        is_leaf=lambda x: isinstance(x, Array),
    )
