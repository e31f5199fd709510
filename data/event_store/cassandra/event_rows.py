"""Events as rows of Cassandra: a row for each entity of an event, in partitions of an entity and some days.

The timestamp of a row is since when its content is known, so that of two contents the cluster itself keeps the later
one, whatever the order of arrival, in hints and repairs too. A row without a time of its own, which the store has set,
is known since 0: sent twice it has two rows, and `fold_by_key` takes the earlier.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType

from data.event_store.cassandra.late_marks import EntityPlace
from data.event_store.tile_spans import Span
from data.feature_views.events.event import Event
from data.feature_views.online.online_windows import fold_by_key
from data.feature_views.online.stored_events import NO_EVENTS, StoredEvent, StoredEvents
from data.online_store.cassandra.writes import longest_ttl
from data.schema.events.event_source import EventSource

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement

TABLE = "entity_events"
CREATE = """CREATE TABLE IF NOT EXISTS {} (
  source text, entity text, entity_key text, bucket bigint, time_us bigint, key blob, known_us bigint, payload blob,
  PRIMARY KEY ((source, entity, entity_key, bucket), time_us, key)
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}}
AND compression = {{'class': 'LZ4Compressor', 'chunk_length_in_kb': 16}}
AND speculative_retry = 'MIN(99p,10ms)'"""
_READ = """SELECT time_us, key, known_us, payload FROM {}
WHERE source = ? AND entity = ? AND entity_key = ? AND bucket IN ? AND time_us >= ? AND time_us < ? LIMIT ?"""
_PAGE = """SELECT time_us, key, known_us, payload FROM {}
WHERE source = ? AND entity = ? AND entity_key = ? AND bucket = ? AND (time_us, key) > (?, ?) AND (time_us) < (?)
LIMIT ?"""
_WRITE = """INSERT INTO {} (source, entity, entity_key, bucket, time_us, key, known_us, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"""
_BUCKET_US = 4 * 86_400 * 1_000_000
_BUCKETS_A_QUERY = 16
_ROWS_A_BATCH = 32  # the server warns of batches of more than 5 KiB
SET_BY_STORE_US = 0
"""Stored as `known_us` of an event whose time the store has set."""


class EventRows:
    """Makes the statements that write and read events of a use case, and events of what is read.

    Args:
        session: a connected driver session.
        table: the table, with its keyspace.
        use_case: name of the use case; part of the name of its sources in the table.
        sources: the sources of events by name.
        keep_us: how long a row stays, in microseconds, counted from the later of its time and its writing; None for
            ever.
    """

    def __init__(
        self, session: Session, table: str, use_case: str, sources: Mapping[str, EventSource], keep_us: int | None
    ) -> None:
        statements: list[Any] = [session.prepare(text.format(table)) for text in (_READ, _PAGE, _WRITE)]
        self._read, self._page, self._write = statements
        for statement in statements:
            statement.is_idempotent = True
            statement.fetch_size = None  # no paging: a second page would be a second round trip
            # What was written at the consistency of writes is seen by every later read, whichever replica answers.
            statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        self.names = {name: f"{use_case}.{name}@{source.fingerprint}" for name, source in sources.items()}
        self.entities = {name: [entity.name for entity in source.entities] for name, source in sources.items()}
        self._keep_us = keep_us

    def place(self, source: str, entity: str, entity_key: str) -> EntityPlace:
        """Return an entity as the tables name it."""
        return EntityPlace(self.names[source], entity, entity_key)

    def parts(self, span: Span) -> list[Sequence[int]]:
        """Return the partitions of a span, as many together as a query may ask for."""
        buckets = self.buckets(span)
        return [buckets[at : at + _BUCKETS_A_QUERY] for at in range(0, len(buckets), _BUCKETS_A_QUERY)]

    def read(self, place: EntityPlace, buckets: Sequence[int], span: Span, limit: int) -> Statement:
        """Return the query for at most `limit` events of some partitions of an entity in a span."""
        return self._read.bind((*place, [*buckets], *span, limit))

    def buckets(self, span: Span) -> range:
        """Return the partitions of an entity that have the events of a span, in the order of time."""
        return range(span.start_us // _BUCKET_US, (span.end_us - 1) // _BUCKET_US + 1)

    def page(self, place: EntityPlace, bucket: int, after: tuple[int, bytes], end_us: int, limit: int) -> Statement:
        """Return the query for the first events of a partition after a time and key, up to a time, in their order."""
        return self._page.bind((*place, bucket, *after, end_us, limit))

    def ping(self) -> list[Statement]:
        """Return a query that any table of events answers."""
        return [self._read.bind(("ping", "", "", [0], 0, 0, 1))]

    def writes(self, source: str, event: Event) -> list[Statement]:
        """Return the statements that store one event."""
        return [self._write.bind(row.values) for row in self._rows(source, (event,))]

    def batches(self, source: str, events: Sequence[Event]) -> Iterator[Statement]:
        """Yield the statements that store many events: those of one partition together."""
        rows = sorted(self._rows(source, events), key=itemgetter(0))
        for _, together in groupby(rows, key=itemgetter(0)):
            same = list(together)
            for start in range(0, len(same), _ROWS_A_BATCH):
                part = same[start : start + _ROWS_A_BATCH]
                if len(part) == 1:  # in the order of time few entities have two of them together
                    yield self._write.bind(part[0].values)
                    continue
                batch = BatchStatement(BatchType.UNLOGGED)
                batch.is_idempotent = True
                for row in part:
                    batch.add(self._write.bind(row.values))
                yield batch

    def _rows(self, source: str, events: Iterable[Event]) -> Iterator[_Row]:
        name, entities, now_us = self.names[source], self.entities[source], time.time_ns() // 1000
        for event in events:
            bucket, ttl_s = event.time_us // _BUCKET_US, self._ttl(event.time_us, now_us)
            stamp = event.time_us if event.known_us == SET_BY_STORE_US else event.known_us
            cells = (event.time_us, event.key, event.known_us, event.payload, stamp, ttl_s)
            for entity, entity_key in zip(entities, event.entities, strict=True):
                if entity_key is not None:
                    partition = (name, entity, entity_key, bucket)
                    yield _Row(partition, (*partition, *cells))

    def _ttl(self, time_us: int, now_us: int) -> int:
        """Return the time to live in seconds, 0 for ever."""
        if self._keep_us is None:
            return 0
        return min((max(time_us - now_us, 0) + self._keep_us) // 1_000_000 + 1, longest_ttl(now_us))


class _Row(NamedTuple):
    partition: tuple[str, str, str, int]
    values: tuple[Any, ...]


def events_of(answers: Iterable[Iterable[tuple[int, bytes, int, bytes]]]) -> StoredEvents:
    """Return the events that queries found, ascending in time and key, each key once."""
    rows = sorted(row for rows in answers for row in rows)
    if not rows:
        return NO_EVENTS
    if len({row[1] for row in rows}) < len(rows):
        rows = fold_by_key(StoredEvent(*row) for row in rows)
    times, keys, known, payloads = zip(*rows, strict=True)
    # That of an event whose time the store has set is its time; the others' is never before it.
    return StoredEvents(times, keys, tuple(map(max, known, times)), payloads)
