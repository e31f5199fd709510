"""Read from Cassandra in one process: `get_many` beside plain uses of the driver, and with a frozen node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy
from cassandra.query import PreparedStatement, tuple_factory

from benchmarks.results.figures import percentiles_ms
from data.errors import RayscoreError, StoreUnavailable
from data.online_store import StoredRow
from data.online_store.cassandra.driver import contact_points
from data.online_store.cassandra.store import TABLE, CassandraStore
from data.online_store.cassandra.write_stamp import payload_of
from data.settings import Settings
from tests.support.services.cassandra import Node

VIEW = "benchmark@1"
OURS, SINGLES, CONCURRENT = "get_many", "single reads at once", "execute_concurrent"
_PAYLOAD_BYTES = 120
_READ = 'SELECT entity, payload FROM {}.{} WHERE entity = ? AND "view" = ?'
_WARM_S = 20.0
_WARM_READERS = 8
_BACK_S, _POLL_S = 60.0, 0.05
_STEADY_READS = 300

Read = Callable[[Sequence[str]], Awaitable[list[bytes | None]]]
Samples = dict[tuple[str, int], list[dict[str, float]]]
"""Figures of every round by way and batch size."""


class ReadsFailed(RayscoreError):
    """A read returned other rows than were written, or none."""


@dataclass(frozen=True)
class Stored:
    """A table of generated rows in a cluster; settings are the product's defaults."""

    nodes: list[Node]
    replicas: int
    entities: int

    @property
    def keys(self) -> list[str]:
        """Entity keys of all rows."""
        return [f"user_{i}" for i in range(self.entities)]

    def settings(self, **fields: Any) -> Settings:
        """Settings that connect to the cluster."""
        hosts = ",".join(node.address for node in self.nodes)
        return Settings(
            store="cassandra",
            cassandra_hosts=hosts,
            cassandra_keyspace=f"reads_{self.replicas}",
            cassandra_replication_factor=self.replicas,
            **fields,
        )

    def write(self) -> None:
        """Create the table and write all rows twice, so that replicas that missed a quorum write have them too."""
        payloads = np.random.default_rng(5).bytes(_PAYLOAD_BYTES * self.entities)
        cut = range(0, len(payloads), _PAYLOAD_BYTES)
        rows = [StoredRow(k, 1, payloads[i : i + _PAYLOAD_BYTES]) for k, i in zip(self.keys, cut, strict=True)]
        with closing(CassandraStore(self.settings(), VIEW, create=True)) as store:
            for _ in range(2):
                store.put_many(rows)


async def compare(
    stored: Stored, batches: Sequence[int], rounds: int, seconds: float, warm_s: float = _WARM_S
) -> Samples:
    """Figures of every round by way and batch size: latency in ms, CPU us of this process a key, share of failures."""
    samples: Samples = {}
    with closing(CassandraStore(stored.settings(), VIEW)) as store, _plain(stored) as (session, statement):
        ways = {OURS: store.get_many, **_plain_ways(session, statement)}
        await warm(store, stored.keys, warm_s)
        await _steady(store, stored.keys, 64)
        await _check(stored, ways)
        for _ in range(rounds):
            for batch in batches:
                for name, read in ways.items():
                    samples.setdefault((name, batch), []).append(await _measure(read, stored.keys, batch, seconds))
    return samples


async def warm(store: CassandraStore, keys: list[str], seconds: float = _WARM_S) -> None:
    """Read as fast as it goes, one to eight keys at a time: a node that was just started is slow for a while."""
    deadline = time.monotonic() + seconds

    async def one(reader: int) -> None:
        number = reader
        while time.monotonic() < deadline:
            number += _WARM_READERS
            with suppress(StoreUnavailable):
                await store.get_many([keys[(number * 31 + i) % len(keys)] for i in range(1 + number % 8)])

    await asyncio.gather(*(one(reader) for reader in range(_WARM_READERS)))


async def with_frozen_node(
    stored: Stored, fields: dict[str, object], rate: float, batch: int, seconds: float, *, freeze: bool
) -> dict[str, float]:
    """Figures of reads at a steady rate, from when each was due, while the second node answers nothing.

    Returns percentiles in ms, `max`, and `failed`, the share of reads that raised StoreUnavailable.
    """
    node = stored.nodes[1]
    with closing(CassandraStore(stored.settings(**fields), VIEW)) as store:
        await _steady(store, stored.keys, batch)
        if freeze:
            node.pause()
        try:
            taken, failed = await _at_rate(store, stored.keys, rate, batch, seconds)
        finally:
            node.resume()
        await _steady(store, stored.keys, batch)
    return {**percentiles_ms(taken), "max": max(taken) * 1000, "failed": failed / len(taken)}


