"""Functions that are other ones inside transforms of JAX, and are traced anew there.

In: the programs of one function. Out: :class:`Differences`, which ``_call.py`` asks before it takes
what was compiled.
"""

from __future__ import annotations

import weakref

from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._trace import TracedFunction
from bmgrad.runtime import Program
from bmgrad.runtime._jax_internals import is_inside_transform, may_be_differentiated


class Differs(Exception):
    """The function is another one where some transforms of JAX are around it."""


class Differences:
    """Where calls trace a function anew, for the sake of transforms of JAX around them.

    It may be given references that they map or differentiate, and the bounds of its loops may be
    values then, as `jax.lax.fori_loop` asks.
    """

    def __init__(self) -> None:
        self._has_references = False
        # Those that are not remembered, and traced again at each call, go.
        self._with_while: weakref.WeakSet[Program] = weakref.WeakSet()

    def note(self, traced: TracedFunction, arguments: Arguments, may_ask_values: bool) -> None:
        """Raises `Differs` where there is something that was not known."""
        has_references = bool(arguments.references)
        is_new = has_references and not self._has_references
        self._has_references |= has_references
        program = traced.program
        if may_ask_values and program.has_while and program not in self._with_while:
            self._with_while.add(program)
            is_new = True
        if is_new:
            raise Differs

    def __bool__(self) -> bool:
        return self._has_references or len(self._with_while) > 0

    def are_here(self) -> bool:
        if self._has_references and is_inside_transform():
            return True
        return may_be_differentiated() and any(x.has_open_loop for x in self._with_while)
