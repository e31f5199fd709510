"""The event store in Cassandra 5: for many machines, and for events that must outlive one of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import Statement

from data.event_store import EventOutcome, RowEvents, RowQuery, TileWork, check_storable
from data.event_store.cassandra.event_rows import SET_BY_STORE_US
from data.event_store.cassandra.event_tables import TABLES, event_tables
from data.event_store.cassandra.hot_entities import HotEntities
from data.event_store.cassandra.late_writes import SETTLE_US, LateWrites, Steps, next_step, send_steps
from data.event_store.cassandra.query_answers import QueryAnswers
from data.event_store.cassandra.shelf_maker import ShelfMaker
from data.event_store.cassandra.slice_reader import SliceRead, SliceReader, Tiling
from data.event_store.cassandra.tile_rows import HotPlace
from data.event_store.tile_folder import TileFolder
from data.event_store.tile_making import TileRules
from data.feature_views.events.event import Event
from data.feature_views.online.online_windows import Slice
from data.feature_views.online.stored_events import NO_EVENTS
from data.online_store.cassandra.async_bridge import InFlight
from data.online_store.cassandra.connected_store import ConnectedStore
from data.online_store.cassandra.driver import DRIVER_ERRORS, READ_PROFILE, translated
from data.online_store.cassandra.tables import truncate
from data.online_store.cassandra.writes import send_all
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import require_scratch, scratch_table
from data.settings import Settings

_UNDER_WAY = 2048
_WRITE_TIMEOUT_S = 2.0


class CassandraEvents(ConnectedStore):
    """The events of one use case in a Cassandra cluster; implements `data.event_store.EventStore`.

    Events are written without a look at what is there, so an event is said to be TAKEN also when it is a repeat or a
    revision; which content counts is settled when it is read. Of two contents known since the same moment the cluster
    keeps one, the same for every reader.

    What was answered is in the memory and on its way to the commit log of most replicas. It survives the end of any
    client, and of any node while most replicas of its data go on. A node syncs its commit log every 10 s by default:
    when most replicas lose power together, what they took in that time may be lost.

    Times that the store sets are later than those that this process has set before. Those of different machines follow
    their clocks, which have to agree to less than the time between two requests for an entity.

    Args:
        settings: the `cassandra_*` fields.
        use_case: name of the use case; part of the name of its sources in the table.
        sources: the sources of events by name.
        keep_us: how long an event stays, in microseconds, counted from its time, or from when it is stored if that is
            later; None for ever.
        create: create keyspace and table when they do not exist.
        clock: returns the time in microseconds since 1970 UTC, for rows that come without one.
        rules: which entities have tiles, and how large these are; None for those of `TileRules`, but that an event is
            in none for a minute.

    Raises:
        StoreUnavailable: no contact point answers, or keyspace or table is missing; the message says what.
        StoreError: the cluster refused, e.g. the credentials.
        ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
    """

    KIND = "event store"

    def __init__(
        self,
        settings: Settings,
        use_case: str,
        sources: Mapping[str, EventSource],
        keep_us: int | None = None,
        *,
        create: bool = False,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        rules: TileRules | None = None,
    ) -> None:
        rules = rules or TileRules(settle_us=SETTLE_US)
        self.tile_work = TileWork()
        self.expired = 0
        self._use_case = use_case
        self._clock = clock
        self._latest_us = 0
        self._timeout_s = settings.cassandra_read_timeout_ms / 1000
        self._under_way = InFlight(_UNDER_WAY)
        with self._opening(settings):
            self._names = self._open_tables(settings, create=create)
            self._tables = event_tables(self._session, self._names, use_case, sources, keep_us, clock)
            events, hot, marks, _ = self._tables
            self._late = LateWrites(hot, marks, events.names, events.entities, clock)
            entities = HotEntities()
            maker = ShelfMaker(self._session, self._tables, entities, rules, self.tile_work, clock)
            self._folder = TileFolder[HotPlace](maker.make, DRIVER_ERRORS)
            tiling = Tiling(entities, maker, self._folder, rules, self.tile_work, clock)
            # Not a method of this store: with a reference back it would not be closed when it is dropped.
            self._ask = partial(_ask, self._session, self._under_way)
            self._reader = SliceReader(events, marks, tiling, self._ask, self._timeout_s)

    async def fetch(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> list[RowEvents]:
        """Record, then read; see `EventStore`. Each row sees what was recorded with it and is not later than it."""
        self._check_open()
        check_storable([own.event for row in rows for own in row.own if own.record])
        placed = [row if row.time_us is not None else row._replace(time_us=self._next_us()) for row in rows]
        deadline = time.monotonic() + timeout_s
        try:
            await self._record(rows, placed, min(deadline, time.monotonic() + _WRITE_TIMEOUT_S))
            found = await self._reader.read(slices, placed, deadline)
            before = [_recorded_before(row, timed, each) for row, timed, each in zip(rows, placed, found, strict=True)]
            again = [at for at, time_us in enumerate(before) if time_us is not None]
            moved = [placed[at]._replace(time_us=before[at]) for at in again]
            for at, row, each in zip(again, moved, await self._reader.read(slices, moved, deadline), strict=True):
                placed[at], found[at] = row, each
        except DRIVER_ERRORS as exc:
            raise translated("read", self._where, exc) from exc
        return [
            _row_events(row, found=each, repeated=at in again)
            for at, (row, each) in enumerate(zip(placed, found, strict=True))
        ]

    def append(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store events at LOCAL_QUORUM; see `EventStore`. Blocks. Failed writes are repeated, with fewer at once."""
        self._check_open()
        check_storable(events)
        statements = list(self._tables.events.batches(source, events))
        self._send(self._late.steps([(source, event) for event in events], statements))
        return [EventOutcome.TAKEN] * len(events)

    def empty(self) -> None:
        """Remove all events of a scratch store, which has a table of its own; see `EventStore`. Blocks."""
        self._check_open()
        require_scratch(self._use_case)
        for table in self._names:
            truncate(self._session, self._where, table)

    async def ping(self) -> None:
        """Raise StoreUnavailable when no replica answers a read."""
        self._check_open()
        try:
            await self._ask(self._tables.events.ping(), self._timeout_s)
        except DRIVER_ERRORS as exc:
            raise translated("read", self._where, exc) from exc

    def close(self) -> None:
        """Stop making tiles, and close every connection; calling it twice is fine."""
        self._folder.stop()
        super().close()

    def _open_tables(self, settings: Settings, *, create: bool) -> list[str]:
        names = [scratch_table(each.TABLE, self._use_case) for each in TABLES]
        return [
            self._open_table(settings, name, each.CREATE, "opened for writing, it is made", create=create)
            for name, each in zip(names, TABLES, strict=True)
        ]

    def _next_us(self) -> int:
        self._latest_us = max(self._clock(), self._latest_us + 1)
        return self._latest_us

    async def _record(self, rows: Sequence[RowQuery], placed: Sequence[RowQuery], deadline: float) -> None:
        events: list[tuple[str, Event]] = []
        statements: list[Statement] = []
        for row, timed in zip(rows, placed, strict=True):
            for own in row.own:
                if own.record:
                    event = own.event
                    if row.time_us is None:
                        event = event._replace(time_us=timed.time_us or 0, known_us=SET_BY_STORE_US)
                    events.append((own.source, event))
                    statements += self._tables.events.writes(own.source, event)
        if events:
            await send_steps(self._late.steps(events, statements), self._write, deadline)

    def _send(self, steps: Steps) -> None:
        found: list[Any] | None = None
        while (step := next_step(steps, found)) is not None:
            found = []
            send_all(self._session, self._where, [*step], found.extend)

    async def _write(self, statements: Sequence[Statement], timeout_s: float) -> list[Any]:
        return await QueryAnswers(self._session, self._under_way, EXEC_PROFILE_DEFAULT).gather(statements, timeout_s)


