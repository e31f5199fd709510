"""The event store in one SQLite file: the embedded default, for one machine."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from data.errors import StoreUnavailable
from data.event_store import EventOutcome, RowEvents, RowQuery, check_storable
from data.event_store.sqlite.event_append import EventAppend
from data.event_store.sqlite.event_expiry import EventExpiry
from data.event_store.sqlite.event_file import EventFile, is_locked
from data.event_store.sqlite.event_table import EventTable, FiledSource
from data.event_store.sqlite.followed_table import FollowedTable
from data.event_store.sqlite.log_keeper import LONG_LOG_BYTES, LogKeeper
from data.event_store.sqlite.tile_maker import TileMaker
from data.event_store.sqlite.tile_table import Place
from data.event_store.sqlite.tiled_slice import TiledSlice, read_slice, tile_job
from data.event_store.tile_folder import TileFolder
from data.event_store.tile_making import TileJob, TileRules, TileWork
from data.feature_views.events.event import Event, EventCodec
from data.feature_views.online.online_windows import Slice
from data.feature_views.online.stored_events import NO_EVENTS
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import require_scratch

_SPIN_S = 0.0005
_POLL_S = 0.001
_FOLD_WAIT_S = 0.5


class SqliteEvents:
    """The events of one use case in a SQLite file; implements `data.event_store.EventStore`.

    What was answered survives the end of any process, a kill -9 too. When the machine loses power or its kernel stops,
    the events of the last second or two may be lost, since a commit does not wait for the disk; the file stays whole.

    `fetch` runs on the event loop itself, without a thread, as `SqliteStore.get_many` does. While another process holds
    the write lock it waits on the loop's clock, so that other work goes on. A file that is deleted or replaced while
    open (with its -wal and -shm files: they belong to it) is noticed within a second.

    An entity with very many events in a slice gets tiles (`data.feature_views.online.tiles`): a thread makes them
    after a read that found too many events, and later reads take them in place of events.

    Args:
        path: the database file.
        use_case: name of the use case; part of the name of its sources in the file.
        sources: the sources of events by name.
        create: create folder, file and tables when they do not exist.
        lock_wait_s: how long a call waits for another writer, in seconds.
        clock: returns the time in microseconds since 1970 UTC, for rows that come without one.
        rules: which entities have tiles, and how large these are; None for those of `TileRules`.
        max_age_us: age past which a thread removes an event, counted from its time, in microseconds; None: none is.
        long_log_bytes: how long the write-ahead log may become before it is moved into the file.

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
        rules: TileRules | None = None,
        max_age_us: int | None = None,
        long_log_bytes: int = LONG_LOG_BYTES,
    ) -> None:
        self._closed = False
        self.tile_work = TileWork()
        self._keeper: LogKeeper | None = None
        self._use_case = use_case
        self._file = EventFile(path, lock_wait_s)
        filed = _filed(use_case, sources)
        self._entities = {name: [entity.name for entity in source.entities] for name, source in sources.items()}
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._reading = FollowedTable(self._file, filed, wait_s=0.0)  # on the event loop
        self._writing = FollowedTable(self._file, filed, lock_wait_s)
        self._rules = rules = rules or TileRules()
        self._folding = FollowedTable(self._file, filed, _FOLD_WAIT_S)  # in the thread that makes tiles
        # Not a method of this store: with a reference back it would not be closed when it is dropped.
        make_tiles = partial(_make_tiles, self._folding, rules, self.tile_work)
        self._folder = TileFolder[Place](make_tiles, (sqlite3.Error,))
        expiring = FollowedTable(self._file, filed, lock_wait_s)  # in the thread that removes old events
        self._expiry = None if max_age_us is None else EventExpiry(expiring, sources, max_age_us, clock)
        self._write_lock = threading.Lock()
        try:
            if create:
                self._file.create()
            self._writing.get()  # First, since it may wait: a source that is new to the file is written to it.
            self._reading.get()
            self._keeper = LogKeeper(self._file, long_log_bytes)
            if self._expiry is not None:
                self._expiry.start()
        except BaseException:
            self.close()
            raise

    @property
    def expired(self) -> int:
        """Events removed for their age; see `EventStore`."""
        return 0 if self._expiry is None else self._expiry.removed

    async def fetch(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> list[RowEvents]:
        """Record and read; see `EventStore`. Rows are taken in order, each sees what those before it recorded.

        A time that the store sets is later than every one that it has set before, in any process, and a row that was
        recorded before keeps the time it had.
        """
        check_storable([own.event for row in rows for own in row.own if own.record])
        places = [(each, self._entities[each.source].index(each.entity)) for each in slices]
        recording = any(own.record for row in rows for own in row.own)
        try:
            if not recording:
                return await self._unlocked(lambda table: self._read_all(table, places, rows), timeout_s)
            table = await self._unlocked(_begin, timeout_s)
            with table.connection:
                return [self._record_and_read(table, places, row) for row in rows]
        except sqlite3.Error as exc:
            self._failed("read", exc)

    def append(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store events; see `EventStore`. Blocks; not on the thread of `fetch`.

        Many events are stored in several transactions, so that a row that is recorded at the same time waits for some
        milliseconds.
        """
        check_storable(events)
        if not events:
            return []
        with self._write_lock:
            try:
                table = self._opened(self._writing)
                outcomes = EventAppend(table, source, events).run()
            except sqlite3.Error as exc:
                self._failed("write", exc)
            # What was written to a file that is gone by now is not stored.
            self._writing.look_again()
            if self._opened(self._writing) is not table:
                raise StoreUnavailable(
                    f"the event store {self._file.path} was replaced while events were written to it"
                )
        return outcomes

    def empty(self) -> None:
        """Remove all events of a scratch store; see `EventStore`. Blocks."""
        require_scratch(self._use_case)
        with self._write_lock:
            try:
                table = self._opened(self._writing)
                with table.transaction():
                    table.empty(f"{self._use_case}.")
            except sqlite3.Error as exc:
                self._failed("empty", exc)

    async def ping(self) -> None:
        """Raise StoreUnavailable or StoreError when the file cannot be read."""
        try:
            self._opened(self._reading).next_us(0)
        except sqlite3.Error as exc:
            self._failed("read", exc)

    def close(self) -> None:
        """Close the connections and end the thread; calling it twice is fine."""
        self._closed = True
        self._folder.stop()
        self._folding.close()
        if self._expiry is not None:
            self._expiry.stop()
        if self._keeper is not None:
            self._keeper.stop()
            self._keeper = None
        self._reading.close()
        self._writing.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("SqliteEvents holds open files and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed event store {self._file.path}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    async def _unlocked(self, call: Callable[[EventTable], _Result], timeout_s: float) -> _Result:
        """Return what a call on the loop's table does; while the file is locked, repeat it on the loop."""
        start = time.monotonic()
        deadline = start + min(timeout_s, self._lock_wait_s)
        while True:
            try:
                return call(self._opened(self._reading))
            except sqlite3.OperationalError as exc:
                if not is_locked(exc) or time.monotonic() >= deadline:
                    raise
            # A row that is recorded holds the lock for some 100 us, which the loop's timers do not resolve.
            await asyncio.sleep(0.0 if time.monotonic() < start + _SPIN_S else _POLL_S)

    def _read_all(self, table: EventTable, places: Sequence[_Place], rows: Sequence[RowQuery]) -> list[RowEvents]:
        table.tiles.look()
        return [self._read(table, places, row, (), row.time_us) for row in rows]

    def _record_and_read(self, table: EventTable, places: Sequence[_Place], row: RowQuery) -> RowEvents:
        recorded = [own for own in row.own if own.record]
        if row.time_us is not None:
            outcomes = tuple(table.put(own.source, own.event)[0] for own in recorded)
            return self._read(table, places, row, outcomes, row.time_us)
        time_us, outcomes = table.give_out(self._clock()), ()
        for own in recorded:
            event = own.event._replace(time_us=time_us, known_us=time_us)
            outcome, time_us = table.put(own.source, event, timed=False)
            outcomes = (*outcomes, outcome)
        return self._read(table, places, row, outcomes, time_us)

    def _read(
        self,
        table: EventTable,
        places: Sequence[_Place],
        row: RowQuery,
        outcomes: tuple[EventOutcome, ...],
        time_us: int | None,
    ) -> RowEvents:
        now_us = table.next_us(self._clock()) if time_us is None else time_us
        found = [
            TiledSlice(NO_EVENTS, [], 1) if key is None else self._read_slice(table, place, key, row, now_us)
            for place, key in zip(places, row.entities, strict=True)
        ]
        tiles = tuple(each.tiles for each in found) if any(each.tiles for each in found) else ()
        return RowEvents(now_us, outcomes, tuple(each.events for each in found), tiles)

    def _read_slice(self, table: EventTable, place: _Place, key: str, row: RowQuery, now_us: int) -> TiledSlice:
        wanted, entity = place
        found = read_slice(table, wanted, entity, key, row, now_us)
        self.tile_work.tiles_read += len(found.tiles)
        if self._rules.wanted(len(found.events), len(found.tiles), found.spans):
            job = tile_job(table, wanted, entity, key, now_us, self._clock() - self._rules.settle_us)
            if job is not None:
                self._folder.offer(job)
        return found

    def _opened(self, table: FollowedTable) -> EventTable:
        if self._closed:
            raise StoreUnavailable(f"the event store {self._file.path} is closed")
        return table.get()

    def _failed(self, action: str, exc: sqlite3.Error) -> NoReturn:
        for table in (self._reading, self._writing):
            table.look_again()
        self._file.fail(action, exc)


_Place = tuple[Slice, int]
_Result = TypeVar("_Result")


def _filed(use_case: str, sources: Mapping[str, EventSource]) -> dict[str, FiledSource]:
    return {
        name: FiledSource(f"{use_case}.{name}@{source.fingerprint}", len(EventCodec(source).names))
        for name, source in sources.items()
    }


def _make_tiles(
    folding: FollowedTable, rules: TileRules, work: TileWork, job: TileJob[Place], pause: Callable[[float], object]
) -> int:
    return TileMaker(folding, rules, work, pause).make(job)


def _begin(table: EventTable) -> EventTable:
    table.begin()
    return table
