"""The online store in Cassandra 5: for many machines, and for rows that must outlive one of them.

One row per (entity, view), with one packed payload: decoding a column per feature costs several times as much.
Rows are written `USING TIMESTAMP` their event time, so the cluster itself keeps the newest whatever the order of
arrival, in hints and repairs too. The driver's exceptions stop here.
"""

from __future__ import annotations

import logging
import math
import random
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn, cast

from cassandra.cluster import ResultSet, Session
from cassandra.metadata import KeyspaceMetadata, Metadata
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from data.errors import StoreUnavailable
from data.online_store import StoredRow, check_storable, is_storable
from data.online_store.cassandra.async_bridge import WriteWindow
from data.online_store.cassandra.driver import (
    DRIVER_ERRORS,
    check_datacenter,
    make_cluster,
    passing,
    place,
    translated,
    wait_connected,
)
from data.online_store.cassandra.reads import Reader, Statements
from data.online_store.cassandra.token_routing import TokenReplicas
from data.settings import Settings

log = logging.getLogger(__name__)

_KEYSPACE = "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': {}}}"
_TABLE = """CREATE TABLE IF NOT EXISTS {}.feature_rows (
  entity text, "view" text, payload blob, PRIMARY KEY ((entity), "view")
) WITH compaction = {{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L4'}}
AND compression = {{'class': 'LZ4Compressor', 'chunk_length_in_kb': 4}}
AND caching = {{'keys': 'ALL', 'rows_per_partition': 'NONE'}}
AND speculative_retry = 'MIN(99p,10ms)'"""
_READ = 'SELECT entity, payload FROM {}.feature_rows WHERE entity = ? AND "view" = ?'
_READ_SOME = 'SELECT entity, payload FROM {}.feature_rows WHERE entity IN ? AND "view" = ?'
# TIMESTAMP is in microseconds, as `event_us` is: a row written with milliseconds would lose to every other one.
_WRITE = 'INSERT INTO {}.feature_rows (entity, "view", payload) VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?'

_DDL_TIMEOUT_S = 15.0
_ROWS_A_BATCH = 10  # the server warns of batches that span more partitions
_WRITES_UNDER_WAY = 64
_WRITE_ATTEMPTS = 5
_LONGEST_TTL_S = 630_720_000  # 20 years: Cassandra refuses a longer TTL


