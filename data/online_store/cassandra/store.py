"""The online store in Cassandra 5: for many machines, and for rows that must outlive one of them.

One row per (entity, view), with one packed payload: decoding a column per feature costs several times as much.
Reading and writing are `data.online_store.cassandra.reads` and `writes`. The driver's exceptions stop here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from cassandra.metadata import Metadata
from cassandra.query import PreparedStatement

from data.online_store import Outcome, StoredRow, check_storable, is_storable
from data.online_store.cassandra.connected_store import ConnectedStore
from data.online_store.cassandra.driver import DRIVER_ERRORS, translated
from data.online_store.cassandra.reads import Reader, ReadStatements
from data.online_store.cassandra.tables import truncate
from data.online_store.cassandra.token_routing import TokenReplicas
from data.online_store.cassandra.writes import Writer, WriteStatements
from data.schema.scratch_name import require_scratch, scratch_table
from data.settings import Settings

TABLE = "feature_rows_v2"
"""Name of the table. Each payload in it has a stamp; those of `feature_rows`, an earlier layout, have none."""
_CREATE = """CREATE TABLE IF NOT EXISTS {} (
  entity text, "view" text, payload blob, PRIMARY KEY ((entity), "view")
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}}
AND compression = {{'class': 'LZ4Compressor', 'chunk_length_in_kb': 4}}
AND caching = {{'keys': 'ALL', 'rows_per_partition': 'NONE'}}
AND speculative_retry = 'MIN(99p,10ms)'"""
_READ = 'SELECT entity, payload FROM {} WHERE entity = ? AND "view" = ?'
_READ_SOME = 'SELECT entity, payload FROM {} WHERE entity IN ? AND "view" = ?'
_LOOK = 'SELECT entity, payload, writetime(payload), ttl(payload) FROM {} WHERE entity IN ? AND "view" = ?'
# TIMESTAMP is in microseconds, as `event_us` is: a row written with milliseconds would lose to every other one.
_WRITE = 'INSERT INTO {} (entity, "view", payload) VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?'


class CassandraStore(ConnectedStore):
    """The rows of one view in a Cassandra cluster; implements `data.online_store.OnlineStore`.

    A row is dropped `ttl_seconds` after it was written, and not written when its event time is that long ago. "Written
    last", of rows with the same event time, goes by the clocks of the nodes, in seconds, then of the writers.

    Args:
        settings: the `cassandra_*` fields.
        view: name of the feature view.
        ttl_seconds: time to live in seconds; None keeps rows for ever.
        create: create keyspace and table when they do not exist.

    Raises:
        StoreUnavailable: no contact point answers, or keyspace or table is missing; the message says what.
        StoreError: the cluster refused, e.g. the credentials.
        ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
    """

    KIND = "online store"

    def __init__(self, settings: Settings, view: str, ttl_seconds: int | None = None, *, create: bool = False) -> None:
        self._view = view
        with self._opening(settings):
            name, remedy = scratch_table(TABLE, view), "write rows first: `rayscore materialize`"
            self._table = self._open_table(settings, name, _CREATE, remedy, create=create)
            metadata = cast(Metadata, self._cluster.metadata)
            replicas = TokenReplicas(metadata, settings.cassandra_keyspace, settings.cassandra_datacenter)
            reads = ReadStatements(self._prepare(_READ), self._prepare(_READ_SOME))
            self._reader = Reader(self._session, reads, view, replicas, settings)
            writes = WriteStatements(self._prepare(_LOOK), self._prepare(_WRITE))
            self._writer = Writer(self._session, writes, view, replicas, ttl_seconds, self._where)

    @property
    def under_way(self) -> int:
        """Number of read queries that have neither an answer nor an error yet, hedges included."""
        return self._reader.under_way

    async def get_many(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return payloads in the order of `entities`, None where there is no row.

        Keys are grouped by the replica that owns them; one query per group, all at once. When a replica has not
        answered after `cassandra_speculative_delay_ms`, another one is asked too, and preferred for the next 2 s.

        Raises:
            StoreUnavailable: the store is closed, did not answer within `cassandra_read_timeout_ms` or `timeout_s`, or
                too many reads are under way.
            StoreError: the cluster answered with an error.
        """
        self._check_open()
        keys = [entity for entity in dict.fromkeys(entities) if is_storable(entity)]
        if not keys:
            return [None] * len(entities)
        try:
            payloads = await self._reader.get(keys, timeout_s)
        except DRIVER_ERRORS as exc:
            raise translated("read", self._where, exc) from exc
        return [payloads.get(entity) for entity in entities]

    def put_many(self, rows: Sequence[StoredRow]) -> list[Outcome]:
        """Write rows at LOCAL_QUORUM. Blocks.

        Failed writes are repeated, with fewer at once. Writing the same rows again is always safe.

        Returns:
            What became of each row, in order, judged by what the cluster held before the call. A row that another
            process writes for the same entity meanwhile is not taken into account: one that is called written may
            have lost to it. The cluster keeps the right row all the same.

        Raises:
            StoreUnavailable: the store is closed, or statements went on failing.
            StoreError: a key or event time that no store can hold, or the cluster answered with an error.
        """
        self._check_open()
        check_storable(rows)
        return self._writer.put(rows)

    def empty(self) -> None:
        """Remove all rows of a scratch view, which has a table of its own; see `OnlineStore`. Blocks."""
        self._check_open()
        require_scratch(self._view)
        truncate(self._session, self._where, self._table)

    async def ping(self) -> None:
        """Raise StoreUnavailable when no replica answers a read."""
        await self.get_many(["ping"])

    def _prepare(self, query: str) -> PreparedStatement:
        statement = self._session.prepare(query.format(self._table))
        statement.is_idempotent = True
        statement.fetch_size = None  # no paging: a query is bounded, and a second page would be a second round trip
        return statement
