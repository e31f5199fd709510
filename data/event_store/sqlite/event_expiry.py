"""The thread of a SQLite event store that removes events which are too old, some at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable

from data.errors import StoreError
from data.event_store.sqlite.event_table import EventTable
from data.event_store.sqlite.followed_table import FollowedTable

_EVERY_S, _REST_S = 10.0, 0.02
_LOOKS = 20
_LOOKED_AT, _AT_ONCE = 1_000, 200


class EventExpiry:
    """Goes round the events of some sources in the order of their keys, and removes the old ones.

    No table has all events in the order of time, and none is needed: every ten seconds the next 20,000 of each source
    are looked at, and what is old is removed in transactions of 200.

    Args:
        following: the event table of a connection of its own; closed with this.
        sources: the sources.
        age_us: age, counted from its time, past which an event is removed, in microseconds.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(self, following: FollowedTable, sources: Iterable[str], age_us: int, clock: Callable[[], int]) -> None:
        self.removed = 0
        """Events removed; grows in one thread, any may read it."""
        self._following, self._age_us, self._clock = following, age_us, clock
        self._after = dict.fromkeys(sources, b"")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-expiry", daemon=True)

    def start(self) -> None:
        """Remove old events from now on, in the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the connection; calling it twice is fine."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._following.close()

    def sweep(self) -> None:
        """Look at the next events of each source, from the first again after the last, and remove those too old.

        Raises:
            StoreUnavailable, StoreError, sqlite3.Error: something is wrong with the file, or it is locked.
        """
        before_us = self._clock() - self._age_us
        for source in self._after:
            for _ in range(_LOOKS):
                more = self._look(self._following.get(), source, before_us)
                if not more or self._stopped.wait(_REST_S):
                    break

    def _look(self, table: EventTable, source: str, before_us: int) -> bool:
        """Return whether there are events behind those that were looked at."""
        keys = table.ages(source, before_us, self._after[source], _LOOKED_AT)
        old = [key for key, is_old in keys if is_old]
        for start in range(0, len(old), _AT_ONCE):
            # Between two transactions others can write.
            time.sleep(_REST_S if start else 0.0)
            with table.transaction():
                removed = table.drop(source, old[start : start + _AT_ONCE], before_us)
            self.removed += removed
        more = len(keys) == _LOOKED_AT
        self._after[source] = keys[-1][0] if more else b""
        return more

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopped.wait(wait_s):
            # Whatever is wrong with the file, the next read or write reports it.
            with contextlib.suppress(StoreError, sqlite3.Error):
                self.sweep()
            wait_s = _EVERY_S
