"""The arguments of ``jit`` that are compiled in, which JAX calls static.

In: ``static_argnums`` and ``static_argnames``. Out: a call in which those arguments are
:class:`Pinned`, so that each value is a program of its own, or a function of the others only.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax

from bmgrad._transforms._arguments import parameter_names

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Pinned:
    """An argument that is no array for a compiled function, whatever its type."""

    # 1, 1.0 and True are equal.
    type: type
    value: Hashable


@dataclasses.dataclass(frozen=True)
class StaticArguments:
    """Which arguments of a function are static, by position and by name."""

    argnums: tuple[int, ...] = ()
    argnames: tuple[str, ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], argnums: Any, argnames: Any) -> StaticArguments:
        """Those that the user names; of one that is named in one way the other is found."""
        nums = _sequence("static_argnums", argnums, int, "an int, or a sequence of ints")
        names = _sequence("static_argnames", argnames, str, "a str, or a sequence of strs")
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            return cls(nums, names)
        positional = [p.name for p in parameters if p.kind in _POSITIONAL]
        kinds = {p.kind for p in parameters}
        takes_more = inspect.Parameter.VAR_POSITIONAL in kinds
        for number in nums:
            if not (takes_more or -len(positional) <= number < len(positional)):
                raise ValueError(
                    f"static_argnums={argnums} of jit asks for positional argument {number}, but "
                    f"{function} takes {len(positional)}"
                )
        taken = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        for name in names:
            takes_it = name in positional or name in taken
            if not takes_it and inspect.Parameter.VAR_KEYWORD not in kinds:
                raise ValueError(
                    f"static_argnames={argnames!r} of jit asks for an argument {name!r}, but "
                    f"{function} takes {', '.join(p.name for p in parameters) or 'none'}"
                )
        nums = tuple(n % len(positional) if n < 0 and not takes_more else n for n in nums)
        named = (positional[n] for n in nums if 0 <= n < len(positional))
        numbered = (positional.index(name) for name in names if name in positional)
        return cls(tuple(sorted({*nums, *numbered})), tuple(sorted({*names, *named})))

    def __bool__(self) -> bool:
        return bool(self.argnums or self.argnames)

    def of_method(self) -> StaticArguments:
        """Those of the function when it is bound to an object, its first argument."""
        # Negative ones count from the end.
        return StaticArguments(tuple(n - (n > 0) for n in self.argnums if n), self.argnames)

    def pin(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with its static arguments pinned."""
        chosen = self._chosen(args)
        return tuple(
            _pin(arg, function, i) if i in chosen else arg for i, arg in enumerate(args)
        ), {
            name: _pin(arg, function, name) if name in self.argnames else arg
            for name, arg in kwargs.items()
        }

    def _chosen(self, args: Sequence[Any]) -> set[int]:
        return {n % len(args) for n in self.argnums if -len(args) <= n < len(args)}

    def given(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """A function of the other arguments only, and these."""
        chosen = self._chosen(args)

        @functools.wraps(function)
        def of_others(*others: Any, **named: Any) -> Any:
            rest = iter(others)
            merged = [arg if i in chosen else next(rest) for i, arg in enumerate(args)]
            return function(*merged, *rest, **named, **static)

        static = {name: arg for name, arg in kwargs.items() if name in self.argnames}
        names = [name for i, name in enumerate(parameter_names(function)) if i not in chosen]
        of_others.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
        )
        # Variables are named after the object that they are in.
        of_others.__self__ = getattr(function, "__self__", function)  # type: ignore[attr-defined]
        return (
            of_others,
            tuple(arg for i, arg in enumerate(args) if i not in chosen),
            {name: arg for name, arg in kwargs.items() if name not in self.argnames},
        )


def unpinned(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, given what :meth:`StaticArguments.pin` made of a call."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_value, args), **{name: _value(arg) for name, arg in kwargs.items()})

    return run


def _value(arg: Any) -> Any:
    return arg.value if isinstance(arg, Pinned) else arg


def _pin(value: Any, function: Callable[..., Any], name: int | str) -> Pinned:
    try:
        hash(value)
    except TypeError:
        if isinstance(name, int):
            names = parameter_names(function)
            name = names[name] if name < len(names) else f"arg{name}"
        what = "a traced value" if isinstance(value, jax.core.Tracer) else repr(value)
        raise TypeError(
            f"static argument {name} of a jit must be hashable, for it is compiled in, got {what} "
            f"of type {type(value).__name__}; pass what can be hashed, as a tuple for a list, or "
            "do not name it in static_argnums or static_argnames"
        ) from None
    return Pinned(type(value), value)


def _sequence(name: str, given: Any, kind: type, wanted: str) -> tuple[Any, ...]:
    if given is None:
        return ()
    items = (given,) if isinstance(given, kind) else given
    if not isinstance(items, Sequence) or not all(type(item) is kind for item in items):
        raise TypeError(f"{name} of jit must be {wanted}, got {given!r}")
    return tuple(items)
