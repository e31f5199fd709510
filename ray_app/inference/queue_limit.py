"""How many rows may wait in one gateway: counted once, for all versions of the model together."""

from __future__ import annotations

from collections.abc import Callable

from data.errors import Overloaded


class QueueLimit:
    """The rows that wait for a micro-batch in any version's queue, and the most that may. Belongs to one event loop.

    Args:
        limit: most rows that may wait.
        on_full: called with the number of rows that were refused because of the limit.
    """

    def __init__(self, limit: int, on_full: Callable[[int], None] = lambda rows: None) -> None:
        self.limit = limit
        self.waiting = 0
        """Rows queued and in no batch yet, those of callers that have left included: they take up memory too."""
        self._on_full = on_full

    def require_room(self, rows: int) -> None:
        """Raise Overloaded when so many more rows would be too many; nothing is reserved."""
        if self.waiting + rows > self.limit:
            self._on_full(rows)
            raise Overloaded("too many requests are waiting; try again later")
