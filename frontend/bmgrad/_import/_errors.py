"""What an import that cannot be done raises."""

from __future__ import annotations

from bmgrad.runtime._errors import UnsupportedError

__all__ = ["Unsupported", "UnsupportedError"]


class Unsupported(Exception):
    """Raised by rules: the reason only. The importer adds primitive and location."""


class TooDeep(Unsupported):
    """A derivative rule lies deeper in other rules than the importer follows them."""