async def _measure(read: Read, keys: list[str], batch: int, seconds: float) -> dict[str, float]:
    """Read batches one after the other."""
    taken: list[float] = []
    failed = 0
    picked = np.random.default_rng(batch).integers(0, len(keys), (4096 // batch + 8, batch)).tolist()
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        asked = [keys[i] for i in picked[(len(taken) + failed) % len(picked)]]
        begun = time.perf_counter()
        try:
            await read(asked)
        except StoreUnavailable:
            failed += 1
        else:
            taken.append(time.perf_counter() - begun)
    calls = len(taken) + failed
    cpu_us = (time.process_time() - cpu) * 1e6 / (calls * batch)
    return {**percentiles_ms(taken), "cpu us/key": cpu_us, "failed": failed / calls}


async def _at_rate(
    store: CassandraStore, keys: list[str], rate: float, batch: int, seconds: float
) -> tuple[list[float], int]:
    loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    picked = np.random.default_rng(9).integers(0, len(keys), (int(rate * seconds), batch)).tolist()

    async def one(due: float, indexes: list[int]) -> tuple[float, bool]:
        try:
            await store.get_many([keys[i] for i in indexes])
        except StoreUnavailable:
            return loop.time() - due, False
        return loop.time() - due, True

    tasks = []
    for number, indexes in enumerate(picked):
        due = begun + number / rate
        await asyncio.sleep(max(due - loop.time(), 0))
        tasks.append(asyncio.create_task(one(due, indexes)))
    ended = await asyncio.gather(*tasks)
    return [seconds for seconds, _ in ended], sum(not good for _, good in ended)


async def _steady(store: CassandraStore, keys: list[str], batch: int) -> None:
    """Read until every node has answered in time for a while."""
    deadline, good = time.monotonic() + _BACK_S, 0
    while good < _STEADY_READS:
        if time.monotonic() > deadline:
            raise ReadsFailed(f"reads did not become steady within {_BACK_S:g} s")
        try:
            await store.get_many([keys[(good * batch + i) % len(keys)] for i in range(batch)])
            good += 1
        except StoreUnavailable:
            good = 0


@contextmanager
def _plain(stored: Stored) -> Iterator[tuple[Session, PreparedStatement]]:
    """A session as the driver's manual has it, token-aware, with the cheapest rows."""
    policy = TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc="datacenter1"))
    profile = ExecutionProfile(load_balancing_policy=policy, row_factory=tuple_factory)
    settings = stored.settings()
    with Cluster(
        contact_points(settings),
        protocol_version=5,
        compression=False,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    ) as cluster:
        session = cluster.connect()
        yield session, session.prepare(_READ.format(settings.cassandra_keyspace, TABLE))


def _plain_ways(session: Session, statement: PreparedStatement) -> dict[str, Read]:
    async def singles(keys: Sequence[str]) -> list[bytes | None]:
        return [_payload(rows) for rows in await asyncio.gather(*(_awaited(session, statement, key) for key in keys))]

    async def concurrent(keys: Sequence[str]) -> list[bytes | None]:
        # It blocks, so that a service would pay for a hop to a thread on top of this.
        results = execute_concurrent_with_args(session, statement, [(key, VIEW) for key in keys])
        return [_payload(list(rows)) for _, rows in results]

    return {SINGLES: singles, CONCURRENT: concurrent}


def _payload(rows: list[tuple[str, bytes]]) -> bytes | None:
    return payload_of(rows[0][1]) if rows else None


def _awaited(session: Session, statement: PreparedStatement, key: str) -> asyncio.Future[list[tuple[str, bytes]]]:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[list[tuple[str, bytes]]] = loop.create_future()
    session.execute_async(statement, (key, VIEW)).add_callbacks(
        lambda rows: loop.call_soon_threadsafe(waiting.set_result, rows),
        lambda error: loop.call_soon_threadsafe(waiting.set_exception, error),
    )
    return waiting


async def _check(stored: Stored, ways: dict[str, Read]) -> None:
    """Every way must give the same rows for the first keys."""
    asked = stored.keys[:64]
    ours = await _first_answer(ways[OURS], asked)
    for name in (SINGLES, CONCURRENT):
        found = await ways[name](asked)
        if found != ours or None in found:
            raise ReadsFailed(f"{name} gave other rows than {OURS}")


async def _first_answer(read: Read, asked: Sequence[str]) -> list[bytes | None]:
    """Read until the cluster answers in time."""
    deadline = time.monotonic() + _BACK_S
    while True:
        try:
            return await read(asked)
        except StoreUnavailable as exc:
            if time.monotonic() > deadline:
                raise ReadsFailed(f"the cluster did not answer within {_BACK_S:g} s: {exc}") from exc
            await asyncio.sleep(_POLL_S)
