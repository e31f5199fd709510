"""A connection to an event store's file that follows it: when another file takes its place, that one is opened."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from data.errors import StoreUnavailable
from data.event_store.sqlite.event_file import EventFile
from data.event_store.sqlite.event_table import EventTable, FiledSource

_FILE_CHECK_S = 1.0
_OPEN_WAIT_S = 0.1  # the last to close a file, and the first to open it after a crash, hold it for a moment


class FollowedTable:
    """The event table of one connection, opened anew when the file was deleted or replaced.

    Args:
        file: the event store's file.
        sources: the sources by name.
        wait_s: how long a statement waits for another writer, in seconds.
    """

    def __init__(self, file: EventFile, sources: Mapping[str, FiledSource], wait_s: float) -> None:
        self._file = file
        self._sources = sources
        self._wait_s = wait_s
        self._table: EventTable | None = None
        self._inode: int | None = None
        self._check_at = 0.0

    def get(self) -> EventTable:
        """Return the table; looks once a second whether another file has its path.

        Raises:
            StoreUnavailable: there is no file any more, or it cannot be opened.
            StoreError: it is damaged.
        """
        if self._table is None or time.monotonic() >= self._check_at:
            self._follow()
        return self._table or self._open()

    def look_again(self) -> None:
        """Have the next `get` look at the file, since something was wrong with it."""
        self._check_at = 0.0

    def close(self) -> None:
        """Close the connection; calling it twice is fine."""
        if self._table is not None:
            self._table.connection.close()
        self._table = None

    def _follow(self) -> None:
        try:
            inode = self._file.path.stat().st_ino
        except OSError as exc:
            # An open connection would go on with the deleted file.
            self._check_at = 0.0
            if self._inode is None:
                raise StoreUnavailable(f"there is no event store at {self._file.path}") from exc
            raise StoreUnavailable(f"the event store {self._file.path} is gone: {exc}") from exc
        if inode != self._inode:
            self.close()
        self._inode, self._check_at = inode, time.monotonic() + _FILE_CHECK_S

    def _open(self) -> EventTable:
        try:
            connection = self._file.connect(max(self._wait_s, _OPEN_WAIT_S))
            try:
                self._table = EventTable(connection, self._sources)
                connection.execute(f"PRAGMA busy_timeout = {round(self._wait_s * 1000)}")
            except sqlite3.Error:
                connection.close()
                raise
        except sqlite3.Error as exc:
            self._file.fail("open", exc)
        return self._table
