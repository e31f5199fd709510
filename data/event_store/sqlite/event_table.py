"""The tables of a SQLite event store: an event once by its key, and once for each of its entities in the order of time.

Reading a window touches the second alone, whose rows lie one after the other; the first tells what is there already.
In the second an event is one packed column, so that SQLite hands over a whole slice as one value, and one call unpacks
it: a hundred rows of four columns, one by one, cost several times as much.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import msgpack

from data.errors import DamagedRow
from data.event_store import EventOutcome
from data.event_store.sqlite.tile_table import Place, Span, TileTable
from data.feature_views.events.event import Event
from data.feature_views.online.stored_events import NO_EVENTS, EventPacker, StoredEvents

_SLICE = """FROM entity_events
WHERE source = ? AND entity = ? AND entity_key = ? AND time_us > ? AND time_us <= ?"""
_READ = f"SELECT count(*), CAST(group_concat(packed, '') AS BLOB) {_SLICE}"
_READ_ROWS = f"SELECT packed {_SLICE}"
_NTH = """SELECT time_us FROM entity_events
WHERE source = ? AND entity = ? AND entity_key = ? AND time_us >= ? AND time_us < ? ORDER BY time_us, key
LIMIT 1 OFFSET ?"""
_FIND = "SELECT time_us, known_us, entities, payload FROM events WHERE source = ? AND key = ?"
_TAKE = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?)"
_PUT = "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)"
# `met` is a function of ours, called where the key is there already: it notes the place of the event, and is false.
_ADD = """INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (source, key) DO UPDATE SET key = excluded.key WHERE met(?7)"""
_PUT_ENTITY = "INSERT OR REPLACE INTO entity_events VALUES (?, ?, ?, ?, ?, ?)"
_ADD_ENTITY = "INSERT OR IGNORE INTO entity_events VALUES (?, ?, ?, ?, ?, ?)"
_DROP_ENTITY = """DELETE FROM entity_events
WHERE source = ? AND entity = ? AND entity_key = ? AND time_us = ? AND key = ?"""
_AGES = "SELECT key, time_us < ? FROM events WHERE source = ? AND key > ? ORDER BY key LIMIT ?"
_DROP = "DELETE FROM events WHERE source = ? AND key = ?"
_TIME_OF = "SELECT time_us FROM events WHERE source = ? AND key = ?"
_EMPTY = "DELETE FROM {} WHERE source IN (SELECT number FROM event_sources WHERE substr(name, 1, ?) = ?)"
_REMOVED = "UPDATE event_removals SET removals = removals + 1"
_AHEAD_US = 5 * 60 * 1_000_000
_NEXT = f"max(?1, CASE WHEN latest_us <= ?1 + {_AHEAD_US} THEN latest_us + 1 ELSE ?1 END)"
_NEXT_US = f"SELECT {_NEXT} FROM event_clock"
_GIVE_OUT = f"UPDATE event_clock SET latest_us = {_NEXT} RETURNING latest_us"

_JOINED = bytes(range(7))
_JOINS = "SELECT CAST(group_concat(part, '') AS BLOB) FROM (SELECT ? AS part UNION ALL SELECT ?)"


class FiledSource(NamedTuple):
    """A source of events as a file has it."""

    name: str
    """What it is called there."""
    width: int
    """Number of values of an event (`EventCodec.names`)."""


class EventTable:
    """The events in the tables of one connection. Whoever calls it has the transaction.

    Args:
        connection: an open connection.
        sources: the sources by name; one that the file does not have is added.
    """

    def __init__(self, connection: sqlite3.Connection, sources: Mapping[str, FiledSource]) -> None:
        self.connection = connection
        self._numbers = {source: self._number(filed.name) for source, filed in sources.items()}
        self._packers = {self._numbers[source]: EventPacker(filed.width) for source, filed in sources.items()}
        self._met: list[int] = []
        self._pack = msgpack.Packer().pack  # `msgpack.packb` makes one for every call
        connection.create_function("met", 1, self._met.append)
        # Older ones end what they join at its first zero byte.
        self._joins = connection.execute(_JOINS, (_JOINED[:4], _JOINED[4:])).fetchone()[0] == _JOINED
        self.tiles = TileTable(connection)

    def begin(self) -> None:
        """Begin a transaction that may write: a deferred one would find out at its first write that it may not."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            self.tiles.look()
        except BaseException:
            self.connection.rollback()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin a transaction that may write, and commit it; an exception rolls it back."""
        with self.connection:
            self.begin()
            yield

    def read(self, source: str, entity: int, key: str, after_us: int, until_us: int) -> StoredEvents:
        """Return the events of an entity in (after_us, until_us]."""
        try:
            return self._read(self._numbers[source], entity, key, after_us, until_us)
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no such key can be stored
            return NO_EVENTS

    def place(self, source: str, entity: int, key: str, made_by: str) -> Place:
        """Return the place of an entity's tiles."""
        return Place(self._numbers[source], entity, key, made_by)

    def read_span(self, place: Place, span: Span) -> StoredEvents:
        """Return the events of an entity in a span of time."""
        return self._read(*place[:3], span.start_us - 1, span.end_us - 1)

    def nth_us(self, place: Place, span: Span, number: int) -> int | None:
        """Return the time of an entity's n-th event in a span, None when it has fewer."""
        found = self.connection.execute(_NTH, (*place[:3], *span, number - 1)).fetchone()
        return None if found is None else found[0]

    def time_of(self, source: str, key: bytes) -> int | None:
        """Return the time of an event, None when there is none of this key."""
        found = self.connection.execute(_TIME_OF, (self._numbers[source], key)).fetchone()
        return None if found is None else found[0]

    def removals(self) -> int:
        """Return a number that changes when an event is revised or removed, by whichever process."""
        return self.connection.execute("SELECT removals FROM event_removals").fetchone()[0]

    def key_rows(self, source: str, events: Sequence[tuple[int, Event]]) -> list[tuple[Any, ...]]:
        """Return the rows of events, each with its place, for `add_keys`."""
        number, pack = self._numbers[source], self._pack
        return [
            (number, key, time_us, known_us, pack(entities), payload, at)
            for at, (key, time_us, known_us, entities, payload) in events
        ]

    def add_keys(self, rows: Sequence[tuple[Any, ...]]) -> list[int]:
        """Store the events whose key is not there, without their rows of entities; return the places of the others."""
        self._met.clear()
        self.connection.executemany(_ADD, rows)
        return self._met.copy()

    def holds(self, source: str, event: Event) -> bool:
        """Return whether an event is there as it is."""
        found = self.connection.execute(_FIND, (self._numbers[source], event.key)).fetchone()
        return found == (event.time_us, event.known_us, self._pack(event.entities), event.payload)

    def entity_rows(self, source: str, events: Sequence[Event]) -> list[tuple[Any, ...]]:
        """Return the rows that events have for each of their entities, in the order of their table but for time."""
        return self._entity_rows(self._numbers[source], events)

    def has_event(self, row: tuple[Any, ...]) -> bool:
        """Return whether the event of one of the rows of `entity_rows` is there as it is."""
        number, at, entity_key, _, key, packed = row
        found = self.connection.execute(_FIND, (number, key)).fetchone()
        if found is None:
            return False
        time_us, known_us, entities, payload = found
        same = self._packers[number].pack(time_us, key, known_us, payload) == packed
        return same and msgpack.unpackb(entities)[at] == entity_key

    def add_entity_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Store rows of events that are there, unless they are, too."""
        before = self.connection.total_changes
        self.connection.executemany(_ADD_ENTITY, rows)
        if self.connection.total_changes != before:
            self.tiles.unfold(rows)

    def put(self, source: str, event: Event, *, timed: bool = True) -> tuple[EventOutcome, int]:
        """Store one event; return what became of it and the time under which the table has its key.

        Args:
            source: its source.
            event: the event.
            timed: False when the store has set its time: then another time is no other content.
        """
        number, packed = self._numbers[source], self._pack(event.entities)
        row = (number, event.key, event.time_us, event.known_us, packed, event.payload)
        found = None
        if not self.connection.execute(_TAKE, row).rowcount:
            found = self.connection.execute(_FIND, (number, event.key)).fetchone()
            time_us, known_us, entities, payload = found
            same = payload == event.payload and entities == packed
            if same and ((time_us, known_us) == (event.time_us, event.known_us) or not timed):
                # A process that was killed may have stored its key alone.
                self.add_entity_rows(self._entity_rows(number, (event._replace(time_us=time_us, known_us=known_us),)))
                return EventOutcome.REPEATED, time_us
            if event.known_us <= known_us:
                older = event.known_us < known_us
                return EventOutcome.SUPERSEDED if older else EventOutcome.CONFLICT, time_us
            self._drop_entities(number, event.key, time_us, entities)
            self.connection.execute(_PUT, row)
        entity_rows = self._entity_rows(number, (event,))
        self.connection.executemany(_PUT_ENTITY, entity_rows)
        self.tiles.unfold(entity_rows)
        return EventOutcome.TAKEN if found is None else EventOutcome.REVISED, event.time_us

    def ages(self, source: str, before_us: int, after: bytes, limit: int) -> list[tuple[bytes, bool]]:
        """Return the next keys after one, in order, each with whether its event is before a time."""
        return self.connection.execute(_AGES, (before_us, self._numbers[source], after, limit)).fetchall()

    def drop(self, source: str, keys: Sequence[bytes], before_us: int) -> int:
        """Remove those events of some keys that are before a time; return how many."""
        number, dropped = self._numbers[source], 0
        for key in keys:
            found = self.connection.execute(_FIND, (number, key)).fetchone()
            if found is not None and found[0] < before_us:
                self._drop_entities(number, key, found[0], found[2])
                self.connection.execute(_DROP, (number, key))
                dropped += 1
        return dropped

    def empty(self, prefix: str) -> None:
        """Remove the events of all sources whose name in the file begins so, those of other declarations too."""
        self.tiles.empty(prefix)
        for table in ("entity_events", "events"):
            self.connection.execute(_EMPTY.format(table), (len(prefix), prefix))
        self.connection.execute(_REMOVED)

    def next_us(self, clock_us: int) -> int:
        """Return the clock's time, or if it is not later the one after the last that was given out.

        One that was given out while the clock was ahead by more than 5 minutes does not count any more.
        """
        return self.connection.execute(_NEXT_US, (clock_us,)).fetchone()[0]

    def give_out(self, clock_us: int) -> int:
        """Return what `next_us` returns, and give it out: later ones come from now on, in every process."""
        return self.connection.execute(_GIVE_OUT, (clock_us,)).fetchall()[0][0]

    def _read(self, number: int, *rest: int | str) -> StoredEvents:
        span = (number, *rest)
        if self._joins:
            count, packed = self.connection.execute(_READ, span).fetchone()
        else:
            parts = self.connection.execute(_READ_ROWS, span).fetchall()
            count, packed = len(parts), b"".join(part for (part,) in parts)
        try:
            return self._packers[number].unpack(count, packed) if count else NO_EVENTS
        except DamagedRow as exc:
            raise sqlite3.DatabaseError(str(exc)) from exc

    def _drop_entities(self, number: int, key: bytes, time_us: int, entities: bytes) -> None:
        rows = [
            (number, at, entity_key, time_us, key)
            for at, entity_key in enumerate(msgpack.unpackb(entities))
            if entity_key is not None
        ]
        self.connection.executemany(_DROP_ENTITY, rows)
        self.connection.execute(_REMOVED)
        self.tiles.unfold(rows)

    def _entity_rows(self, number: int, events: Sequence[Event]) -> list[tuple[Any, ...]]:
        pack = self._packers[number].pack
        rows = [
            (number, at, entity_key, time_us, key, packed)
            for key, time_us, known_us, entities, payload in events
            for packed in (pack(time_us, key, known_us, payload),)
            for at, entity_key in enumerate(entities)
            if entity_key is not None
        ]
        # By entity and then by its key, each time by one column: to compare whole rows takes several times as long.
        rows.sort(key=itemgetter(2))
        rows.sort(key=itemgetter(1))
        return rows

    def _number(self, name: str) -> int:
        """Return the number of a source in the file, a new one for a source that the file does not have."""
        find = "SELECT number FROM event_sources WHERE name = ?"
        if self.connection.execute(find, (name,)).fetchone() is None:
            self.connection.execute("INSERT OR IGNORE INTO event_sources (name) VALUES (?)", (name,))
        return self.connection.execute(find, (name,)).fetchone()[0]
