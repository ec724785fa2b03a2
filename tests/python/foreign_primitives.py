"""Primitives like those that third parties make, for tests of their rules."""

from jax.extend.core import Primitive
from jax.interpreters import mlir


def primitive(name, implementation, abstract, multiple_results=False):
    made = Primitive(name)
    made.multiple_results = multiple_results
    made.def_impl(implementation)
    made.def_abstract_eval(abstract)
    lowering = mlir.lower_fun(implementation, multiple_results=multiple_results)
    mlir.register_lowering(made, lowering)
    return made
