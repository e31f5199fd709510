"""The online store: one packed row an entity and view. Two drivers, one interface, one conformance suite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from data.errors import ConfigError, StoreError
from data.settings import Settings

_KEY_BYTES = 65_535
_TIME_LIMIT = 2**63


class StoredRow(NamedTuple):
    """One row to write: entity key, event time in microseconds since 1970, payload packed by `RowCodec`."""

    entity: str
    event_us: int
    payload: bytes


class OnlineStore(Protocol):
    """Batch-first and order-keeping. Opened for one view; `close` frees every thread, file and socket."""

    async def get_many(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return payloads, same length and order as `entities`; None where the store has no row.

        Args:
            entities: keys to read.
            timeout_s: longest time to wait for an answer; a store that waits for nobody does not look at it.

        Raises:
            StoreUnavailable: the store could not be reached in time.
        """
        ...

    def put_many(self, rows: Sequence[StoredRow]) -> None:
        """Write rows, durably when it returns. A row never replaces one with a newer event time;
        of two with the same event time the larger payload (bytewise) stays, whatever the order of arrival.

        Raises:
            StoreUnavailable: the store could not be reached in time; writing the rows again is safe.
        """
        ...

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store does not answer."""
        ...

    def close(self) -> None:
        """Free what was opened; calling it twice is fine."""
        ...


def is_storable(entity: str) -> bool:
    """True for 1 to 65,535 bytes of UTF-8: what every driver can hold as a key."""
    try:
        return 0 < len(entity.encode()) <= _KEY_BYTES
    except UnicodeEncodeError:
        return False


def check_storable(rows: Sequence[StoredRow]) -> None:
    """Raise StoreError that names the first row whose key or event time no store can hold."""
    for row in rows:
        if not -_TIME_LIMIT < row.event_us < _TIME_LIMIT:
            raise StoreError(f"entity {row.entity!r:.80}: event time {row.event_us} us is not a 64-bit number")
        if not is_storable(row.entity):
            raise StoreError(f"entity {row.entity!r:.80} cannot be a key: expected 1 to {_KEY_BYTES} bytes of UTF-8")


def open_store(settings: Settings, view: str, ttl_seconds: int | None = None, *, create: bool = False) -> OnlineStore:
    """Open the store that the settings name, for one view.

    Args:
        settings: which driver, and its addresses or path.
        view: name of the rows (`UseCase.view`).
        ttl_seconds: age after event time past which rows may be dropped by the store.
        create: make the file or table when there is none (writers do; readers must not).

    Raises:
        StoreUnavailable: it cannot be opened; the text says what was tried.
        ConfigError: the settings name no known driver.
    """
    if settings.store == "sqlite":
        from data.online_store.sqlite import SqliteStore

        return SqliteStore(settings.sqlite_path, view, create=create)
    if settings.store == "cassandra":
        from data.online_store.cassandra.store import CassandraStore

        return CassandraStore(settings, view, ttl_seconds, create=create)
    raise ConfigError(f"RAYSCORE_STORE: no store '{settings.store}'; known: sqlite, cassandra")
