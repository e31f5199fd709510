"""The limit of rows queued in one gateway, counted over the queues of all model versions together."""

from __future__ import annotations

from collections.abc import Callable

from data.errors import Overloaded


class QueueLimit:
    """Number of rows queued for micro-batches, and its limit. Belongs to one event loop.

    Args:
        limit: largest number of queued rows.
        on_full: called with the number of rows that were refused.
    """

    def __init__(self, limit: int, on_full: Callable[[int], None] = lambda rows: None) -> None:
        self.limit = limit
        self.waiting = 0
        """Queued rows, including those of cancelled callers, which take up memory until they are taken out."""
        self._on_full = on_full

    def require_room(self, rows: int) -> None:
        """Raise Overloaded when `rows` more would exceed the limit. Reserves nothing."""
        if self.waiting + rows > self.limit:
            self._on_full(rows)
            raise Overloaded("too many requests are waiting; try again later")
