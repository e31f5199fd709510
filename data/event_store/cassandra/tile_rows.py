"""Tiles as rows of Cassandra: those that are folded from events; larger ones are made of them in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from cassandra import ConsistencyLevel

from data.event_store.cassandra.late_marks import EntityPlace
from data.event_store.cassandra.tile_shelf import KeyedTile
from data.event_store.tile_spans import NEVER_US, FoldedTile
from data.online_store.cassandra.writes import longest_ttl

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement

TABLE = "entity_event_tiles"
# One column, since of two rows that are written at the same microsecond the cluster may mix columns.
CREATE = """CREATE TABLE IF NOT EXISTS {} (
  source text, entity text, entity_key text, made_by text, start_us bigint, tile blob,
  PRIMARY KEY ((source, entity, entity_key, made_by), start_us)
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}}
AND compression = {{'class': 'LZ4Compressor', 'chunk_length_in_kb': 16}}"""
_READ = """SELECT start_us, tile FROM {}
WHERE source = ? AND entity = ? AND entity_key = ? AND made_by = ? AND start_us >= ?"""
_WRITE = """INSERT INTO {} (source, entity, entity_key, made_by, start_us, tile) VALUES (?, ?, ?, ?, ?, ?)
USING TTL ?"""
_CHECK_BYTES = 4


class HotPlace(NamedTuple):
    """A hot entity, and the declarations of its tiles."""

    entity: EntityPlace
    made_by: str
    """Fingerprint of the `TilePlan`."""


class TileRows:
    """Makes the statements that read and write tiles, and tiles of what is read.

    Args:
        session: a connected driver session.
        table: the table, with its keyspace.
        keep_us: how long events stay, in microseconds; None for ever.
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

    @property
    def oldest_us(self) -> int:
        """The time before which no event is kept, unless it was written later than it happened."""
        return NEVER_US if self._keep_us is None else self._clock() - self._keep_us

    def read(self, place: HotPlace, start_us: int) -> Statement:
        """Return the query for the tiles that begin at a time or later."""
        return self._read.bind((*place.entity, place.made_by, start_us))

    def write(self, place: HotPlace, tile: KeyedTile) -> Statement:
        """Return the statement that stores a tile; in place of one that begins at the same time."""
        start_us, *rest = tile.folded
        packed = msgpack.packb((*rest, tile.keys, tile.digest)) or b""
        now_us = self._clock()
        ttl_s = 0 if self._keep_us is None else min(self._keep_us // 1_000_000 + 1, longest_ttl(now_us))
        return self._write.bind((*place.entity, place.made_by, start_us, packed + _check(packed), ttl_s))


def tile_of(start_us: int, stored: bytes) -> KeyedTile | None:
    """Return a tile from its row; None of a damaged one, which is as good as none."""
    packed = stored[:-_CHECK_BYTES]
    if stored[-_CHECK_BYTES:] != _check(packed):
        return None
    *rest, keys, digest = msgpack.unpackb(packed)
    return KeyedTile(FoldedTile(start_us, *rest), keys, digest)


def _check(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(_CHECK_BYTES, "big")
