"""Tables in a Cassandra cluster: made by whoever writes, looked for by whoever reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from data.errors import StoreUnavailable
from data.online_store.cassandra.driver import DRIVER_ERRORS, place, translated
from data.settings import Settings

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, ResultSet, Session
    from cassandra.metadata import KeyspaceMetadata, Metadata

_KEYSPACE = "CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': {}}}"
_DDL_TIMEOUT_S = 15.0
_TRUNCATE_TIMEOUT_S = 60.0


def make_table(cluster: Cluster, session: Session, settings: Settings, create_table: str) -> None:
    """Make the settings' keyspace and a table in it where they do not exist.

    Args:
        cluster: a connected cluster.
        session: a session of it.
        settings: the `cassandra_*` fields.
        create_table: the statement that makes the table, in that keyspace.

    Raises:
        StoreUnavailable: the nodes did not agree on the schema in time.
    """
    keyspace, datacenter = settings.cassandra_keyspace, settings.cassandra_datacenter.replace("'", "''")
    host = cluster.get_control_connection_host()  # one node for both: another may not know the first yet
    for ddl in (
        _KEYSPACE.format(keyspace, datacenter, settings.cassandra_replication_factor),
        create_table,
    ):
        result: ResultSet = session.execute(ddl, timeout=_DDL_TIMEOUT_S, host=host)
        if not result.response_future.is_schema_agreed:
            raise StoreUnavailable(f"{place(settings)}: its nodes did not agree on the schema in time; run it again")


def check_table(cluster: Cluster, settings: Settings, table: str, remedy: str) -> None:
    """Check that a table exists.

    Raises:
        StoreUnavailable: it does not; the message names it, and the remedy.
    """
    keyspaces: dict[str, KeyspaceMetadata] = cast("Metadata", cluster.metadata).keyspaces or {}
    keyspace = keyspaces.get(settings.cassandra_keyspace)
    if keyspace is None or table not in (keyspace.tables or {}):
        name = f"{settings.cassandra_keyspace}.{table}"
        raise StoreUnavailable(f"{place(settings)} has no table {name}; {remedy}")


def truncate(session: Session, where: str, table: str) -> None:
    """Remove all rows of a table.

    Not by deletes: a deleted row of the past would hide what is written with a time of the past later.

    Args:
        session: a connected session.
        where: the cluster, for messages.
        table: the table, with its keyspace.

    Raises:
        StoreUnavailable: a node is down, or did not answer in time.
        StoreError: the cluster refused.
    """
    try:
        session.execute(f"TRUNCATE {table}", timeout=_TRUNCATE_TIMEOUT_S)
    except DRIVER_ERRORS as exc:
        raise translated("empty", where, exc) from exc
