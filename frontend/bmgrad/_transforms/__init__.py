"""Transforms of functions with variables. `_api.py` lists them; start reading there."""

from bmgrad._transforms._api import (
    grad,
    hessian,
    jacfwd,
    jacobian,
    jacrev,
    jit,
    value_and_grad,
    vector_grad,
    vmap,
)
from bmgrad._transforms._call import cache_info
from bmgrad._transforms._functional import jvp, linearize, vjp

__all__ = [
    "cache_info",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linearize",
    "value_and_grad",
    "vector_grad",
    "vjp",
    "vmap",
]