async def _ask(
    session: Session, under_way: InFlight, statements: Sequence[Statement], timeout_s: float
) -> list[Sequence[Any]]:
    return await QueryAnswers(session, under_way, READ_PROFILE).gather(statements, timeout_s)


def _row_events(row: RowQuery, found: Sequence[SliceRead | None], *, repeated: bool) -> RowEvents:
    tiles = tuple([] if each is None else each.tiles for each in found)
    return RowEvents(
        row.time_us or 0,
        _outcomes(row, repeated=repeated),
        tuple(NO_EVENTS if each is None else each.events for each in found),
        tiles if any(tiles) else (),
    )


def _recorded_before(row: RowQuery, timed: RowQuery, found: Sequence[SliceRead | None]) -> int | None:
    """Return the time at which a row that comes without one was recorded before, None when it was not."""
    if row.time_us is not None:
        return None
    keys = {own.event.key for own in row.own if own.record}
    read = [each.events for each in found if each is not None] if keys else []
    times = {time_us for each in read for time_us, key in zip(each.times, each.keys, strict=True) if key in keys}
    return min(times - {timed.time_us}, default=None)


def _outcomes(row: RowQuery, *, repeated: bool) -> tuple[EventOutcome, ...]:
    outcome = EventOutcome.REPEATED if repeated else EventOutcome.TAKEN
    return tuple(outcome for own in row.own if own.record)
