"""A lease in a Cassandra cluster: what one process has for itself, for as long as it says so."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from data.errors import StoreError
from data.online_store.cassandra.driver import (
    DRIVER_ERRORS,
    check_datacenter,
    make_cluster,
    place,
    translated,
    wait_connected,
)
from data.online_store.cassandra.tables import make_table
from data.settings import Settings

logger = logging.getLogger(__name__)

LASTS_S = 60
"""Seconds for which a lease is held after it was last renewed: so long it outlives a holder that is killed."""
_RENEWALS = 4
"""How often it is renewed in that time."""
_TIMEOUT_S = 10.0
_TABLE = "leases"
_CREATE = "CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, holder text, holder_id text)"
_TAKE = "INSERT INTO {} (name, holder_id, holder) VALUES (%s, %s, %s) IF NOT EXISTS USING TTL %s"
_RENEW = "UPDATE {} USING TTL %s SET holder_id = %s, holder = %s WHERE name = %s IF holder_id = %s"
_RELEASE = "DELETE FROM {} WHERE name = %s IF holder_id = %s"


class ClusterLease:
    """The lease of a name, of which a cluster gives out one at a time.

    Args:
        settings: the `cassandra_*` fields.
        name: what is leased.
        holder: who wants it, in words for others.
        lasts_s: for how long it is held after it was last renewed.
    """

    def __init__(self, settings: Settings, name: str, holder: str, lasts_s: int = LASTS_S) -> None:
        self._settings = settings
        self._name, self._holder, self._id = name, holder, uuid.uuid4().hex
        self._lasts_s = lasts_s
        self._table = f"{settings.cassandra_keyspace}.{_TABLE}"
        self._done = threading.Event()
        self.lost_to: str | None = None
        """Who has got the lease that was held here, where process or cluster stood still until it ran out."""

    @contextmanager
    def held(self) -> Iterator[str | None]:
        """Hold the lease inside the block; yields who has it, when another one has, else None.

        Raises:
            StoreUnavailable: no contact point answers.
            StoreError: the cluster refused.
            ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
        """
        cluster = make_cluster(self._settings)
        try:
            session = self._opened(cluster)
            other = self._take(session)
            if other is not None:
                yield other
                return
            renewing = threading.Thread(target=self._renew, args=(session,), name="lease", daemon=True)
            renewing.start()
            try:
                yield None
            finally:
                self._done.set()
                renewing.join()
                # What cannot be given back now ends by itself.
                with suppress(*DRIVER_ERRORS):
                    self._ask(session, _RELEASE, self._name, self._id)
        finally:
            cluster.shutdown()

    def _opened(self, cluster: Any) -> Session:
        try:
            session = cluster.connect()
            wait_connected(cluster, session, self._settings.cassandra_datacenter)
            make_table(cluster, session, self._settings, _CREATE.format(self._table))
        except DRIVER_ERRORS as exc:
            check_datacenter(cluster, self._settings)
            raise translated("open", place(self._settings), exc) from exc
        return session

    def _take(self, session: Session) -> str | None:
        """Take the lease, or return who has it."""
        try:
            applied, *row = self._ask(session, _TAKE, self._name, self._id, self._holder, self._lasts_s)
        except DRIVER_ERRORS as exc:
            raise translated("write", place(self._settings), exc) from exc
        # Without success the row that is there follows, by the names of its columns: name, holder, holder_id.
        return None if applied or row[-1] == self._id else str(row[1])

    def _renew(self, session: Session) -> None:
        values = (self._lasts_s, self._id, self._holder, self._name, self._id)
        while not self._done.wait(self._lasts_s / _RENEWALS):
            try:
                applied, *_ = self._ask(session, _RENEW, *values)
                other = None if applied else self._take(session)
            except (*DRIVER_ERRORS, StoreError) as exc:
                logger.warning("the lease of %s is not renewed: %s", self._name, exc)
                continue
            if other is not None:
                self.lost_to = other
                return

    def _ask(self, session: Session, statement: str, *values: str | int) -> tuple[Any, ...]:
        query = SimpleStatement(
            statement.format(self._table),
            consistency_level=ConsistencyLevel.LOCAL_QUORUM,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        )
        row = session.execute(query, values, timeout=_TIMEOUT_S).one()
        if row is None:
            raise StoreError(f"{place(self._settings)} does not say whether it has given out a lease")
        return tuple(row)
