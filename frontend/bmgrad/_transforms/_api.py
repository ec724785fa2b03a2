"""The public transforms, with BrainPy's signatures.

In: functions, methods or callable objects that use variables. Out: functions called
like them. Each is a few lines: what it means is in the transform it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from bmgrad._transforms._call import Transformed
from bmgrad._transforms._grad import GradTransform
from bmgrad._transforms._jacobian import HessianTransform, JacobianTransform
from bmgrad._transforms._jit import JitTransform, JitWithStatic, VmapTransform
from bmgrad._transforms._static_arguments import StaticArguments
from bmgrad._transforms._targets import Targets
from bmgrad._transforms._transform import Transform


def _transformed(
    func: Callable[..., Any] | None,
    make: Callable[[Callable[..., Any]], Transform],
    kind: type[Transformed] = Transformed,
) -> Any:
    """The transformed function, or a decorator when there is no function yet."""
    if func is None:
        return lambda function: _transformed(function, make, kind)
    return kind(make(func), func)


def grad(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
    return_value: bool = False,
) -> Any:
    """The gradient of a scalar function of arguments and variables.

    Args:
      func: returns a scalar (shape ``()``, float), or with ``has_aux`` a pair ``(scalar, aux)``.
        Without ``func`` the call gives a decorator.
      grad_vars: a ``bm.Array`` or ``Variable``, or a list, tuple, dict or ``Collector`` of them.
        Ints in their place are ``argnums``, which users of JAX give by position.
      argnums: which positional arguments to differentiate for; with neither ``grad_vars`` nor
        ``argnums`` the first.
      dyn_vars: accepted for old scripts; what is read and written is found by tracing.
      holomorphic: differentiate a holomorphic function of complex inputs.
      allow_int: give integer inputs a zero gradient of dtype float0.
      has_aux: whether ``func`` returns auxiliary data beside the scalar.
      return_value: whether to return the scalar as well.

    Returns:
      A function of the same arguments. It returns ``G``, ``(G, aux)``, ``(G, value)`` or
      ``(G, value, aux)``, where ``G`` is the gradients of the arguments, of the variables if
      only ``grad_vars`` is given, and ``(variables, arguments)`` if both are. Each gradient
      has the shape and dtype of what it belongs to.

    Raises:
      TypeError: for outputs that are no real scalar, inputs without a derivative, wrong aux.
      ValueError: for argnums out of range.

    Example:
      >>> import bmgrad.math as bm
      >>> float(bm.grad(lambda x: x ** 2)(3.0))
      6.0

    References:
      Radul et al., "You Only Linearize Once", POPL 2023.
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
        return_value=return_value,
    )
    return _transformed(func, lambda function: GradTransform(function, targets, "grad"))


def vector_grad(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
    return_value: bool = False,
) -> Any:
    """The vector-Jacobian product with ones: the gradient of the sum of all outputs.

    Takes and returns what :func:`grad` does, for functions whose value has any shape; for an
    elementwise function it is the elementwise derivative.

    Example:
      >>> import bmgrad.math as bm
      >>> bm.vector_grad(lambda x: x ** 2)(bm.arange(3.0)).tolist()
      [0.0, 2.0, 4.0]
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
        return_value=return_value,
    )
    return _transformed(func, lambda function: GradTransform(function, targets, "vector_grad"))


def value_and_grad(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
) -> Any:
    """Like :func:`grad`, but returns ``(value, G)`` or ``((value, aux), G)``, as JAX does.

    Example:
      >>> import bmgrad.math as bm
      >>> value, gradient = bm.value_and_grad(lambda x: x ** 2)(3.0)
      >>> float(value), float(gradient)
      (9.0, 6.0)
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
    )
    return _transformed(func, lambda function: GradTransform(function, targets, "value_and_grad"))


def jacrev(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
    return_value: bool = False,
) -> Any:
    """The Jacobian, row by row (reverse mode): good for few outputs and many inputs.

    Takes the arguments of :func:`grad`. For an output of shape ``o`` and an input of shape
    ``i`` the Jacobian has shape ``o + i``; containers of outputs hold containers of inputs.

    Example:
      >>> import bmgrad.math as bm
      >>> bm.jacrev(lambda x: x ** 2)(bm.arange(2.0)).tolist()
      [[0.0, 0.0], [0.0, 2.0]]
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
        return_value=return_value,
    )
    return _transformed(func, lambda function: JacobianTransform(function, targets, "jacrev"))


jacobian = jacrev


def jacfwd(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
    return_value: bool = False,
) -> Any:
    """The Jacobian, column by column (forward mode): good for few inputs and many outputs.

    Takes and returns what :func:`jacrev` does, and works through loops of unknown length.

    Example:
      >>> import bmgrad.math as bm
      >>> bm.jacfwd(lambda x: x ** 2)(bm.arange(2.0)).tolist()
      [[0.0, 0.0], [0.0, 2.0]]
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
        return_value=return_value,
    )
    return _transformed(func, lambda function: JacobianTransform(function, targets, "jacfwd"))


