"""``import bmgrad.math as bm``: arrays, variables, their functions, and the transforms.

This file is the public list. Arrays live in ``bmgrad._array``, variables in ``bmgrad._variable``,
functions in ``_functions.py`` beside this file, transforms in ``bmgrad._transforms``.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from bmgrad._array import Array
from bmgrad._base import NodeDict, NodeList
from bmgrad._containers import VarDict, VarList
from bmgrad._transforms import (
    cache_info,
    grad,
    hessian,
    jacfwd,
    jacobian,
    jacrev,
    jit,
    jvp,
    linearize,
    value_and_grad,
    vector_grad,
    vjp,
    vmap,
)
from bmgrad._variable import Parameter, TrainVar, Variable
from bmgrad.math import fft, linalg, random
from bmgrad.math._functions import *  # noqa: F403  # the table there is the list
from bmgrad.math._functions import __all__ as _function_names
from bmgrad.runtime import disable_x64, enable_x64, get_platform, set_platform

JaxArray = ndarray = Array

__all__ = [
    "Array",
    "JaxArray",
    "NodeDict",
    "NodeList",
    "Parameter",
    "TrainVar",
    "VarDict",
    "VarList",
    "Variable",
    "cache_info",
    "disable_x64",
    "enable_x64",
    "fft",
    "get_platform",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "linalg",
    "linearize",
    "ndarray",
    "random",
    "set_platform",
    "value_and_grad",
    "vector_grad",
    "vjp",
    "vmap",
    *_function_names,
]

if _TYPE_CHECKING:

    def __getattr__(name: str) -> _Any: ...
