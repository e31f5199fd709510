"""Reads from Cassandra: one bounded query for the keys of each owner, and a second owner when the first is late.

The driver has speculative executions of its own, but calls back again when the slower node answers as well, and
sends answered queries anew when that node's connection ends. So each query here goes to one node.
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
from data.settings import Settings

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.pool import Host
    from cassandra.query import PreparedStatement

_KEYS_A_QUERY = 64
_READS_UNDER_WAY = 512  # the driver blocks its caller, here the event loop, when its 32,768 stream ids are taken
_HEDGES_UNDER_WAY = 64  # when every node is late, asking twice must not double the load


class Statements(NamedTuple):
    """Prepared reads of (entity, payload): of one key, of a list of keys. The view is the second parameter."""

    one: PreparedStatement
    some: PreparedStatement


class _Query(NamedTuple):
    """Keys that one node is asked for; `deadline` is loop time."""

    keys: list[str]
    host: Host | None
    deadline: float
    bound: InFlight


class Reader:
    """Reads rows of one view. Belongs to no loop: every call uses the running one.

    Args:
        session: a connected driver session.
        statements: prepared by that session.
        view: name of the rows.
        replicas: whom to ask.
        settings: `cassandra_read_timeout_ms` and `cassandra_speculative_delay_ms`.
    """

    def __init__(
        self, session: Session, statements: Statements, view: str, replicas: TokenReplicas, settings: Settings
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
        """Queries that have neither been answered nor ended."""
        return self._reads.count + self._hedges.count

    async def get(self, keys: list[str], timeout_s: float = math.inf) -> dict[str, bytes]:
        """Return the payloads that there are for different, storable keys, within `timeout_s` seconds or the setting.

        Raises:
            StoreUnavailable: too many reads are under way.
            DRIVER_ERRORS: a query failed, and so did the second, if there was one.
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
        left_s = query.deadline - asyncio.get_running_loop().time()
        try:
            future = self._session.execute_async(bound, timeout=left_s, execution_profile=READ_PROFILE, host=query.host)
        except DRIVER_ERRORS as exc:
            self._errored(exc, gathering, query)
        else:
            future.add_callbacks(self._answered, self._errored, (gathering, query), None, (gathering, query))

    def _answered(self, rows: list[tuple[str, bytes]], gathering: Gathering, query: _Query) -> None:
        query.bound.leave()
        self._replicas.answered(query.host)
        gathering.answer(rows, query.keys)

    def _errored(self, error: Exception, gathering: Gathering, query: _Query) -> None:
        query.bound.leave()
        gathering.call(self._failed, error, gathering, query)

    def _failed(self, error: Exception, gathering: Gathering, query: _Query) -> None:
        if query.bound is self._reads and unreached(error):
            # The owner may be there for other nodes, so that any of them may ask it.
            self._ask_elsewhere(gathering, query, anybody=True)
        gathering.fail(error)

    def _hedge(self, gathering: Gathering, queries: list[_Query]) -> None:
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