def hessian(
    func: Callable[..., Any] | None = None,
    grad_vars: Any = None,
    argnums: int | tuple[int, ...] | list[int] | None = None,
    *,
    dyn_vars: Any = None,
    holomorphic: bool = False,
    allow_int: bool = False,
    has_aux: bool | None = None,
    return_value: bool = False,
) -> Any:
    """The Hessian, by forward over reverse mode.

    Takes the arguments of :func:`grad`. The result is the Jacobian of the Jacobian: where
    both ``grad_vars`` and ``argnums`` are given, a pair of derivatives for variables and for
    arguments, each of a pair of gradients.

    Example:
      >>> import bmgrad.math as bm
      >>> bm.hessian(lambda x: (x ** 3).sum())(bm.arange(2.0)).tolist()
      [[0.0, 0.0], [0.0, 6.0]]
    """
    targets = Targets.of(
        grad_vars,
        argnums,
        dyn_vars=dyn_vars,
        holomorphic=holomorphic,
        allow_int=allow_int,
        has_aux=has_aux,
        return_value=return_value,
    )
    return _transformed(func, lambda function: HessianTransform(function, targets, "hessian"))


def jit(
    func: Callable[..., Any] | None = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    *,
    dyn_vars: Any = None,
) -> Any:
    """The function, compiled. Variables it reads are inputs, those it assigns are outputs.

    Args:
      func: a function, method or callable object; without it the call gives a decorator.
      static_argnums: which positional arguments are compiled in: the function gets their values,
        as numbers that give shapes or how often a loop runs, and each value is compiled on its
        own. They must be hashable.
      static_argnames: the same by name. Of what is given by position or by name the other is found.
      dyn_vars: accepted for old scripts; what is read and written is found by tracing.

    Returns:
      A function of the same arguments. Arguments that are no arrays or numbers (strings,
      functions) must be hashable and are compiled in. What ``trace(...)`` compiles ahead of time
      takes those that are not named as static.

    Raises:
      TypeError: for static arguments that cannot be hashed.
      ValueError: for static arguments that the function does not have.

    Example:
      >>> import bmgrad.math as bm
      >>> counter = bm.Variable(bm.zeros(()))
      >>> def step(x):
      ...     counter.value = counter.value + x
      >>> bm.jit(step)(2.0)
      >>> float(counter)
      2.0
    """
    Targets.of(None, None, dyn_vars=dyn_vars)
    if static_argnums is None and static_argnames is None:
        return _transformed(func, JitTransform)

    def make(function: Callable[..., Any]) -> JitTransform:
        return JitTransform(function, StaticArguments.of(function, static_argnums, static_argnames))

    return _transformed(func, make, JitWithStatic)


def vmap(
    func: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Hashable = None,
    axis_size: int | None = None,
    spmd_axis_name: Hashable = None,
) -> Any:
    """The function, mapped over an axis of its arguments.

    Args:
      func: a function of single elements; without it the call gives a decorator.
      in_axes: an int or None for all positional arguments, or a tuple with an int, None or
        pytree of them for each. Keyword arguments are mapped over axis 0.
      out_axes: an int or None, or a pytree of them that is a prefix of the result; None for
        what does not depend on a mapped argument and is returned once.
      axis_name: what the function calls the batch in collectives, such as
        ``jax.lax.psum(x, axis_name)``.
      axis_size: the batch size, needed only if no argument is mapped.
      spmd_axis_name: as ``jax.vmap`` takes it for places within the function, which are not
        passed on; it changes nothing.

    Returns:
      A function of batched arguments. Variables are shared by all elements: what is assigned
      to them must not depend on the batch.

    Raises:
      ValueError: for axes that the arguments do not have, or batch sizes that differ.

    Example:
      >>> import bmgrad.math as bm
      >>> bm.vmap(lambda x: x.sum())(bm.ones((2, 3))).tolist()
      [3.0, 3.0]
    """
    return _transformed(func, lambda f: VmapTransform(f, in_axes, out_axes, axis_size, axis_name))
