"""The Cassandra driver: its settings for millisecond reads, and the translation of its exceptions into ours.

The driver's defaults suit batch work (10 s timeouts, reconnection after minutes). Those that a serving replica cannot
use are replaced in `make_cluster`, each with its reason beside it. `data.online_store.cassandra.store` has the store.
"""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

from cassandra import (
    ConsistencyLevel,
    DriverException,
    InvalidRequest,
    OperationTimedOut,
    Timeout,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionBusy, ConnectionException
from cassandra.metadata import Metadata
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    ReconnectionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import ErrorMessage, IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import tuple_factory

from data.errors import ConfigError, StoreError, StoreUnavailable
from data.settings import Settings

READ_PROFILE = "read"

# The driver raises server errors that it has no exception for as protocol messages, and these are no DriverException.
DRIVER_ERRORS = (
    DriverException,
    ErrorMessage,
    NoHostAvailable,
    NoConnectionsAvailable,
    ConnectionException,
    ConnectionBusy,
    OSError,
)
# What the same request may not meet again: worth another attempt.
_PASSING = (
    OperationTimedOut,
    NoHostAvailable,
    NoConnectionsAvailable,
    Timeout,
    Unavailable,
    ConnectionException,
    ConnectionBusy,
    OverloadedErrorMessage,
    IsBootstrappingErrorMessage,
    UnresolvableContactPoints,
    OSError,
)

# The node could not be asked, or its connection was lost: another node may answer.
_UNREACHED = (NoHostAvailable, NoConnectionsAvailable, ConnectionException, ConnectionBusy)

_CONSISTENCY = {"LOCAL_ONE": ConsistencyLevel.LOCAL_ONE, "LOCAL_QUORUM": ConsistencyLevel.LOCAL_QUORUM}
_CONNECT_TIMEOUT_S = 2
_WRITE_TIMEOUT_S = 2.0
_POLL_S = 0.01
# A frozen node keeps its sockets open, so only a missed heartbeat tells: seen after 5 to 10 s (default: 30 to 60).
_HEARTBEAT_S = 5


class _NextHostOnce(FallthroughRetryPolicy):
    """Retry policy of writes: one other host when a connection is lost, else the error goes to the caller.

    The driver's default tries one host after the other on every request error, an overload included, which loads
    the nodes that are left. The caller (`CassandraStore.put_many`) repeats what was not written, with fewer at once.
    """

    def on_request_error(self, query: Any, consistency: Any, error: Any, retry_num: int) -> tuple[Any, None]:
        lost = isinstance(error, ConnectionException) and retry_num == 0
        return (self.RETRY_NEXT_HOST if lost else self.RETHROW), None


class _KeepTrying(ReconnectionPolicy):
    """Reconnection policy: after 0.5, 1 and 2 s, then every 5 s for ever, with jitter.

    The driver's default waits for up to 10 minutes between attempts, and gives a node up after 64 of them.
    """

    def new_schedule(self) -> Iterator[float]:
        delays = itertools.chain((0.5, 1.0, 2.0), itertools.repeat(5.0))
        return (delay * random.uniform(0.8, 1.0) for delay in delays)


def make_cluster(settings: Settings) -> Cluster:
    """Return a configured cluster object for the `cassandra_*` settings; it is not connected yet.

    Raises:
        ConfigError: a contact point is not `host` or `host:port`.
        StoreUnavailable: the name of no contact point can be resolved.
    """
    timeout_s = settings.cassandra_read_timeout_ms / 1000
    profiles = {
        EXEC_PROFILE_DEFAULT: _profile(settings, ConsistencyLevel.LOCAL_QUORUM, _WRITE_TIMEOUT_S, _NextHostOnce()),
        # Reads are sent to another node by `data.online_store.cassandra.reads`, which knows the time that is left.
        READ_PROFILE: _profile(
            settings, _CONSISTENCY[settings.cassandra_read_consistency], timeout_s, FallthroughRetryPolicy()
        ),
    }
    try:
        return Cluster(
            contact_points(settings),
            protocol_version=5,  # unset, the driver tries later versions first and reconnects for each refusal
            compression=False,  # a row is far smaller than what compression pays for
            auth_provider=_credentials(settings),
            execution_profiles=profiles,
            connect_timeout=_CONNECT_TIMEOUT_S,
            control_connection_timeout=_CONNECT_TIMEOUT_S,
            reconnection_policy=_KeepTrying(),
            idle_heartbeat_interval=_HEARTBEAT_S,
            idle_heartbeat_timeout=_HEARTBEAT_S,
            status_event_refresh_window=1,  # a node that is back is used after a random part of this, in seconds
            # Not set by the driver: small requests that share the one socket per node would wait for each other.
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            monitor_reporting_enabled=False,  # reports to DataStax Insights, of no use to Cassandra
        )
    except DRIVER_ERRORS as exc:
        raise translated("open", place(settings), exc) from exc


def wait_connected(cluster: Cluster, session: Session, datacenter: str) -> None:
    """Block until every node of the data center that is up is connected, 2 s at most.

    `Cluster.connect` returns after the first node; the first reads would find no connection to the others.
    """
    deadline = time.monotonic() + _CONNECT_TIMEOUT_S
    while time.monotonic() < deadline:
        near = [host for host in cast(Metadata, cluster.metadata).all_hosts() if host.datacenter == datacenter]
        connected = session.get_pool_state()
        # is_up is None until the driver knows: such a node is waited for.
        if all(host in connected or host.is_up is False for host in near):
            return
        time.sleep(_POLL_S)


def check_datacenter(cluster: Cluster, settings: Settings) -> None:
    """Check the local data center's name against the nodes that the driver knows, if it knows any.

    With a wrong name every node counts as remote and the driver says only that no host is available.

    Raises:
        ConfigError: none of the nodes is in `cassandra_datacenter`; the message lists those there are.
    """
    known = {host.datacenter for host in cluster.metadata.all_hosts()} if cluster.metadata else set()
    known.discard(None)
    if known and settings.cassandra_datacenter not in known:
        raise ConfigError(
            f"RAYSCORE_CASSANDRA_DATACENTER: {place(settings)} has no data center "
            f"'{settings.cassandra_datacenter}', but: {', '.join(sorted(known))}"
        )


def contact_points(settings: Settings) -> list[tuple[str, int]]:
    """Return (host, port) of each contact point.

    Raises:
        ConfigError: one is not `host`, `host:port` or `[IPv6]:port`, or there is none.
    """
    points = [_contact_point(text.strip(), settings.cassandra_port) for text in settings.cassandra_hosts.split(",")]
    return list(dict.fromkeys(points))


def place(settings: Settings) -> str:
    """Return the name of the cluster for messages: its contact points."""
    return "Cassandra at " + ", ".join(f"{host}:{port}" for host, port in contact_points(settings))


def passing(error: BaseException) -> bool:
    """Return whether an error is transient: a time-out, a lost connection or an overload."""
    return isinstance(error, _PASSING)


def unreached(error: BaseException) -> bool:
    """Return whether an error means that the node could not be asked, or was lost while it was: another may answer."""
    return isinstance(error, _UNREACHED)


def translated(action: str, where: str, exc: BaseException) -> StoreError:
    """Return the driver's error as one of ours: StoreUnavailable for a transient one, else StoreError.

    Args:
        action: what was tried, as a verb for the message ("read").
        where: the cluster, see `place`.
        exc: the driver's error.
    """
    if isinstance(exc, InvalidRequest) and "does not exist" in str(exc):
        return StoreUnavailable(f"{where} has no feature table ({exc.args[0]}): run `rayscore materialize`")
    error = StoreUnavailable if passing(exc) else StoreError
    return error(f"cannot {action} {where}: {type(exc).__name__}: {_reason(exc)}")


def _reason(exc: BaseException) -> str:
    if isinstance(exc, NoHostAvailable) and isinstance(exc.errors, dict) and exc.errors:
        return "tried " + "; ".join(f"{host}: {reason}" for host, reason in exc.errors.items())
    if isinstance(exc, UnresolvableContactPoints):
        return "no host name could be resolved"
    return str(exc)


def _contact_point(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not host.endswith("]")):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ConfigError(f"RAYSCORE_CASSANDRA_HOSTS: '{text}' is not host or host:port")
    return host, int(port)


def _credentials(settings: Settings) -> PlainTextAuthProvider | None:
    if settings.cassandra_username is None:
        return None
    password = settings.cassandra_password
    return PlainTextAuthProvider(settings.cassandra_username, password.get_secret_value() if password else "")


def _profile(settings: Settings, consistency: int, timeout_s: float, retry: RetryPolicy) -> ExecutionProfile:
    return ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=settings.cassandra_datacenter)),
        retry_policy=retry,
        consistency_level=consistency,
        request_timeout=timeout_s,
        row_factory=tuple_factory,  # the default builds a class for every response: 100 us against 6
    )
