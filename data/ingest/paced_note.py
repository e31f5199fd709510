"""Lines for whoever watches a program that tries again and again: one every ten seconds, not one a try."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 10.0
"""How often one is said, in seconds."""


class PacedNote:
    """Says a line unless it has said one in the last `EVERY_S`.

    Args:
        note: prints a line.
        clock: returns a monotonic time in seconds.
    """

    def __init__(self, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._note, self._clock = note, clock
        self._next = float("-inf")
        self.spoken = False
        """Whether it has said one since the last `over`."""

    @property
    def due(self) -> bool:
        """Whether a line would be said now."""
        return self._clock() >= self._next

    def __call__(self, text: str) -> None:
        """Say a line when it is time for one."""
        if self.due:
            self._next = self._clock() + EVERY_S
            self.spoken = True
            self._note(text)

    def over(self, text: str) -> None:
        """Say that what was said is over; nothing where nothing was."""
        if self.spoken:
            self._note(text)
        self.spoken, self._next = False, float("-inf")
