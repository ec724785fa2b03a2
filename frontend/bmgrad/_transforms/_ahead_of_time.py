"""Functions compiled ahead of time: a whole call as one program, with a calling convention.

In: a transform, its arguments, and what a call of it does. Out: the first of the stages. Next:
``runtime/_stages.py``.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from bmgrad._array import Array
from bmgrad._transforms._arguments import Arguments
from bmgrad._transforms._held_reference import never
from bmgrad._transforms._made import MadeBefore
from bmgrad._transforms._skeleton import skeleton
from bmgrad._transforms._trace import TracedFunction, trace_function
from bmgrad._transforms._transform import Transform
from bmgrad.runtime._convention import Convention
from bmgrad.runtime._jax_internals import has_hi_arrays
from bmgrad.runtime._stages import Traced


def staged(transform: Transform, arguments: Arguments, call: Callable[..., Any]) -> Traced:
    """What ``call`` does with these arguments, for others of their shapes and dtypes.

    Raises:
      TypeError: it takes, returns or keeps what a program without Python cannot.
    """
    arguments.static.check_hashable()
    before = MadeBefore()

    def trace() -> TracedFunction:
        return trace_function(
            call,
            arguments,
            name=transform.name,
            owner=transform.owner,
            held=never,
            made_before=before,
        )

    if (traced := trace()).made:
        # One that looks at what it has made before is another function from then on. Nothing
        # here is to keep that alive.
        labels = ", ".join(variable._label() for variable in traced.made)
        made, first = list(map(weakref.ref, traced.made)), traced.made_at_all
        del traced
        traced = trace()
        is_read = any(ref() is array for ref in made for array in traced.reads)
        if is_read or traced.made:
            traced.undo()
            if first is not None:
                first.undo()
            raise TypeError(
                f"{transform.name} makes and keeps {labels}, as "
                "a function compiled ahead of time cannot; call it once before, or make the "
                "variables outside"
            )
    _check(transform.name, arguments, traced)
    convention = Convention(
        in_tree=arguments.static.tree,
        statics=arguments.static.plain_positions,
        out_tree=traced.out_tree,
        variable_names=_names(traced, traced.program.in_names[len(arguments.leaves) :]),
        written=traced.written_positions,
    )
    return Traced(traced.program, convention, _Variables(traced))


def _names(traced: TracedFunction, in_program: Sequence[str]) -> tuple[str, ...]:
    """The names of what is read: variables know theirs, whichever function reads them."""
    of_variables = (array._name if isinstance(array, Array) else None for array in traced.reads)
    pairs = itertools.zip_longest(of_variables, in_program)
    return tuple(name or other for name, other in pairs)


def _check(name: str, arguments: Arguments, traced: TracedFunction) -> None:
    if traced.float0:
        raise TypeError(
            f"{name} returns gradients of integers (dtype float0), which have no values to compile "
            "or save; differentiate for float arguments only"
        )
    out = skeleton(traced.out_tree, range(traced.out_tree.num_leaves))
    if has_hi_arrays((arguments.skeleton(arguments.leaves), out)):
        raise TypeError(
            f"{name} takes or returns values of types that users define (jax.experimental.hijax), "
            "as a function compiled ahead of time cannot; compile it as jax.jit(f).lower(...)"
        )
    if arguments.references or traced.references:
        raise TypeError(
            f"{name} reads or writes references (jax.new_ref), which a function compiled ahead of "
            "time cannot take; pass values and return what they are to become, or compile it as "
            "jax.jit(f).lower(...)"
        )


class _Variables:
    """The arrays of a staged function: its variables, then what it closes over."""

    def __init__(self, traced: TracedFunction) -> None:
        self._traced = traced

    def read(self) -> list[Any]:
        return self._traced.inputs(())

    def write(self, values: Sequence[Any]) -> None:
        for array, value in zip(self._traced.writes, values, strict=True):
            array.value = value
