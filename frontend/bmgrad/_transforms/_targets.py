"""What to differentiate for: variables, arguments, and the form of what comes back.

In: the keywords ``grad_vars``, ``argnums``, ``has_aux``, ``return_value``, ... that all
derivative functions share. Out: :class:`Targets`, which checks a call against
them, finds the program's inputs, and puts the results into the containers of the
user. Next: ``_grad.py``, ``_jacobian.py``.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bmgrad._array import Array
from bmgrad._transforms._arguments import Arguments, is_array_like, plain
from bmgrad._transforms._trace import (
    TracedFunction,
    array_names,
    check_results,
    with_asides,
)
from bmgrad.runtime._jax_internals import is_hi_arrays, is_reference, taken_apart


@dataclasses.dataclass(frozen=True)
class Targets:
    """The targets and options of one derivative, hashable: it is part of cache keys.

    Attributes:
      variables: the arrays in ``grad_vars``, flat; empty if there were none.
      container: how ``grad_vars`` held them: None, ``"one"``, ``"tuple"``, or a tuple of dict keys.
      argnums: an int, a tuple of ints, or None.
    """

    variables: tuple[Array, ...]
    container: str | tuple[Any, ...] | None
    argnums: int | tuple[int, ...] | None
    holomorphic: bool = False
    allow_int: bool = False
    has_aux: bool = False
    return_value: bool = False

    @classmethod
    def of(
        cls,
        grad_vars: Any,
        argnums: Any,
        *,
        dyn_vars: Any = None,
        holomorphic: bool = False,
        allow_int: bool = False,
        has_aux: bool | None = None,
        return_value: bool = False,
    ) -> Targets:
        # By position JAX's users say which arguments; no number is a variable.
        if argnums is None and _are_numbers(grad_vars):
            grad_vars, argnums = None, grad_vars
        variables, container = _flatten_variables(grad_vars, "grad_vars")
        _flatten_variables(dyn_vars, "dyn_vars")
        if argnums is None and container is None:
            argnums = 0
        return cls(
            variables,
            container,
            _checked_argnums(argnums),
            holomorphic=bool(holomorphic),
            allow_int=bool(allow_int),
            has_aux=bool(has_aux),
            return_value=bool(return_value),
        )

    # -- Checks ------------------------------------------------------------------------------

    def argnum_list(self, count: int) -> list[int]:
        """The positional arguments to differentiate for, none negative."""
        if self.argnums is None:
            return []
        given = (self.argnums,) if isinstance(self.argnums, int) else self.argnums
        for argnum in given:
            if not -count <= argnum < count:
                kind, least = (TypeError, argnum + 1) if argnum >= 0 else (ValueError, -argnum)
                raise kind(
                    f"differentiating with respect to argnums={self.argnums} requires at least "
                    f"{least} positional arguments to be passed by the caller, but got only "
                    f"{count} positional arguments; keyword arguments cannot be differentiated, "
                    "pass them by position"
                )
        return [argnum % count for argnum in given]

    def check_arguments(self, args: tuple[Any, ...], kind: str) -> None:
        for argnum in self.argnum_list(len(args)):
            for leaf in jax.tree.leaves(taken_apart(args[argnum]), is_leaf=is_hi_arrays):
                if is_hi_arrays(leaf):
                    if kind in ("jacfwd", "jacrev", "hessian"):
                        raise TypeError(
                            f"argument {argnum} of {kind} has a value of type "
                            f"{leaf.ty.str_short()}, which has no rows and columns; use bm.vjp or "
                            "bm.jvp"
                        )
                    continue  # What has a tangent, and of which type, the user's type says.
                if is_reference(leaf):
                    raise TypeError(
                        f"{kind} cannot differentiate with respect to a Ref (jax.new_ref), as "
                        f"argument {argnum} has one: its gradient would be in a reference too. "
                        "Name other arguments in argnums, pass what the reference holds, or use "
                        "bm.vjp and with_refs of the function that it returns"
                    )
                if not is_array_like(leaf):
                    raise TypeError(
                        f"argument {argnum} of {kind}: {leaf!r} of type {type(leaf)} is not a "
                        "valid JAX type, so it has no derivative; name other arguments in argnums"
                    )
                self._check_input_dtype(jnp.result_type(leaf), f"argument {argnum}", kind)
        for index, variable in enumerate(self.variables):
            what = f"grad_vars entry {index} ({variable._label()})"
            self._check_input_dtype(variable._value.dtype, what, kind)

    def _check_input_dtype(self, dtype: Any, what: str, kind: str) -> None:
        # The words are those of JAX, which people know and search for.
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        if self.holomorphic and not is_complex:
            raise TypeError(
                f"{kind} with holomorphic=True requires inputs with complex dtype, but got "
                f"{dtype} for {what}"
            )
        if not self.allow_int and not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{kind} requires real- or complex-valued inputs (input dtype that is a sub-dtype "
                f"of np.inexact), but got {dtype} for {what}. Convert it to a float, or "
                "pass allow_int=True to get a zero gradient of dtype float0."
            )
        # A step along the real axis tells all only of a function that is holomorphic.
        if kind in ("jacfwd", "hessian") and is_complex and not self.holomorphic:
            raise TypeError(
                f"{kind} requires real-valued inputs (input dtype that is a sub-dtype of "
                f"np.floating), but got {dtype} for {what}. For holomorphic functions pass "
                "holomorphic=True; for others use bm.jvp."
            )

    def check_output_dtype(self, dtype: Any, kind: str) -> None:
        is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
        if self.holomorphic:
            if not is_complex:
                raise TypeError(
                    f"{kind} with holomorphic=True requires outputs with complex dtype, but got "
                    f"{dtype}"
                )
        elif kind != "jacfwd" and not jnp.issubdtype(dtype, jnp.floating):
            hint = ". For holomorphic functions pass holomorphic=True"
            raise TypeError(
                f"{kind} requires real-valued outputs (output dtype that is a sub-dtype of "
                f"np.floating), but got {dtype}{hint if is_complex else ''}"
            )

    # -- Inputs and results ------------------------------------------------------------------

    def inputs(self, traced: TracedFunction, arguments: Arguments) -> list[int]:
        """The inputs of the program to differentiate for, each once, in order."""
        wanted = {self._read_index(traced, variable) for variable in self.variables}
        wanted.update(self.leaves(arguments))
        avals = traced.program.in_avals
        return sorted(i for i in wanted if jnp.issubdtype(avals[i].dtype, jnp.inexact))

    def leaves(self, arguments: Arguments) -> set[int]:
        """The leaves of ``arguments`` to differentiate for, integers among them."""
        argnums = self.argnum_list(arguments.num_positional)
        return {leaf for argnum in argnums for leaf in arguments.positions(argnum)}

    @staticmethod
    def _read_index(traced: TracedFunction, variable: Array) -> int:
        position = next(i for i, array in enumerate(traced.reads) if array is variable)
        return traced.first_read + position

    def assemble(
        self,
        of_input: Callable[[int], Any],
        traced: TracedFunction,
        arguments: Arguments,
    ) -> Any:
        """The gradients in the containers that ``grad_vars`` and ``argnums`` call for.

        ``of_input`` gives what belongs to one input of the program.
        """
        of_variables = self.hold_variables(
            [of_input(self._read_index(traced, variable)) for variable in self.variables]
        )
        wanted = self.argnum_list(arguments.num_positional)
        chosen = tuple(arguments.argument(argnum, of_input) for argnum in wanted)
        of_arguments = chosen[0] if isinstance(self.argnums, int) else chosen
        if self.container is None:
            return of_arguments
        return of_variables if self.argnums is None else (of_variables, of_arguments)

    def hold_variables(self, values: Sequence[Any]) -> Any:
        if self.container == "one":
            return values[0]
        if isinstance(self.container, tuple):
            return dict(zip(self.container, values, strict=True))
        return tuple(values)

    def package(self, gradients: Any, value: Any, aux: Any) -> Any:
        """``G``, ``(G, aux)``, ``(G, value)`` or ``(G, value, aux)``."""
        parts = [gradients]
        if self.return_value:
            parts.append(value)
        if self.has_aux:
            parts.append(aux)
        return parts[0] if len(parts) == 1 else tuple(parts)

    def join(self, per_output: Sequence[Any], value_tree: Any) -> Any:
        """Targets of each output leaf as the tree of outputs, variables and arguments apart."""
        if self.container is None or self.argnums is None:
            return jax.tree.unflatten(value_tree, per_output)
        variables, arguments = zip(*per_output, strict=True) if per_output else ((), ())
        return (
            jax.tree.unflatten(value_tree, variables),
            jax.tree.unflatten(value_tree, arguments),
        )

    def with_aux(self) -> Targets:
        return dataclasses.replace(self, has_aux=True)

    def key_parts(self, owner: object) -> dict[str, Any]:
        """The parts of the cache key: variables by name where the owner knows one."""
        names = array_names(owner) if self.variables else {}
        known = tuple(names.get(id(v), f"array at {id(v):#x}") for v in self.variables)
        options = ("holomorphic", "allow_int", "has_aux", "return_value")
        return {
            "grad_vars": None if self.container is None else (self.container, known),
            "argnums": self.argnums,
            "options": tuple((name, getattr(self, name)) for name in options),
        }


def zero_gradient(aval: Any) -> Any:
    """The gradient of an input without tangents: zeros of dtype float0."""
    return np.zeros(aval.shape, jax.dtypes.float0)


def zero_jacobian(out_shape: tuple[int, ...], aval: Any) -> Any:
    return np.zeros((*out_shape, *aval.shape), jax.dtypes.float0)


def checked_function(
    function: Callable[..., Any],
    has_aux: bool,
    name: str,
    check_value: Callable[[Any], None],
) -> Callable[..., tuple[Any, Any]]:
    """``function``, always returning ``(value, aux)``, the value plain and checked."""

    def checked(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        value, aux = split_aux(function(*args, **kwargs), has_aux, name)
        # Values come back as jax.Array, whatever the function computed with.
        value = plain(value)
        check_results(jax.tree.leaves(value), name)
        check_value(value)
        return value, aux

    return checked


def split_aux(result: Any, has_aux: bool, name: str) -> tuple[Any, Any]:
    """What the function returned as ``(value, aux)``; aux is None without has_aux."""
    result = taken_apart(result)
    if not has_aux:
        return result, None
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        if isinstance(result, (tuple, list)):
            came = f"a {type(result).__name__} of length {len(result)}"
        elif isinstance(result, (Array, jax.Array)):
            came = f"an array of shape {result.shape}"
        else:
            came = f"a {type(result).__name__}"
        raise TypeError(
            f"has_aux=True expects {name} to return a pair (value, aux), a two-element tuple, but "
            f"it returned {came}"
        )
    value, aux = result
    return value, with_asides(aux)


def _flatten_variables(variables: Any, argument: str) -> tuple[tuple[Array, ...], Any]:
    if variables is None:
        return (), None
    if isinstance(variables, Array):
        return (variables,), "one"
    container: Any = "tuple"
    if isinstance(variables, Mapping):
        flat, container = tuple(variables.values()), tuple(variables.keys())
        _check_keys(container, argument)
    elif isinstance(variables, (tuple, list)):
        flat = tuple(variables)
    else:
        raise TypeError(
            f"{argument} must be a bm.Array or Variable, or a list, tuple, dict or Collector of "
            f"them, got {variables!r} of type {type(variables).__name__}; to differentiate for "
            "an argument use argnums"
        )
    for position, variable in enumerate(flat):
        if not isinstance(variable, Array):
            where = container[position] if isinstance(container, tuple) else position
            raise TypeError(
                f"{argument}[{where!r}] must be a bm.Array or Variable, got "
                f"{type(variable).__name__}; to differentiate for an argument use argnums"
            )
    return flat, container


def _check_keys(keys: tuple[Any, ...], argument: str) -> None:
    try:
        sorted(keys)
    except TypeError:
        raise TypeError(
            f"the keys of {argument} must be of kinds that can be sorted together, got "
            f"{list(keys)}; name the variables by strings"
        ) from None


def _are_numbers(given: Any) -> bool:
    each = given if isinstance(given, (tuple, list)) and given else (given,)
    return all(isinstance(x, (int, np.integer)) and not isinstance(x, bool) for x in each)


def _checked_argnums(argnums: Any) -> int | tuple[int, ...] | None:
    if argnums is None:
        return None
    try:
        if isinstance(argnums, (tuple, list)):
            return tuple(operator.index(argnum) for argnum in argnums)
        return operator.index(argnums)
    except TypeError:
        raise TypeError(
            f"argnums must be an int, or a tuple or list of ints, got {argnums!r}"
        ) from None
