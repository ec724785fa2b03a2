"""What is in the objects that a function is given: equal ones may hold something else by now.

In: the static arguments of a call. Out: those that it was compiled for with this content, if any.
"""

from __future__ import annotations

import dataclasses

from bmgrad._transforms._arguments import Static
from bmgrad._transforms._surroundings import Content

# For how many contents of equal objects a function is compiled: ever other ones are not worth it.
_MOST_CONTENTS = 4


class Contents:
    """The contents that equal static arguments have had, each with the one compiled for it."""

    def __init__(self) -> None:
        self._known: dict[Static, list[tuple[Content, Content]]] = {}

    def compiled_for(self, static: Static) -> Static | None:
        """What a call is compiled for; None where the contents vary too much for that."""
        if static.content is None:
            return static
        known = self._of_equal(static)
        for content, compiled in known:
            if content == static.content:
                return dataclasses.replace(static, content=compiled)
        return static if len(known) < _MOST_CONTENTS else None

    def note_traced(self, static: Static) -> None:
        """Says that the function was traced for these, which it may have changed.

        What it changes itself, as one that keeps what it has made, is not seen as a change.
        """
        if static.content is None:
            return
        known, now = self._of_equal(static), static.with_content().content
        for content in (static.content, now):
            if content is not None and all(content != each for each, _ in known):
                known.append((content, static.content))

    def _of_equal(self, static: Static) -> list[tuple[Content, Content]]:
        return self._known.setdefault(dataclasses.replace(static, content=None), [])
