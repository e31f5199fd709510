"""Marks: over which spans of time events of a hot entity were written late, so that tiles made before are not read.

A mark is a row for a day's cell of five minutes, or for a whole day, with a version; beside it, written in one batch
of one partition, stands a row for the day. So a reader asks for a row a day, and for the cells of those days alone that
have changed. Each process writes rows of its own: of one row the cluster keeps the version with the later timestamp,
and clocks that disagree could let the older one win. Marks are written over again, and so are bounded by the time that
they cover and the processes that write late events.

The registration of a hot entity is a row among those of the days. Without it no tile is read: it is gone after a
scratch store was emptied, and what a slow maker stores afterwards is of another registration.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType

from data.event_store.tile_spans import Span
from data.online_store.cassandra.writes import longest_ttl

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import PreparedStatement, Statement

TABLE = "entity_event_marks"
CREATE = """CREATE TABLE IF NOT EXISTS {} (
  source text, entity text, entity_key text, level tinyint, day bigint, cell smallint, writer text, version bigint,
  PRIMARY KEY ((source, entity, entity_key), level, day, cell, writer)
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}}"""
_READ = "SELECT level, day, cell, writer, version FROM {} WHERE source = ? AND entity = ? AND entity_key = ?"
_READ_DAYS = f"{_READ} AND level = 0"
_READ_CELLS = f"{_READ} AND level = 1 AND day IN ?"
_WRITE = """INSERT INTO {} (source, entity, entity_key, level, day, cell, writer, version)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?"""
DAY_US = 86_400 * 1_000_000
_CELL_US = 5 * 60 * 1_000_000
_WHOLE_DAY = DAY_US // _CELL_US
_MOST_CELLS = 24  # of a day in one batch; of more the whole day is marked
_DAYS, _CELLS = 0, 1
_REGISTERED = -(2**40)
_Row = tuple[int, int, int, str, int]


class EntityPlace(NamedTuple):
    """An entity, as the tables name it."""

    source: str
    entity: str
    entity_key: str


class Registration(NamedTuple):
    """Since when an entity counts as hot."""

    writer: str
    version: int


class Marks:
    """The marks of an entity at one moment.

    Args:
        rows: what the table has of it: level, day, cell, writer and version of each.
    """

    def __init__(self, rows: Iterable[_Row] = ()) -> None:
        self.registration: Registration | None = None
        """The earliest, where several processes have registered the entity."""
        self.days: dict[int, dict[str, int]] = {}
        """For each day with marks the version of each writer."""
        self.cells: dict[int, dict[tuple[int, str], int]] = {}
        """For each day the version of each cell and writer."""
        for level, day, cell, writer, version in rows:
            if level == _CELLS:
                self.cells.setdefault(day, {})[cell, writer] = version
            elif day != _REGISTERED:
                self.days.setdefault(day, {})[writer] = version
            elif self.registration is None or version < self.registration.version:
                self.registration = Registration(writer, version)

    def digest(self, span: Span) -> bytes:
        """Return what a tile over a span is valid for: this registration, and these very marks over it."""
        said = repr((self.registration, sorted(self._over(span))))
        return hashlib.blake2b(said.encode(), digest_size=8).digest()

    def youngest_us(self, span: Span) -> int:
        """Return the clock of the writer of the latest mark over a span, 0 when there is none."""
        return max((version for *_, version in self._over(span)), default=0)

    def changed(self, day: int, others: Marks) -> list[Span]:
        """Return the spans of a day whose marks are others now."""
        ours, theirs = self.cells.get(day, {}), others.cells.get(day, {})
        return sorted({_span(day, cell) for (cell, _), _ in ours.items() ^ theirs.items()})

    def _over(self, span: Span) -> Iterator[tuple[int, int, str, int]]:
        if self.cells:
            for day in range(span.start_us // DAY_US, (span.end_us - 1) // DAY_US + 1):
                for (cell, writer), version in self.cells.get(day, {}).items():
                    start_us, end_us = _span(day, cell)
                    if start_us < span.end_us and end_us > span.start_us:
                        yield day, cell, writer, version


class MarkRows:
    """Makes the statements that read and write marks.

    Args:
        session: a connected driver session.
        table: the table, with its keyspace.
        keep_us: how long events stay, in microseconds; None for ever. Marks stay longer than tiles.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(self, session: Session, table: str, keep_us: int | None, clock: Callable[[], int]) -> None:
        self._read, self._read_days, self._read_cells, self._write = (
            _prepared(session, text.format(table)) for text in (_READ, _READ_DAYS, _READ_CELLS, _WRITE)
        )
        self._keep_us = keep_us
        self._clock = clock
        self._writer = uuid.uuid4().hex[:16]
        self._version = 0
        self._lock = threading.Lock()

    def read(self, place: EntityPlace) -> Statement:
        """Return the query for all marks of an entity."""
        return self._read.bind(place)

    def read_days(self, place: EntityPlace) -> Statement:
        """Return the query for an entity's registration and the marks of its days."""
        return self._read_days.bind(place)

    def read_cells(self, place: EntityPlace, days: Collection[int]) -> Statement:
        """Return the query for the cells of some days."""
        return self._read_cells.bind((*place, sorted(days)))

    def writes(self, times: Mapping[EntityPlace, Collection[int]]) -> list[Statement]:
        """Return the statements that mark the times of late events, by entity."""
        found = []
        for place, each in times.items():
            cells: dict[int, set[int]] = {}
            for time_us in each:
                cells.setdefault(time_us // DAY_US, set()).add(time_us % DAY_US // _CELL_US)
            found += [self._day(place, day, some) for day, some in cells.items()]
        return found

    def register(self, place: EntityPlace, before: Registration | None) -> Statement:
        """Return the statement that registers an entity, or keeps its registration from expiring."""
        version = self._next()
        writer, registered = before or (self._writer, version)
        return self._write.bind((*place, _DAYS, _REGISTERED, 0, writer, registered, version, self._ttl(self._clock())))

    def _day(self, place: EntityPlace, day: int, cells: Collection[int]) -> Statement:
        # All of a day in one batch of one partition: whoever sees that the day has changed sees which cells.
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.is_idempotent = True
        version, ttl_s = self._next(), self._ttl((day + 1) * DAY_US)
        chosen = cells if len(cells) <= _MOST_CELLS else (_WHOLE_DAY,)
        for level, cell in ((_DAYS, 0), *((_CELLS, cell) for cell in chosen)):
            batch.add(self._write.bind((*place, level, day, cell, self._writer, version, version, ttl_s)))
        return batch

    def _next(self) -> int:
        """Return a version higher than all before. It is the row's timestamp too, so that sent again it is the same."""
        with self._lock:
            self._version = max(self._clock(), self._version + 1)
            return self._version

    def _ttl(self, until_us: int) -> int:
        if self._keep_us is None:
            return 0
        now_us = self._clock()
        # A day longer than any tile that was made before, whose time to live is that of its events.
        return min((max(until_us - now_us, 0) + self._keep_us + DAY_US) // 1_000_000 + 1, longest_ttl(now_us))


def _span(day: int, cell: int) -> Span:
    start_us = day * DAY_US
    return (
        Span(start_us, start_us + DAY_US)
        if cell == _WHOLE_DAY
        else Span(start_us + cell * _CELL_US, start_us + (cell + 1) * _CELL_US)
    )


def _prepared(session: Session, text: str) -> PreparedStatement:
    statement: Any = session.prepare(text)
    statement.is_idempotent = True
    statement.fetch_size = None
    statement.consistency_level = ConsistencyLevel.LOCAL_QUORUM
    return statement
