"""The event store: the events of each source as a set, read in slices of one entity and a span of time.

An event is identified by its source and key. Writing one again changes nothing, and one that comes late falls into its
place, so no counter is kept, no lock is held and the order of arrival decides nothing. `SqliteEvents` and
`CassandraEvents` implement the `EventStore` protocol and pass one conformance suite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from data.errors import ConfigError, StoreError
from data.event_store.tile_making import TileWork
from data.feature_views.events.event import Event, OwnEvent
from data.feature_views.online.online_windows import Slice
from data.feature_views.online.stored_events import StoredEvents
from data.feature_views.online.tiles import Tile
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import is_scratch, scratch_file
from data.settings import Settings

_KEY_BYTES = 30_000
_TIME_LIMIT = 2**62
_DAY_US = 86_400_000_000
_LOOK_BACK_US = 7 * _DAY_US
__all__ = [
    "EventOutcome",
    "EventStore",
    "OwnEvent",
    "RowEvents",
    "RowQuery",
    "TileWork",
    "check_storable",
    "events_max_age_us",
    "is_storable",
    "open_events",
]


class EventOutcome(IntEnum):
    """What became of an event that was to be stored."""

    TAKEN = 0
    """The store had no event of this key; of a store that writes without a look at what it has (Cassandra): stored, and
    whether it is a repeat, or which of two contents counts, is settled when it is read."""
    REPEATED = 1
    """The store has this very event already."""
    REVISED = 2
    """The store had another content of this key, known earlier, which this one has replaced."""
    SUPERSEDED = 3
    """Not stored: the store has another content of this key that is known later."""
    CONFLICT = 4
    """Not stored: the store has another content of this key, known since the same time."""


class RowQuery(NamedTuple):
    """What the windows of one row need."""

    key: bytes
    """The row's key, or the id of its request, as `event_key` writes it."""
    time_us: int | None
    """The row's time; None: the moment at which the store takes the row (the event's time is then that, too)."""
    entities: tuple[str | None, ...]
    """For each slice the key of the row's entity; None where the row names none."""
    own: tuple[OwnEvent, ...] = ()


class RowEvents(NamedTuple):
    """What a store answers to a `RowQuery`."""

    time_us: int
    """The row's time in force. Of a row that was recorded before, the time it had then."""
    outcomes: tuple[EventOutcome, ...]
    """For each own event that was to be recorded, what became of it."""
    events: tuple[StoredEvents, ...]
    """For each slice the stored events up to the row's time, each key once, ascending in time and key, but those in
    tiles."""
    tiles: tuple[Sequence[Tile], ...] = ()
    """For each slice the tiles that stand for further events, as `WindowPlan.compute` takes them; () when there are
    none in any."""


class EventStore(Protocol):
    """The events of one use case. Reads take many rows and keep their order."""

    tile_work: TileWork
    """What tiles were read and made since the store was opened."""

    @property
    def expired(self) -> int:
        """Events that this process removed for their age since it opened the store; 0 where the cluster drops them."""
        ...

    async def fetch(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> list[RowEvents]:
        """Record rows' own events and read what their windows need, in one call.

        What is recorded is durable as the store says, and seen by every later call, before this one returns.

        Raises:
            StoreUnavailable: the store is closed or could not be reached in time; calling again is safe.
            StoreError: the store answered with an error.
        """
        ...

    def append(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store events of one source; returns what became of each, in order, as if each had been stored by itself.

        Raises:
            StoreUnavailable: the store could not be reached in time; appending the events again is safe.
            StoreError: an event that no store can hold, or the store answered with an error.
        """
        ...

    def empty(self) -> None:
        """Remove every event of a scratch store.

        Raises:
            StoreError: the store is a live one (`data.schema.scratch_name`), which stays as it is.
            StoreUnavailable: the store could not be reached; emptying it again is safe.
        """
        ...

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store does not answer."""
        ...

    def close(self) -> None:
        """Close files and connections; calling it twice is fine."""
        ...


def is_storable(entity: str) -> bool:
    """Return whether the key of an entity is at most 30,000 bytes of UTF-8, which every store can hold."""
    if entity.isascii():
        return len(entity) <= _KEY_BYTES
    try:
        return len(entity.encode()) <= _KEY_BYTES
    except UnicodeEncodeError:  # half a surrogate pair: JSON can carry one, UTF-8 cannot
        return False


def check_storable(events: Sequence[Event]) -> None:
    """Check events before they are stored.

    Raises:
        StoreError: names the first one whose key, time or entity no store can hold.
    """
    for event in events:
        if not 0 < len(event.key) <= _KEY_BYTES:
            raise StoreError(f"event {event.key!r:.80}: expected a key of 1 to {_KEY_BYTES} bytes")
        if not (-_TIME_LIMIT < event.time_us < _TIME_LIMIT and -_TIME_LIMIT < event.known_us < _TIME_LIMIT):
            raise StoreError(f"event {event.key!r:.80}: its time is not within some 146,000 years of 1970")
        for entity in event.entities:
            if entity is not None and not is_storable(entity):
                raise StoreError(f"event {event.key!r:.80}: entity {entity!r:.80} is not UTF-8, or is too long")


def events_max_age_us(settings: Settings, keep_us: int | None) -> int | None:
    """Return the age past which the store removes events, in microseconds; None: it removes none.

    Never before a day more than `keep_us`, the age past which no window reads an event: a row may come with a time. By
    default SQLite removes none, and Cassandra those a week older: with the events of the longest window alone no
    decision of the past could be made again (`rayscore late`), since its windows begin where none are left.
    """
    if keep_us is None:
        return None
    if settings.events_max_age_days:
        return max(round(settings.events_max_age_days * _DAY_US), keep_us + _DAY_US)
    return keep_us + _LOOK_BACK_US if settings.store == "cassandra" else None


def open_events(
    settings: Settings,
    use_case: str,
    sources: Mapping[str, EventSource],
    *,
    keep_us: int | None = None,
    create: bool = False,
) -> EventStore:
    """Open the event store that the settings select, for one use case.

    Args:
        settings: `store` selects the driver; `events_file` or the `cassandra_*` fields locate it.
        use_case: name of the use case (`UseCase.name`), or the `scratch_name` of it.
        sources: its sources of events by name.
        keep_us: age, counted from its time, past which no window reads an event, in microseconds (the largest
            `reach_us` of `WindowPlan.slices`); removed as `events_max_age_us` says. None keeps events for ever.
        create: create the file or table when it does not exist.

    Raises:
        StoreUnavailable: the store cannot be opened; the message says what was tried.
        StoreError: the file is damaged, or the cluster refused the connection.
        ConfigError: the settings name no known driver.
    """
    # Imported here, so that a process loads the driver of the store that it uses and no other.
    if settings.store == "sqlite":
        from data.event_store.sqlite.store import SqliteEvents

        # Who only reads removes nothing, and the rows of a proof are as old as its table.
        removes = create and not is_scratch(use_case)
        max_age_us = events_max_age_us(settings, keep_us) if removes else None
        file = scratch_file(settings.events_path, use_case)
        return SqliteEvents(file, use_case, sources, create=create, max_age_us=max_age_us)
    if settings.store == "cassandra":
        from data.event_store.cassandra.store import CassandraEvents

        return CassandraEvents(settings, use_case, sources, events_max_age_us(settings, keep_us), create=create)
    raise ConfigError(f"RAYSCORE_STORE: no store '{settings.store}'; known: sqlite, cassandra")
