"""Cassandra reads: keys grouped by the node that owns them, one query per group, hedged when that node is late.

One `IN` query for many keys costs a small part of the client CPU of one query per key, but `IN` over keys of
different nodes would make one of them fetch all the others' rows: hence the grouping.

The driver's own speculative execution is not used: it calls back a second time when the slower node answers too, and
sends answered queries again when that node's connection ends. Here every query goes to one node, and the second
query to another owner is sent by `Reader`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from data.errors import StoreUnavailable
from data.online_store.cassandra.async_bridge import Gathering, InFlight
from data.online_store.cassandra.driver import DRIVER_ERRORS, READ_PROFILE, unreached
from data.online_store.cassandra.token_routing import TokenReplicas
from data.online_store.cassandra.write_stamp import payload_of
from data.settings import Settings

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.pool import Host
    from cassandra.query import PreparedStatement

_KEYS_A_QUERY = 64
_READS_UNDER_WAY = 512  # the driver blocks its caller, here the event loop, when its 32,768 stream ids are taken
_HEDGES_UNDER_WAY = 64  # when every node is late, asking twice must not double the load


class ReadStatements(NamedTuple):
    """Prepared SELECTs of (entity, stored value), with the parameters (entity or entities, view)."""

    one: PreparedStatement
    """Reads one key."""
    some: PreparedStatement
    """Reads a list of keys."""


class _Query(NamedTuple):
    """A query for some keys, sent to one node."""

    keys: list[str]
    host: Host | None
    """The node to send it to; None lets the driver choose."""
    deadline: float
    """When the read times out, on the event loop's clock, in seconds."""
    bound: InFlight
    """The limit that it counts against: that of first queries or that of hedges."""


class Reader:
    """Reads rows of one view. Holds no event loop: each call uses the running one, so several loops may share it.

    Args:
        session: a connected driver session.
        statements: prepared by that session.
        view: name of the feature view.
        replicas: which nodes own a key.
        settings: `cassandra_read_timeout_ms` and `cassandra_speculative_delay_ms`.
    """

    def __init__(
        self, session: Session, statements: ReadStatements, view: str, replicas: TokenReplicas, settings: Settings
    ) -> None:
        self._session = session
        self._statements = statements
        self._view = view
        self._replicas = replicas
        self._timeout_s = settings.cassandra_read_timeout_ms / 1000
        self._delay_s = settings.cassandra_speculative_delay_ms / 1000
        self._reads = InFlight(_READS_UNDER_WAY)
        self._hedges = InFlight(_HEDGES_UNDER_WAY)

    @property
    def under_way(self) -> int:
        """Number of queries that have neither an answer nor an error yet, hedges included."""
        return self._reads.count + self._hedges.count

    async def get(self, keys: list[str], timeout_s: float = math.inf) -> dict[str, bytes]:
        """Read the payloads of some keys.

        Args:
            keys: distinct keys that the store can hold (`is_storable`).
            timeout_s: longest time to wait, in seconds; the read timeout of the settings applies as well.

        Returns:
            Payload by key; a key without a row is left out.

        Raises:
            StoreUnavailable: too many reads are under way.
            DRIVER_ERRORS: a query failed, and so did its hedge, if there was one.
        """
        loop = asyncio.get_running_loop()
        groups = self._replicas.grouped(keys)
        queries = list(self._queries(groups, loop.time() + min(self._timeout_s, timeout_s)))
        self._reads.enter(len(queries))
        gathering = Gathering(loop, keys)
        for query in queries:
            self._send(gathering, query)
        hedge = loop.call_later(self._delay_s, self._hedge, gathering, queries) if self._hedged(groups) else None
        try:
            return await gathering.future
        finally:
            if hedge is not None:
                hedge.cancel()

    def _hedged(self, groups: Mapping[Host | None, list[str]]) -> bool:
        return 0 < self._delay_s < self._timeout_s and None not in groups

    def _queries(self, groups: Mapping[Host | None, list[str]], deadline: float) -> Iterator[_Query]:
        for host, owned in groups.items():
            for start in range(0, len(owned), _KEYS_A_QUERY):
                yield _Query(owned[start : start + _KEYS_A_QUERY], host, deadline, self._reads)

    def _send(self, gathering: Gathering, query: _Query) -> None:
        gathering.sent()
        one, some = self._statements
        keys = query.keys
        bound = one.bind((keys[0], self._view)) if len(keys) == 1 else some.bind((keys, self._view))
        left_s = query.deadline - asyncio.get_running_loop().time()  # a hedge gets only what is left
        try:
            future = self._session.execute_async(bound, timeout=left_s, execution_profile=READ_PROFILE, host=query.host)
        except DRIVER_ERRORS as exc:
            self._errored(exc, gathering, query)
        else:
            future.add_callbacks(self._answered, self._errored, (gathering, query), None, (gathering, query))

    def _answered(self, rows: list[tuple[str, bytes]], gathering: Gathering, query: _Query) -> None:
        query.bound.leave()
        self._replicas.answered(query.host)
        gathering.answer([(entity, payload_of(stored)) for entity, stored in rows], query.keys)

    def _errored(self, error: Exception, gathering: Gathering, query: _Query) -> None:
        query.bound.leave()
        gathering.call(self._failed, error, gathering, query)

    def _failed(self, error: Exception, gathering: Gathering, query: _Query) -> None:
        if query.bound is self._reads and unreached(error):
            # The owner is out of reach for this client only, perhaps: another node, even one that owns none of
            # the keys, can still ask it.
            self._ask_elsewhere(gathering, query, anybody=True)
        gathering.fail(error)

    def _hedge(self, gathering: Gathering, queries: list[_Query]) -> None:
        """Ask another owner for the keys of every query that is still open when the hedge delay is over."""
        for query in queries:
            if query.host is not None and gathering.lacks(query.keys):
                self._replicas.mark_late(query.host)
                self._ask_elsewhere(gathering, query, anybody=False)

    def _ask_elsewhere(self, gathering: Gathering, query: _Query, *, anybody: bool) -> None:
        if query.host is None or not gathering.lacks(query.keys):
            return
        for host, keys in self._replicas.elsewhere(query.keys, query.host).items():
            if host is None and not anybody:
                continue
            try:
                self._hedges.enter(1)
            except StoreUnavailable:
                return
            self._send(gathering, _Query(keys, host, query.deadline, self._hedges))
