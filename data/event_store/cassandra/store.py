"""The event store in Cassandra 5: for many machines, and for events that must outlive one of them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import Statement

from data.errors import StoreUnavailable
from data.event_store import EventOutcome, RowEvents, RowQuery, TileWork, check_storable, is_storable
from data.event_store.cassandra.event_rows import CREATE, SET_BY_STORE_US, TABLE, EventRows, events_of
from data.event_store.cassandra.query_answers import QueryAnswers
from data.feature_views.event import Event
from data.feature_views.online_windows import Slice
from data.feature_views.stored_events import StoredEvents
from data.online_store.cassandra.async_bridge import InFlight
from data.online_store.cassandra.driver import (
    DRIVER_ERRORS,
    READ_PROFILE,
    check_datacenter,
    make_cluster,
    place,
    translated,
    wait_connected,
)
from data.online_store.cassandra.tables import check_table, make_table, truncate
from data.online_store.cassandra.writes import send_all
from data.schema.event_source import EventSource
from data.schema.scratch_name import require_scratch, scratch_table
from data.settings import Settings

_UNDER_WAY = 2048
_WRITE_TIMEOUT_S = 2.0


class CassandraEvents:
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

    Raises:
        StoreUnavailable: no contact point answers, or keyspace or table is missing; the message says what.
        StoreError: the cluster refused, e.g. the credentials.
        ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
    """

    def __init__(
        self,
        settings: Settings,
        use_case: str,
        sources: Mapping[str, EventSource],
        keep_us: int | None = None,
        *,
        create: bool = False,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._closed = True
        self.tile_work = TileWork()
        self.expired = 0
        self._use_case = use_case
        self._where = place(settings)
        self._clock = clock
        self._latest_us = 0
        self._timeout_s = settings.cassandra_read_timeout_ms / 1000
        self._under_way = InFlight(_UNDER_WAY)
        self._cluster = make_cluster(settings)
        try:
            self._session: Session = self._cluster.connect()
            wait_connected(self._cluster, self._session, settings.cassandra_datacenter)
            table = scratch_table(TABLE, use_case)
            self._table = f"{settings.cassandra_keyspace}.{table}"
            if create:
                make_table(self._cluster, self._session, settings, CREATE.format(self._table))
            check_table(self._cluster, settings, table, "opened for writing, it is made")
            self._rows = EventRows(self._session, self._table, use_case, sources, keep_us)
        except BaseException as exc:
            self._cluster.shutdown()
            if isinstance(exc, DRIVER_ERRORS):
                check_datacenter(self._cluster, settings)
                raise translated("open", self._where, exc) from exc
            raise
        self._closed = False

    async def fetch(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> list[RowEvents]:
        """Record, then read; see `EventStore`. Each row sees what was recorded with it and is not later than it."""
        self._check_open()
        check_storable([own.event for row in rows for own in row.own if own.record])
        placed = [row if row.time_us is not None else row._replace(time_us=self._next_us()) for row in rows]
        deadline = time.monotonic() + timeout_s
        try:
            await self._record(rows, placed, min(timeout_s, _WRITE_TIMEOUT_S))
            found = await self._read(slices, placed, deadline - time.monotonic())
            before = [_recorded_before(row, timed, each) for row, timed, each in zip(rows, placed, found, strict=True)]
            again = [at for at, time_us in enumerate(before) if time_us is not None]
            moved = [placed[at]._replace(time_us=before[at]) for at in again]
            for at, row, each in zip(
                again, moved, await self._read(slices, moved, deadline - time.monotonic()), strict=True
            ):
                placed[at], found[at] = row, each
        except DRIVER_ERRORS as exc:
            raise translated("read", self._where, exc) from exc
        return [
            RowEvents(row.time_us or 0, _outcomes(row, repeated=at in again), tuple(each))
            for at, (row, each) in enumerate(zip(placed, found, strict=True))
        ]

    def append(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store events at LOCAL_QUORUM; see `EventStore`. Blocks. Failed writes are repeated, with fewer at once."""
        self._check_open()
        check_storable(events)
        send_all(self._session, self._where, list(self._rows.batches(source, events)), lambda _: None)
        return [EventOutcome.TAKEN] * len(events)

    def empty(self) -> None:
        """Remove all events of a scratch store, which has a table of its own; see `EventStore`. Blocks."""
        self._check_open()
        require_scratch(self._use_case)
        truncate(self._session, self._where, self._table)

    async def ping(self) -> None:
        """Raise StoreUnavailable when no replica answers a read."""
        self._check_open()
        try:
            await self._ask(self._rows.ping(), self._timeout_s)
        except DRIVER_ERRORS as exc:
            raise translated("read", self._where, exc) from exc

    def close(self) -> None:
        """Close every connection and end the driver's threads; calling it twice is fine."""
        if not self._closed:
            self._closed = True
            self._cluster.shutdown()

    def __reduce__(self) -> NoReturn:
        raise TypeError("CassandraEvents holds open connections and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed event store {self._where}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the event store {self._where} is closed")

    def _next_us(self) -> int:
        self._latest_us = max(self._clock(), self._latest_us + 1)
        return self._latest_us

    async def _record(self, rows: Sequence[RowQuery], placed: Sequence[RowQuery], timeout_s: float) -> None:
        statements: list[Statement] = []
        for row, timed in zip(rows, placed, strict=True):
            for own in row.own:
                if own.record:
                    event = own.event
                    if row.time_us is None:
                        event = event._replace(time_us=timed.time_us or 0, known_us=SET_BY_STORE_US)
                    statements += self._rows.writes(own.source, event)
        await QueryAnswers(self._session, self._under_way, EXEC_PROFILE_DEFAULT).gather(statements, timeout_s)

    async def _read(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float
    ) -> list[list[StoredEvents]]:
        """Return for each row, for each slice, the events up to the row's time."""
        queries = [
            [] if key is None or not is_storable(key) else self._rows.reads(wanted, key, row.time_us or 0)
            for row in rows
            for wanted, key in zip(slices, row.entities, strict=True)
        ]
        answers = iter(await self._ask([each for some in queries for each in some], min(timeout_s, self._timeout_s)))
        found = [events_of([next(answers) for _ in some]) for some in queries]
        return [found[at * len(slices) : (at + 1) * len(slices)] for at in range(len(rows))]

    async def _ask(self, statements: Sequence[Statement], timeout_s: float) -> list[Iterable[Any]]:
        return await QueryAnswers(self._session, self._under_way, READ_PROFILE).gather(statements, timeout_s)


def _recorded_before(row: RowQuery, timed: RowQuery, found: Sequence[StoredEvents]) -> int | None:
    """Return the time at which a row that comes without one was recorded before, None when it was not."""
    if row.time_us is not None:
        return None
    keys = {own.event.key for own in row.own if own.record}
    times = {event.time_us for events in found for event in events if event.key in keys} if keys else set()
    return min(times - {timed.time_us}, default=None)


def _outcomes(row: RowQuery, *, repeated: bool) -> tuple[EventOutcome, ...]:
    outcome = EventOutcome.REPEATED if repeated else EventOutcome.TAKEN
    return tuple(outcome for own in row.own if own.record)
