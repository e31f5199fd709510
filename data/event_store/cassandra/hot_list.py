"""The list of hot entities, which writers look at: events of others, nearly all, need no marks.

Whoever makes tiles of an entity puts it on the list first, and then waits for GRACE_S before it reads events. A writer
of late events knows the list as it was at most GRACE_S before its write was answered, or looks again: so either its
event was there when the maker read, or it marks it. Both measure that time on clocks of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cassandra import ConsistencyLevel

from data.event_store.cassandra.late_marks import DAY_US, EntityPlace
from data.online_store.cassandra.writes import longest_ttl

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement

TABLE = "hot_entities"
CREATE = """CREATE TABLE IF NOT EXISTS {} (
  source text, registered_us bigint, entity text, entity_key text,
  PRIMARY KEY (source, registered_us, entity, entity_key)
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}}"""
_READ = "SELECT entity, entity_key FROM {} WHERE source = ? AND registered_us > ?"
_WRITE = "INSERT INTO {} (source, registered_us, entity, entity_key) VALUES (?, ?, ?, ?) USING TTL ?"
GRACE_S = 5.0
_CLOCKS_US = 60 * 1_000_000  # clocks may disagree by half of it
_BEGINNING = -(2**62)


class HotList:
    """What this process knows of the list; entities are never taken off. Thread-safe.

    Args:
        session: a connected driver session.
        table: the table, with its keyspace.
        keep_us: how long events stay, in microseconds; None for ever. An entry stays longer than any tile.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(self, session: Session, table: str, keep_us: int | None, clock: Callable[[], int]) -> None:
        self._read: Any = session.prepare(_READ.format(table))
        self._write: Any = session.prepare(_WRITE.format(table))
        for statement in (self._read, self._write):
            statement.is_idempotent = True
            statement.fetch_size = None
            statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
        self._keep_us = keep_us
        self._clock = clock
        self._entities: set[EntityPlace] = set()
        self._from_us: dict[str, int] = {}
        self._read_at: dict[str, float] = {}

    def __contains__(self, place: EntityPlace) -> bool:
        return place in self._entities

    def age_s(self, source: str) -> float:
        """Return how long ago the list of a source was read, in seconds."""
        return time.monotonic() - self._read_at.get(source, float("-inf"))

    def read(self, source: str) -> Statement:
        """Return the query for what is new on the list of a source."""
        return self._read.bind((source, self._from_us.get(source, _BEGINNING)))

    def take(self, source: str, rows: Iterable[tuple[str, str]], asked_at: float, asked_us: int) -> None:
        """Take in what the query of `read` found.

        Args:
            source: the source.
            rows: entity and key of each.
            asked_at: when it was asked, on the monotonic clock, in seconds.
            asked_us: the same on the clock of the store.
        """
        self._entities.update(EntityPlace(source, *row) for row in rows)
        self._from_us[source] = asked_us - _CLOCKS_US
        self._read_at[source] = max(asked_at, self._read_at.get(source, asked_at))

    def add(self, place: EntityPlace) -> Statement:
        """Return the statement that puts an entity on the list, or keeps it there."""
        now_us = self._clock()
        ttl_s = 0 if self._keep_us is None else min((self._keep_us + 2 * DAY_US) // 1_000_000, longest_ttl(now_us))
        return self._write.bind((place.source, now_us, place.entity, place.entity_key, ttl_s))
