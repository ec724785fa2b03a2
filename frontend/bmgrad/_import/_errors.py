"""What an import that cannot be done raises."""

from __future__ import annotations


class UnsupportedError(NotImplementedError):
    """Something that a bmgrad program cannot hold.

    The message names the JAX primitive, the user's file and line, and what to do.
    """


class Unsupported(Exception):
    """Raised by rules: the reason only. The importer adds primitive and location."""
