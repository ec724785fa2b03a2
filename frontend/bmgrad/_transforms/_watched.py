"""What is around the function of a state: whether that has changed, and by whom.

In: a transform. Out: :class:`Watched`, which ``_call.py`` asks before it takes what was traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bmgrad._transforms._surroundings import ArraysAround, Surroundings, has_outlived_trace
from bmgrad._transforms._transform import Transform


class Watched:
    """The surroundings of a function, if its transform sees changes of them.

    Attributes:
      traces_that_keep: how many traces on end have kept arrays that they made; the function finds
        others at its next call then.
    """

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self._when_made = self._now()
        self._when_traced: list[Surroundings | None] = []
        self._left: Surroundings | None = None
        self.traces_that_keep = 0

    def _now(self) -> Surroundings | None:
        return Surroundings(self._transform.function) if self._transform.sees_changes else None

    def has_changed(self) -> bool:
        """Whether the function finds other things around it than when this was made."""
        return self._when_made != self._now()

    def differs_from_traces(self) -> bool:
        """Whether it finds others than when it was traced, what is known of which is kept."""
        now = self._now() if self._when_traced else None
        return any(before != now for before in self._when_traced)

    def is_as_left(self) -> bool:
        """Whether nobody has changed what is around it since it was traced last."""
        return self._left == self._now()

    def forget_traces(self) -> None:
        """Says that nothing is kept any more."""
        self._when_traced = []

    @contextlib.contextmanager
    def tracing(self, *, is_kept: bool) -> Iterator[None]:
        """A scope for the function to run in: what it changes itself is not seen as a change.

        But that it keeps arrays, as one does that makes its parameters when it is first called.
        """
        found = self._now()
        function = self._transform.function
        before = ArraysAround(function) if found else None
        try:
            yield
            new = [has_outlived_trace(x) for x in before.new(function)] if before else []
            self.traces_that_keep = self.traces_that_keep + 1 if any(new) else 0
        finally:
            self._left = now = self._now() if found else None
            if found == self._when_made:
                self._when_made = now
            self._when_traced = [now if found == x else x for x in self._when_traced]
            # Of more than one, some always differ.
            if is_kept and len(self._when_traced) < 2 and now not in self._when_traced:
                self._when_traced.append(now)
