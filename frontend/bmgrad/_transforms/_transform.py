"""What a transform means: one function with options, apart from any call.

In: the user's function. Out: :class:`Transform`, the base of those in ``_grad.py`` and its
neighbours. Next: ``_call.py``, which runs them.
"""

from __future__ import annotations

import abc
import contextlib
import copy
import functools
import types
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Self

from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._targets import Targets
from bmgrad._transforms._trace import TracedFunction
from bmgrad.runtime._cache import CacheKey, jax_settings
from bmgrad.runtime._options import Options
from bmgrad.runtime._platform import get_platform
from bmgrad.runtime._versions import versions

if TYPE_CHECKING:
    from bmgrad._transforms._call import State


class Transform(abc.ABC):
    """What a transformed function means: one function with options, apart from any call."""

    kind: str
    # Whether the function may ask for values (`if x > 0`) where the transform is not under jit.
    may_ask_values = True
    # Whether one that is made anew sees what has changed around the function.
    sees_changes = True

    def __init__(self, function: Callable[..., Any], options: Hashable) -> None:
        if not callable(function):
            raise TypeError(
                f"bm.{self.kind} takes a function or a callable object, got {function!r} of type "
                f"{type(function).__name__}"
            )
        self.options = options
        self._function = _weak(function)

    @property
    def function(self) -> Callable[..., Any]:
        function = self._function()
        assert function is not None, "the Transformed object keeps its function alive"
        return function

    def is_disabled(self) -> bool:
        """Whether calls run the function itself, as those of ``jax.jit`` where JAX is told so."""
        return False

    @property
    def owner(self) -> object:
        """The object whose variables the function mostly uses."""
        return getattr(self.function, "__self__", self.function)

    @property
    def function_name(self) -> str:
        function = self.function
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return str(name).replace("<locals>.", "").replace("<lambda>", "lambda")

    @property
    def name(self) -> str:
        return f"{self.function_name}.{self.kind}"

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """A call's arguments, named as the function names them."""
        return Arguments.of(args, kwargs, self.function, sees_changes=self.sees_changes)

    @abc.abstractmethod
    def on(self, function: Callable[..., Any]) -> Transform:
        """The same transform of another function."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: option for name, option in vars(self).items() if name != "_function"}

    def copied_to(self, function: Callable[..., Any], memo: dict[int, Any]) -> Transform:
        """The same transform of a deep copy of the function: its variables are copies too."""
        return copy.deepcopy(self, memo).of(function)

    def of(self, function: Callable[..., Any]) -> Transform:
        """This object, which had no function."""
        self._function = _weak(function)
        return self

    @abc.abstractmethod
    def body(self, state: State, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Apply the transform to a call, whatever trace is running."""

    def trace(
        self,
        state: State,
        arguments: Arguments,
        *,
        targets: Targets | None = None,
        function: Callable[..., Any] | None = None,
    ) -> TracedFunction:
        """The function of this transform, or ``function`` in its place, as a program.

        It is to be differentiated for ``targets``.
        """
        return state.trace(
            function or self.function,
            arguments,
            name=self.function_name,
            owner=self.owner,
            lifted=targets.variables if targets else (),
            wrt=targets.leaves(arguments) if targets else (),
        )

    def differentiated(self, count: int) -> Sequence[int]:
        """Which of ``count`` positional arguments a derivative is taken by."""
        return ()

    def key_parts(self) -> dict[str, Any]:
        """The parts of the cache key that this kind of transform adds."""
        return {}

    def cache_key(self, arguments: Arguments) -> CacheKey:
        parts = {"grad_vars": None, "argnums": None, "options": ()} | self.key_parts()
        return CacheKey(
            function=self.function_name,
            transform=self.kind,
            in_avals=arguments.avals,
            in_tree=arguments.static.tree,
            static_values=arguments.static.positions,
            platform=get_platform(),
            versions=tuple(versions().items()),
            pass_options=Options().pass_options(),
            jax_settings=jax_settings(),
            **parts,
        )


class TargetsTransform(Transform):
    """A derivative of a function for targets."""

    def __init__(self, function: Callable[..., Any], targets: Targets, kind: str) -> None:
        self.kind = kind
        self.targets = targets
        super().__init__(function, targets)

    def on(self, function: Callable[..., Any]) -> Self:
        return type(self)(function, self.targets, self.kind)

    def differentiated(self, count: int) -> Sequence[int]:
        return self.targets.argnum_list(count)

    def key_parts(self) -> dict[str, Any]:
        return self.targets.key_parts(self.owner)


def _weak(function: Callable[..., Any]) -> Callable[[], Callable[..., Any] | None]:
    # A state outlives the wrapper it was made for, but not the model.
    if isinstance(function, types.MethodType):
        with contextlib.suppress(TypeError):
            return weakref.WeakMethod(function)
    with contextlib.suppress(TypeError):
        return weakref.ref(function)
    return lambda: function


# How many functions of each code were transformed.
_made: weakref.WeakKeyDictionary[types.CodeType, int] = weakref.WeakKeyDictionary()


def count_function(function: Callable[..., Any]) -> None:
    """To be called with each function that is transformed, once."""
    if (code := _code_of(function)) is not None:
        _made[code] = _made.get(code, 0) + 1


def is_often_made(function: Callable[..., Any]) -> bool:
    """Whether functions like this one are made again and again, as a lambda in a loop is."""
    code = _code_of(function)
    return code is not None and _made.get(code, 0) > 2


def _code_of(function: Callable[..., Any]) -> types.CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    # Methods are made at each access; the object is what tells them apart.
    return None if isinstance(function, types.MethodType) else getattr(function, "__code__", None)
