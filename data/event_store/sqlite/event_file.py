"""The SQLite file of an event store: its connections, and what its errors mean.

The file is its own, not that of the batch views: a materialization holds its file's write lock for seconds, and here
an answer waits for it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from data.errors import StoreError, StoreUnavailable
from data.event_store.sqlite import tile_table

_TABLES = (
    "CREATE TABLE IF NOT EXISTS event_sources (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS event_clock (number INTEGER PRIMARY KEY, latest_us INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO event_clock VALUES (0, 0)",
    """CREATE TABLE IF NOT EXISTS events (
  source INTEGER NOT NULL, key BLOB NOT NULL, time_us INTEGER NOT NULL, known_us INTEGER NOT NULL,
  entities BLOB NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (source, key)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS entity_events (
  source INTEGER NOT NULL, entity INTEGER NOT NULL, entity_key TEXT NOT NULL, time_us INTEGER NOT NULL,
  key BLOB NOT NULL, packed BLOB NOT NULL,
  PRIMARY KEY (source, entity, entity_key, time_us, key)
) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS event_removals (number INTEGER PRIMARY KEY, removals INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO event_removals VALUES (0, 0)",
    *tile_table.CREATE,
)
_CACHE_KIB = 131_072
_EARLIER = "SELECT 1 FROM pragma_table_info('entity_events') WHERE name IN ('event', 'payload')"
_OUT_OF_REACH = ("locked", "busy", "unable to open", "closed")


class EventFile:
    """A SQLite file in WAL mode, so that readers never wait.

    Args:
        path: the database file.
        lock_wait_s: how long what is made by `create` waits for another writer, in seconds.
    """

    def __init__(self, path: str | Path, lock_wait_s: float) -> None:
        self.path = Path(path).absolute()
        self._lock_wait_s = lock_wait_s

    def create(self) -> None:
        """Make folder, file and tables where they do not exist.

        Raises:
            StoreUnavailable: it cannot be made, or is locked.
            StoreError: the file is not a SQLite database, or is damaged.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._connect("rwc", self._lock_wait_s)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                for statement in _TABLES:
                    connection.execute(statement)
        except (OSError, sqlite3.Error) as exc:
            self.fail("create", exc)

    def connect(self, wait_s: float) -> sqlite3.Connection:
        """Open a connection that waits so long for another writer, in seconds, but never makes a file.

        Raises:
            StoreUnavailable: it is not a file.
            StoreError: an earlier version made it.
            sqlite3.Error: what else is wrong with it.
        """
        if not self.path.is_file():
            raise StoreUnavailable(f"there is no event store at {self.path}: it is not a file")
        connection = self._connect("rw", wait_s)
        try:
            # In WAL mode NORMAL leaves out the sync of each commit: a crash of the process loses nothing.
            connection.execute("PRAGMA synchronous = NORMAL")
            # The log is synced and moved into the file by `LogKeeper`: a commit would else now and then wait for it.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("PRAGMA journal_size_limit = 0")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if connection.execute(_EARLIER).fetchone() is not None:
                raise StoreError(
                    f"{self.path} was made by an earlier version: move it away, and ingest its events again"
                )
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
        return connection

    def fail(self, action: str, exc: Exception) -> NoReturn:
        """Raise what SQLite says as one of our errors.

        Raises:
            StoreUnavailable: locked, closed or out of reach: the same call may succeed later.
            StoreError: damaged, full, or no event store.
        """
        text = str(exc)
        if isinstance(exc, OSError) or any(word in text for word in _OUT_OF_REACH):
            reason = "it is locked by another process" if is_locked(exc) else text
            raise StoreUnavailable(f"cannot {action} the event store {self.path}: {reason}") from exc
        if "no such table" in text:
            raise StoreUnavailable(f"{self.path} holds no events: it is another database") from exc
        raise StoreError(f"cannot {action} the event store {self.path}: {text}") from exc

    def _connect(self, mode: str, wait_s: float) -> sqlite3.Connection:
        # mode=rw never creates the file: a mistyped path is an error instead of an empty store.
        # No mmap: a file truncated under a mapping ends the process with SIGBUS.
        # isolation_level=None: sqlite3 would otherwise open (deferred) transactions of its own before a write.
        uri = f"file:{quote(os.fspath(self.path))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)


def is_locked(exc: Exception) -> bool:
    """Return whether SQLite says that another connection has the lock."""
    return "locked" in str(exc) or "busy" in str(exc)
