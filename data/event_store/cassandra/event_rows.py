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

from data.feature_views.event import Event
from data.feature_views.online_windows import Slice, fold_by_key
from data.feature_views.stored_events import StoredEvent, StoredEvents
from data.online_store.cassandra.writes import longest_ttl
from data.schema.event_source import EventSource

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
WHERE source = ? AND entity = ? AND entity_key = ? AND bucket IN ? AND time_us > ? AND time_us <= ?"""
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
        self._read = session.prepare(_READ.format(table))
        self._write = session.prepare(_WRITE.format(table))
        for statement in (self._read, self._write):
            statement.is_idempotent = True
            statement.fetch_size = None  # no paging: a second page would be a second round trip
        # What was written at the consistency of writes is seen by every later read, whichever replica answers.
        self._read.consistency_level = ConsistencyLevel.LOCAL_QUORUM  # pyright: ignore[reportAttributeAccessIssue]
        self._names = {name: f"{use_case}.{name}@{source.fingerprint}" for name, source in sources.items()}
        self._entities = {name: [entity.name for entity in source.entities] for name, source in sources.items()}
        self._keep_us = keep_us

    def reads(self, wanted: Slice, entity_key: str, until_us: int) -> list[Statement]:
        """Return the queries for the events of one entity up to a time."""
        after_us = until_us - wanted.reach_us
        buckets = list(range((after_us + 1) // _BUCKET_US, until_us // _BUCKET_US + 1))
        place = (self._names[wanted.source], wanted.entity, entity_key)
        parts = (buckets[at : at + _BUCKETS_A_QUERY] for at in range(0, len(buckets), _BUCKETS_A_QUERY))
        return [self._read.bind((*place, part, after_us, until_us)) for part in parts]

    def ping(self) -> list[Statement]:
        """Return a query that any table of events answers."""
        return [self._read.bind(("ping", "", "", [0], 0, 0))]

    def writes(self, source: str, event: Event) -> list[Statement]:
        """Return the statements that store one event."""
        return [self._write.bind(row.values) for row in self._rows(source, (event,))]

    def batches(self, source: str, events: Sequence[Event]) -> Iterator[Statement]:
        """Yield the statements that store many events: those of one partition together."""
        rows = sorted(self._rows(source, events), key=itemgetter(0))
        for _, together in groupby(rows, key=itemgetter(0)):
            same = list(together)
            for start in range(0, len(same), _ROWS_A_BATCH):
                batch = BatchStatement(BatchType.UNLOGGED)
                batch.is_idempotent = True
                for row in same[start : start + _ROWS_A_BATCH]:
                    batch.add(self._write.bind(row.values))
                yield batch

    def _rows(self, source: str, events: Iterable[Event]) -> Iterator[_Row]:
        name, entities, now_us = self._names[source], self._entities[source], time.time_ns() // 1000
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
    found = fold_by_key(StoredEvent(*row) for rows in answers for row in rows)
    # That of an event whose time the store has set is its time; the others' is never before it.
    return StoredEvents.of([each if each[2] >= each[0] else each._replace(known_us=each[0]) for each in found])
