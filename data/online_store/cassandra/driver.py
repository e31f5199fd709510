"""How the Cassandra driver is set up and what its errors mean here; `data.online_store.cassandra.store` has the store.

The driver's own defaults suit batch work. A replica that answers within milliseconds needs others, each with
its reason beside it.
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

_UNREACHED = (NoHostAvailable, NoConnectionsAvailable, ConnectionException, ConnectionBusy)

_CONSISTENCY = {"LOCAL_ONE": ConsistencyLevel.LOCAL_ONE, "LOCAL_QUORUM": ConsistencyLevel.LOCAL_QUORUM}
_CONNECT_TIMEOUT_S = 2
_WRITE_TIMEOUT_S = 2.0
_POLL_S = 0.01
_HEARTBEAT_S = 5


class _NextHostOnce(FallthroughRetryPolicy):
    """Tries one other host when a connection is lost; all else goes to the caller, who knows what is left to write."""

    def on_request_error(self, query: Any, consistency: Any, error: Any, retry_num: int) -> tuple[Any, None]:
        lost = isinstance(error, ConnectionException) and retry_num == 0
        return (self.RETRY_NEXT_HOST if lost else self.RETHROW), None


class _KeepTrying(ReconnectionPolicy):
    """Looks for a lost node every 5 s, sooner at first; the driver's policies wait for minutes, and give up."""

    def new_schedule(self) -> Iterator[float]:
        delays = itertools.chain((0.5, 1.0, 2.0), itertools.repeat(5.0))
        return (delay * random.uniform(0.8, 1.0) for delay in delays)


def make_cluster(settings: Settings) -> Cluster:
    """Set the driver up from the `cassandra_*` settings; nothing is connected yet.

    Raises:
        ConfigError: a contact point is not `host` or `host:port`.
        StoreUnavailable: no contact point's name can be resolved.
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
            protocol_version=5,
            compression=False,  # a row is far smaller than what compression pays for
            auth_provider=_credentials(settings),
            execution_profiles=profiles,
            connect_timeout=_CONNECT_TIMEOUT_S,
            control_connection_timeout=_CONNECT_TIMEOUT_S,
            reconnection_policy=_KeepTrying(),
            idle_heartbeat_interval=_HEARTBEAT_S,
            idle_heartbeat_timeout=_HEARTBEAT_S,
            status_event_refresh_window=1,
            sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            monitor_reporting_enabled=False,
        )
    except DRIVER_ERRORS as exc:
        raise translated("open", place(settings), exc) from exc


def wait_connected(cluster: Cluster, session: Session, datacenter: str) -> None:
    """Wait until every node that is up is connected, for 2 s at most: the driver goes on after the first."""
    deadline = time.monotonic() + _CONNECT_TIMEOUT_S
    while time.monotonic() < deadline:
        near = [host for host in cast(Metadata, cluster.metadata).all_hosts() if host.datacenter == datacenter]
        connected = session.get_pool_state()
        if all(host in connected or host.is_up is False for host in near):
            return
        time.sleep(_POLL_S)


def check_datacenter(cluster: Cluster, settings: Settings) -> None:
    """Raise ConfigError when the cluster's nodes are known and none is in the local data center."""
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
    """The cluster in words, for messages."""
    return "Cassandra at " + ", ".join(f"{host}:{port}" for host, port in contact_points(settings))


def passing(error: BaseException) -> bool:
    """True for an error that the same request may not meet again: a time-out, a lost connection, an overload."""
    return isinstance(error, _PASSING)


def unreached(error: BaseException) -> bool:
    """True for an error that another node may not give: this one could not be asked, or was lost while it was."""
    return isinstance(error, _UNREACHED)


def translated(action: str, where: str, exc: BaseException) -> StoreError:
    """Return our error for one of the driver's: StoreUnavailable for a passing one, else StoreError.

    Args:
        action: what was tried, as a verb.
        where: the cluster, see `place`.
        exc: the driver's error.
    """
    if isinstance(exc, InvalidRequest) and "does not exist" in str(exc):
        return StoreUnavailable(f"{where} has no feature table ({exc.args[0]}): run `python -m data materialize`")
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
