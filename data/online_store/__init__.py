"""The online store: the latest features of each entity, one packed row per (entity, view).

`SqliteStore` and `CassandraStore` implement the `OnlineStore` protocol and pass one conformance suite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

from data.errors import ConfigError, StoreError
from data.schema.scratch_name import scratch_file
from data.settings import Settings

_KEY_BYTES = 65_535
_TIME_LIMIT = 2**63


class StoredRow(NamedTuple):
    """One row to write: entity key, event time in microseconds since 1970, payload packed by `RowCodec`."""

    entity: str
    event_us: int
    payload: bytes


class Outcome(IntEnum):
    """What became of a row that was to be written."""

    WRITTEN = 0
    """The store had no row of the entity, or one with an earlier event time."""
    CORRECTED = 1
    """The store had a row with the same event time and another payload, which this one has replaced."""
    UNCHANGED = 2
    """The store has this very row already."""
    OLDER = 3
    """Not written: the store has a row with a later event time."""
    EXPIRED = 4
    """Not written: past the store's time to live when it came."""


class OnlineStore(Protocol):
    """The latest packed row of every entity of one view. Reads take many keys and keep their order."""

    async def get_many(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return payloads, same length and order as `entities`; None where the store has no row.

        Args:
            entities: keys to read.
            timeout_s: longest time to wait for an answer, in seconds; ignored by a store that reads a local file.

        Raises:
            StoreUnavailable: the store is closed or could not be reached in time.
            StoreError: the store answered with an error.
        """
        ...

    def put_many(self, rows: Sequence[StoredRow]) -> list[Outcome]:
        """Write rows; they survive the end of this process once the call returns.

        A row never replaces one with a later event time. Of rows with the same event time the one written last stays:
        that of a later call, or that further back in `rows`.

        Returns:
            What became of each row, same length and order as `rows`, as if each had been written by itself: of rows
            of one entity more than one may have been written, one after the other.

        Raises:
            StoreUnavailable: the store could not be reached in time; writing the rows again is safe.
            StoreError: a key or event time that no store can hold, or the store answered with an error.
        """
        ...

    def empty(self) -> None:
        """Remove every row of a scratch view.

        Raises:
            StoreError: the view is a live one (`data.schema.scratch_name`), which stays as it is.
            StoreUnavailable: the store could not be reached; emptying it again is safe.
        """
        ...

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store does not answer."""
        ...

    def close(self) -> None:
        """Close files and connections and end the store's threads; calling it twice is fine."""
        ...


def outcome(row: StoredRow, stored: StoredRow | None) -> Outcome:
    """Return what becomes of a row where the store holds `stored` of its entity, or nothing."""
    if stored is None or row.event_us > stored.event_us:
        return Outcome.WRITTEN
    if row.event_us < stored.event_us:
        return Outcome.OLDER
    return Outcome.UNCHANGED if row.payload == stored.payload else Outcome.CORRECTED


def is_storable(entity: str) -> bool:
    """Return whether a key is 1 to 65,535 bytes of UTF-8, which every store can hold."""
    try:
        return 0 < len(entity.encode()) <= _KEY_BYTES
    except UnicodeEncodeError:  # half a surrogate pair: JSON can carry one, UTF-8 cannot
        return False


def check_storable(rows: Sequence[StoredRow]) -> None:
    """Check rows before they are written.

    Raises:
        StoreError: names the first row whose key or event time no store can hold.
    """
    for row in rows:
        if not -_TIME_LIMIT < row.event_us < _TIME_LIMIT:
            raise StoreError(f"entity {row.entity!r:.80}: event time {row.event_us} us is not a 64-bit number")
        if not is_storable(row.entity):
            raise StoreError(f"entity {row.entity!r:.80} cannot be a key: expected 1 to {_KEY_BYTES} bytes of UTF-8")


def open_store(settings: Settings, view: str, ttl_seconds: int | None = None, *, create: bool = False) -> OnlineStore:
    """Open the store that the settings select, for one view.

    Args:
        settings: `store` selects the driver; the `sqlite_*` or `cassandra_*` fields locate it.
        view: name of the feature view (`UseCase.view`), or the `scratch_name` of it.
        ttl_seconds: age, counted from the event time, past which the store may drop a row and may refuse it as
            expired; None keeps rows for ever.
        create: create the file or table when it does not exist; for writers only.

    Raises:
        StoreUnavailable: the store cannot be opened; the message says what was tried.
        StoreError: the file is damaged, or the cluster refused the connection.
        ConfigError: the settings name no known driver.
    """
    # Imported here, so that a process loads the driver of the store that it uses and no other.
    if settings.store == "sqlite":
        from data.online_store.sqlite import SqliteStore

        return SqliteStore(scratch_file(settings.sqlite_path, view), view, create=create)
    if settings.store == "cassandra":
        from data.online_store.cassandra.store import CassandraStore

        return CassandraStore(settings, view, ttl_seconds, create=create)
    raise ConfigError(f"RAYSCORE_STORE: no store '{settings.store}'; known: sqlite, cassandra")
