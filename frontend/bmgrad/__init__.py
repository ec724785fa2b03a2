"""bmgrad: a compiler for differentiable, stateful array programs.

``import bmgrad as bp`` for models, ``import bmgrad.math as bm`` for arrays and transforms.
"""

import os as _os

from bmgrad import extend, math
from bmgrad._base import Base
from bmgrad._collector import ArrayCollector, Collector, TensorCollector
from bmgrad._naming import clear_name_cache
from bmgrad.runtime import load
from bmgrad.runtime._jax_internals import hide_frames as _hide_frames

__version__ = "0.1.0"

# What later versions of BrainPy call it.
BrainPyObject = Base

__all__ = [
    "ArrayCollector",
    "Base",
    "BrainPyObject",
    "Collector",
    "TensorCollector",
    "__version__",
    "clear_name_cache",
    "extend",
    "load",
    "math",
]

# Programs and messages name the user's line, not the wrapper here that the line called.
_hide_frames(_os.path.dirname(__file__))
