"""The event store in one SQLite file: the embedded default, for one machine.

The file is its own, not that of the batch views: a materialization holds its file's write lock for seconds, and here
an answer waits for it. It is in WAL mode, so readers never wait. What is committed survives the end of any process, a
kill -9 too; a power cut or a crash of the machine may lose the commits of the last seconds, since they are not synced
one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import msgpack

from data.errors import StoreError, StoreUnavailable
from data.event_store import EventOutcome, RowEvents, RowQuery
from data.feature_views.event import Event
from data.feature_views.online_windows import Slice, StoredEvent
from data.schema.event_source import EventSource

_TABLES = (
    "CREATE TABLE IF NOT EXISTS event_sources (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS events (
  source INTEGER NOT NULL, key BLOB NOT NULL, time_us INTEGER NOT NULL, known_us INTEGER NOT NULL,
  entities BLOB NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (source, key)
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS entity_events (
  source INTEGER NOT NULL, entity INTEGER NOT NULL, entity_key TEXT NOT NULL, time_us INTEGER NOT NULL,
  key BLOB NOT NULL, known_us INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (source, entity, entity_key, time_us, key)
) WITHOUT ROWID""",
)
_READ = """SELECT time_us, key, known_us, payload FROM entity_events
WHERE source = ? AND entity = ? AND entity_key = ? AND time_us > ? AND time_us <= ? ORDER BY time_us, key"""
_FIND = "SELECT time_us, known_us, entities, payload FROM events WHERE source = ? AND key = ?"
_PUT = "INSERT OR REPLACE INTO events (source, key, time_us, known_us, entities, payload) VALUES (?, ?, ?, ?, ?, ?)"
_PUT_ENTITY = "INSERT OR REPLACE INTO entity_events VALUES (?, ?, ?, ?, ?, ?, ?)"
_DROP_ENTITY = """DELETE FROM entity_events
WHERE source = ? AND entity = ? AND entity_key = ? AND time_us = ? AND key = ?"""
_LOCK_POLL_S = 0.000_5
_CHECKPOINT_EVERY_S = 1.0
_APPEND_ROWS = 500
"""Events a transaction: an answer that records waits for one such at most."""


