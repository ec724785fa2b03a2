"""What the compiler raises where a program cannot be made, in the user's words."""

import re
from typing import Any


class UnsupportedError(NotImplementedError):
    """Something that bmgrad cannot compile or differentiate.

    The message names the JAX primitive, the user's file and line, and what to do.
    """


# In the names of derivative rules that the importer declares only.
NESTED_TOO_DEEP = "nested_too_deep"
TOO_DEEP = (
    "a derivative of this order needs derivative rules nested deeper in other rules than "
    "they are followed"
)

_FILE = re.compile(r'"([^"]+)":(\d+):\d+')
_ADVICE = {
    "no derivative rule for primitive": (
        "; give the function around it a rule of its own (jax.custom_jvp, jax.custom_vjp), "
        "register one for the primitive (bmgrad.extend.register_primitive), or keep the "
        "gradient from it (jax.lax.stop_gradient)"
    ),
    "no transpose rule for primitive": (
        "; register one (jax.interpreters.ad.primitive_transposes, "
        "bmgrad.extend.register_primitive)"
    ),
    "reverse-mode derivative of a while loop": (
        "; forward mode (bm.jvp, bm.jacfwd) goes through any loop"
    ),
}


def from_diagnostic(diagnostic: Any) -> UnsupportedError | None:
    """The error that a pass reported; None if it is about broken IR, which is our fault."""
    message = str(diagnostic.message)
    if any(NESTED_TOO_DEEP in str(note.message) for note in diagnostic.notes):
        message = TOO_DEEP
    # Verifiers of ops begin with the op's name.
    if message.startswith("'"):
        return None
    message += "".join(advice for start, advice in _ADVICE.items() if message.startswith(start))
    where = _FILE.search(str(diagnostic.location))
    return UnsupportedError(message + (f"\n  at {where[1]}:{where[2]}" if where else ""))