class CassandraStore:
    """The rows of one view in a Cassandra cluster; implements `data.online_store.OnlineStore`.

    A row expires `ttl_seconds` after its event time. Of two rows with the same event time the larger payload stays.
    With a TTL Cassandra compares the expiry first, so of two such rows written in different seconds the one with the
    later expiry may stay instead.

    Args:
        settings: the `cassandra_*` fields.
        view: name of the feature view.
        ttl_seconds: time to live in seconds, counted from the event time; None keeps rows for ever.
        create: create keyspace and table when they do not exist.

    Raises:
        StoreUnavailable: no contact point answers, or keyspace or table is missing; the message says what.
        StoreError: the cluster refused, e.g. the credentials.
        ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
    """

    def __init__(self, settings: Settings, view: str, ttl_seconds: int | None = None, *, create: bool = False) -> None:
        self._closed = True
        self._keyspace = settings.cassandra_keyspace
        self._datacenter = settings.cassandra_datacenter
        self._view = view
        self._ttl_seconds = ttl_seconds
        self._where = place(settings)
        self._cluster = make_cluster(settings)
        try:
            self._session: Session = self._cluster.connect()
            wait_connected(self._cluster, self._session, self._datacenter)
            self._metadata = cast(Metadata, self._cluster.metadata)
            if create:
                self._create(settings.cassandra_replication_factor)
            self._check_table()
            self._replicas = TokenReplicas(self._metadata, self._keyspace, self._datacenter)
            statements = Statements(self._prepare(_READ), self._prepare(_READ_SOME))
            self._reader = Reader(self._session, statements, view, self._replicas, settings)
            self._write = self._prepare(_WRITE)
        except BaseException as exc:
            self._cluster.shutdown()
            if isinstance(exc, DRIVER_ERRORS):
                check_datacenter(self._cluster, settings)
                raise translated("open", self._where, exc) from exc
            raise
        self._closed = False

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

    def put_many(self, rows: Sequence[StoredRow]) -> None:
        """Write rows at LOCAL_QUORUM; rows past their time to live are left out. Blocks.

        Failed writes are repeated, with fewer at once. Writing the same rows again is always safe.

        Raises:
            StoreUnavailable: the store is closed, or writes went on failing.
            StoreError: a key or event time that no store can hold, or the cluster answered with an error.
        """
        self._check_open()
        check_storable(rows)
        statements = self._writes(rows)
        attempt = 0
        while statements:
            window = max(_WRITES_UNDER_WAY >> attempt, 1)
            unwritten, error = WriteWindow(self._session, window).send(statements)
            if error is None:
                return
            # Progress of at least a window starts the attempts anew: only a standstill ends the write.
            attempt = attempt + 1 if len(statements) - len(unwritten) < window else 1
            if attempt >= _WRITE_ATTEMPTS or not passing(error):
                raise translated("write", self._where, error) from error
            log.warning("%s: %d writes wait for attempt %d after %s", self._where, len(unwritten), attempt + 1, error)
            statements = unwritten
            time.sleep(random.uniform(0.5, 1.0) * 0.1 * 2**attempt)

    async def ping(self) -> None:
        """Raise StoreUnavailable when no replica answers a read."""
        await self.get_many(["ping"])

    def close(self) -> None:
        """Close every connection and end the driver's threads; calling it twice is fine."""
        if not self._closed:
            self._closed = True
            self._cluster.shutdown()

    def __reduce__(self) -> NoReturn:
        raise TypeError("CassandraStore holds open connections and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed online store {self._where}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the online store {self._where} is closed")

    def _writes(self, rows: Sequence[StoredRow]) -> list[BatchStatement]:
        """Return batches of the newest row of each entity, each batch of rows that the same replica owns.

        A batch over the partitions of several nodes would have one of them forward the others' rows.
        """
        now_us = time.time_ns() // 1000
        newest: dict[str, StoredRow] = {}
        for row in rows:
            known = newest.get(row.entity)
            if known is None or row[1:] > known[1:]:
                newest[row.entity] = row
        live = [entity for entity, row in newest.items() if self._ttl(row.event_us, now_us) is not None]
        batches = []
        for owned in self._replicas.grouped(live).values():
            for start in range(0, len(owned), _ROWS_A_BATCH):
                batch = BatchStatement(BatchType.UNLOGGED)
                batch.is_idempotent = True
                for entity in owned[start : start + _ROWS_A_BATCH]:
                    _, event_us, payload = newest[entity]
                    batch.add(self._write.bind((entity, self._view, payload, event_us, self._ttl(event_us, now_us))))
                batches.append(batch)
        return batches

    def _ttl(self, event_us: int, now_us: int) -> int | None:
        """Return the seconds that a row has left, 0 for ever; None when it has expired.

        Cassandra counts a TTL from the write, the project from the event time, so what is left is computed here.
        """
        if self._ttl_seconds is None:
            return 0
        left_us = event_us + self._ttl_seconds * 1_000_000 - now_us
        return min(-(-left_us // 1_000_000), _LONGEST_TTL_S) if left_us > 0 else None

    def _create(self, replication_factor: int) -> None:
        datacenter = self._datacenter.replace("'", "''")
        host = self._cluster.get_control_connection_host()  # one node for both: another may not know the first yet
        for ddl in (_KEYSPACE.format(self._keyspace, datacenter, replication_factor), _TABLE.format(self._keyspace)):
            result: ResultSet = self._session.execute(ddl, timeout=_DDL_TIMEOUT_S, host=host)
            if not result.response_future.is_schema_agreed:
                raise StoreUnavailable(f"{self._where}: its nodes did not agree on the schema in time; run it again")

    def _check_table(self) -> None:
        keyspaces: dict[str, KeyspaceMetadata] = self._metadata.keyspaces or {}
        keyspace = keyspaces.get(self._keyspace)
        if keyspace is None or "feature_rows" not in (keyspace.tables or {}):
            name = f"{self._keyspace}.feature_rows"
            raise StoreUnavailable(f"{self._where} has no table {name}; write rows first: `rayscore materialize`")

    def _prepare(self, query: str) -> PreparedStatement:
        statement = self._session.prepare(query.format(self._keyspace))
        statement.is_idempotent = True
        statement.fetch_size = None  # no paging: a query is bounded, and a second page would be a second round trip
        return statement