class SqliteEvents:
    """The events of one use case in a SQLite file; implements `data.event_store.EventStore`.

    `fetch` runs on the event loop itself, without a thread, as `SqliteStore.get_many` does. While another process holds
    the write lock it waits on the loop's clock, so that other work goes on.

    Args:
        path: the database file.
        use_case: name of the use case; part of the name of its sources in the file.
        sources: the sources of events by name.
        create: create folder, file and tables when they do not exist.
        lock_wait_s: how long `append` waits for another writer, in seconds.
        clock: returns the time in microseconds since 1970 UTC, for rows that come without one.

    Raises:
        StoreUnavailable: there is no such file or it cannot be opened.
        StoreError: the file is not a SQLite database, or is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        use_case: str,
        sources: Mapping[str, EventSource],
        *,
        create: bool = False,
        lock_wait_s: float = 10.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._closed = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._file = Path(path).absolute()
        self._sources = dict(sources)
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._latest_us = 0
        try:
            if create:
                self._create()
            self._connection = self._connect()
            names = {name: f"{use_case}.{name}@{source.fingerprint}" for name, source in self._sources.items()}
            self._numbers = {name: self._number(stored) for name, stored in names.items()}
        except (OSError, sqlite3.Error) as exc:
            self.close()
            self._fail("open", exc)
        except BaseException:
            self.close()
            raise
        self._checkpoints = threading.Thread(target=self._checkpoint, name="event-checkpoints", daemon=True)
        self._checkpoints.start()

    async def fetch(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> list[RowEvents]:
        """Record and read; see `EventStore`. Rows are taken in order, each sees what those before it recorded."""
        connection = self._open()
        places = [(self._numbers[each.source], self._place(each), each.reach_us) for each in slices]
        recording = any(own.record for row in rows for own in row.own)
        try:
            if not recording:
                return [self._read(connection, places, row, (), row.time_us) for row in rows]
            await self._lock(connection, timeout_s)
            with connection:
                return [self._record_and_read(connection, places, row) for row in rows]
        except sqlite3.Error as exc:
            self._fail("read", exc)

    def append(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store events in transactions of a few hundred; see `EventStore`. Not on the thread of `fetch`."""
        outcomes: list[EventOutcome] = []
        try:
            with contextlib.closing(self._connect(self._lock_wait_s)) as connection:
                for start in range(0, len(events), _APPEND_ROWS):
                    with connection:
                        connection.execute("BEGIN IMMEDIATE")
                        part = events[start : start + _APPEND_ROWS]
                        outcomes += [self._put(connection, source, event)[0] for event in part]
        except sqlite3.Error as exc:
            self._fail("write", exc)
        return outcomes

    def expire(self, source: str, before_us: int) -> int:
        """Remove a source's events before a time; see `EventStore`."""
        number = self._numbers[source]
        try:
            with contextlib.closing(self._connect(self._lock_wait_s)) as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                for table in ("entity_events", "events"):
                    removed = connection.execute(
                        f"DELETE FROM {table} WHERE source = ? AND time_us < ?",
                        (number, before_us),
                    ).rowcount
        except sqlite3.Error as exc:
            self._fail("write", exc)
        return removed

    async def ping(self) -> None:
        """Raise StoreUnavailable or StoreError when the file cannot be read."""
        try:
            self._open().execute("SELECT 1 FROM event_sources").fetchone()
        except sqlite3.Error as exc:
            self._fail("read", exc)

    def close(self) -> None:
        """Close the connection; calling it twice is fine."""
        self._closed.set()
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("SqliteEvents holds open files and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            warnings.warn(f"unclosed event store {self._file}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    async def _lock(self, connection: sqlite3.Connection, timeout_s: float) -> None:
        """Begin a transaction that may write, waiting on the event loop while another process has one."""
        deadline = time.monotonic() + min(timeout_s, self._lock_wait_s)
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as exc:
                if not _is_locked(exc):
                    raise
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(f"the event store {self._file} is locked by another process") from exc
                await asyncio.sleep(_LOCK_POLL_S)
            else:
                return

    def _record_and_read(self, connection: sqlite3.Connection, places: _Places, row: RowQuery) -> RowEvents:
        now = row.time_us if row.time_us is not None else self._next_us()
        outcomes = []
        for own in row.own:
            if own.record:
                event = own.event if row.time_us is not None else _at(own.event, now)
                outcome, stored_us = self._put(connection, own.source, event, timed=row.time_us is not None)
                outcomes.append(outcome)
                now = stored_us if row.time_us is None else now
        return self._read(connection, places, row, tuple(outcomes), now)

    def _read(
        self,
        connection: sqlite3.Connection,
        places: _Places,
        row: RowQuery,
        outcomes: tuple[EventOutcome, ...],
        time_us: int | None,
    ) -> RowEvents:
        now = self._next_us() if time_us is None else time_us
        events = tuple(
            []
            if key is None
            else [StoredEvent(*each) for each in connection.execute(_READ, (number, at, key, now - reach_us, now))]
            for (number, at, reach_us), key in zip(places, row.entities, strict=True)
        )
        return RowEvents(now, outcomes, events)

    def _put(
        self, connection: sqlite3.Connection, source: str, event: Event, *, timed: bool = True
    ) -> tuple[EventOutcome, int]:
        """Store one event; return what became of it and the time under which the store has its key.

        `timed` is False for an event whose time the store has set: then another time is no other content.
        """
        number, packed = self._numbers[source], msgpack.packb(event.entities)
        found = connection.execute(_FIND, (number, event.key)).fetchone()
        if found is not None:
            time_us, known_us, entities, payload = found
            same = payload == event.payload and entities == packed
            if same and ((time_us, known_us) == (event.time_us, event.known_us) or not timed):
                return EventOutcome.REPEATED, time_us
            if event.known_us <= known_us:
                older = event.known_us < known_us
                return EventOutcome.SUPERSEDED if older else EventOutcome.CONFLICT, time_us
            for at, key in enumerate(msgpack.unpackb(entities)):
                if key is not None:
                    connection.execute(_DROP_ENTITY, (number, at, key, time_us, event.key))
        connection.execute(_PUT, (number, event.key, event.time_us, event.known_us, packed, event.payload))
        for at, key in enumerate(event.entities):
            if key is not None:
                row = (number, at, key, event.time_us, event.key, event.known_us, event.payload)
                connection.execute(_PUT_ENTITY, row)
        return EventOutcome.TAKEN if found is None else EventOutcome.REVISED, event.time_us

    def _next_us(self) -> int:
        # Strictly later than any moment before, though the clock stand still or be set back: rows of one process that
        # come without a time are in the order in which they came.
        self._latest_us = max(self._clock(), self._latest_us + 1)
        return self._latest_us

    def _place(self, wanted: Slice) -> int:
        names = [entity.name for entity in self._sources[wanted.source].entities]
        return names.index(wanted.entity)

    def _create(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(self._connect(self._lock_wait_s, "rwc")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for table in _TABLES:
                connection.execute(table)

    def _number(self, name: str) -> int:
        """Return the number of a source in the file, a new one for a source that the file does not have."""
        connection = self._open()
        found = connection.execute("SELECT number FROM event_sources WHERE name = ?", (name,)).fetchone()
        if found is None:
            with connection:
                connection.execute("INSERT OR IGNORE INTO event_sources (name) VALUES (?)", (name,))
            return self._number(name)
        return found[0]

    def _connect(self, wait_s: float = 0.0, mode: str = "rw") -> sqlite3.Connection:
        if mode == "rw" and not self._file.is_file():
            raise StoreUnavailable(f"there is no event store at {self._file}")
        uri = f"file:{quote(str(self._file))}?mode={mode}"
        # Statements are committed by `with connection` alone; Python's own BEGIN would be a deferred one.
        connection = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)
        # In WAL mode NORMAL leaves out the sync of each commit: a crash of the process loses nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        # By a thread instead: whoever commits would else now and then wait for the disk.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return connection

    def _checkpoint(self) -> None:
        """Move the log into the file every second, so that no commit waits for the disk."""
        connection = self._connect()
        with contextlib.closing(connection):
            while not self._closed.wait(_CHECKPOINT_EVERY_S):
                # Whatever is wrong with the file, the next read or write reports it.
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreUnavailable(f"the event store {self._file} is closed")
        return self._connection

    def _fail(self, action: str, exc: Exception) -> NoReturn:
        problem = f"the event store {self._file}: cannot {action}: {exc}"
        if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError):
            raise StoreError(problem) from exc
        raise StoreUnavailable(problem) from exc


_Places = Sequence[tuple[int, int, int]]


def _at(event: Event, time_us: int) -> Event:
    return event._replace(time_us=time_us, known_us=time_us)


def _is_locked(exc: sqlite3.OperationalError) -> bool:
    return "locked" in str(exc) or "busy" in str(exc)
