"""Imports Python functions of arrays, for the tests of the importer."""

import contextlib

import jax
import pytest

from bmgrad._import import import_program
from bmgrad.runtime import _jax_internals
from bmgrad.runtime._primitive import bind


def imported(fun, *args, name="fun", arg_names=None):
    """`fun` of flat arrays or avals, imported; its results are the leaves of what it returns."""
    traced = _jax_internals.trace(
        lambda _, *xs: jax.tree.leaves(fun(*xs)),
        [x if isinstance(x, jax.core.ShapedArray) else jax.typeof(x) for x in args],
        name=name,
        arg_names=arg_names or [f"x{i}" for i in range(len(args))],
    )
    return import_program(traced, name=name)


def text(fun, *args, **keywords):
    """The IR of `fun`, parsed and verified."""
    return imported(fun, *args, **keywords).program.as_text("bm")


def run(fun, *args):
    """The results of the imported, lowered and compiled `fun`."""
    program, consts, *_ = imported(fun, *args)
    return bind(program, *args, *consts)


@contextlib.contextmanager
def jax_flag(name):
    """With a flag of JAX, which not all versions have, on."""
    if not hasattr(jax.config, name):
        pytest.skip(f"this JAX has no {name}")
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)
