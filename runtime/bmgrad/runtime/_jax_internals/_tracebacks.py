"""Frames that are not the user's: JAX leaves out its own in locations and in tracebacks.

`JAX_TRACEBACK_FILTERING=off` shows them all.
"""

import os
import traceback

from jax._src.traceback_util import api_boundary as api_boundary
from jax._src.traceback_util import filter_traceback
from jax._src.traceback_util import register_exclusion as _exclude_from_tracebacks
from jax.extend.source_info_util import register_exclusion as _exclude_from_locations


def hide_frames(folder: str) -> None:
    """Frames of files in ``folder`` are in no location, nor in what leaves an `api_boundary`."""
    _exclude_from_locations(folder + os.sep)
    _exclude_from_tracebacks(folder)


def users_stack(error: BaseException) -> str:
    """The lines of the user's that `error` came through, as a traceback shows them."""
    if error.__traceback__ is None:
        return ""
    return "".join(traceback.format_tb(filter_traceback(error.__traceback__)))


hide_frames(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))
