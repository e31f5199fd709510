"""What the stores in a Cassandra cluster have in common: how they connect, find their tables and are closed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NoReturn

from cassandra.cluster import Cluster, Session

from data.errors import StoreUnavailable
from data.online_store.cassandra.driver import (
    DRIVER_ERRORS,
    check_datacenter,
    make_cluster,
    place,
    translated,
    wait_connected,
)
from data.online_store.cassandra.tables import check_table, make_table
from data.settings import Settings


class ConnectedStore:
    """A store that holds connections to a cluster; closed until `_opening` is over."""

    KIND: ClassVar[str]
    """What the store is called in messages."""
    _closed = True
    _where: str
    """The cluster, for messages."""
    _cluster: Cluster
    _session: Session

    def close(self) -> None:
        """Close every connection and end the driver's threads; calling it twice is fine."""
        if not self._closed:
            self._closed = True
            self._cluster.shutdown()

    @contextmanager
    def _opening(self, settings: Settings) -> Iterator[None]:
        """Connect, and be open when the block ends; an error in it closes the connections.

        Raises:
            StoreUnavailable: no contact point answers.
            StoreError: the cluster refused, e.g. the credentials.
            ConfigError: a contact point is not `host` or `host:port`, or there is no such data center.
        """
        self._where = place(settings)
        self._cluster = make_cluster(settings)
        try:
            self._session = self._cluster.connect()
            wait_connected(self._cluster, self._session, settings.cassandra_datacenter)
            yield
        except BaseException as exc:
            self._cluster.shutdown()
            if isinstance(exc, DRIVER_ERRORS):
                check_datacenter(self._cluster, settings)
                raise translated("open", self._where, exc) from exc
            raise
        self._closed = False

    def _open_table(self, settings: Settings, name: str, create_table: str, remedy: str, *, create: bool) -> str:
        """Return a table with its keyspace.

        Args:
            settings: the `cassandra_*` fields.
            name: the table.
            create_table: the statement that makes it, with {} for its name.
            remedy: what to do when it does not exist.
            create: make it, and the keyspace, where they do not exist.

        Raises:
            StoreUnavailable: it does not exist, or the nodes did not agree on the schema in time.
        """
        table = f"{settings.cassandra_keyspace}.{name}"
        if create:
            make_table(self._cluster, self._session, settings, create_table.format(table))
        check_table(self._cluster, settings, name, remedy)
        return table

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"the {self.KIND} {self._where} is closed")

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"{name} holds open connections and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {self.KIND} {self._where}", ResourceWarning, source=self, stacklevel=2)
            self.close()
