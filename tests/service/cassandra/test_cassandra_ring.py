"""Three Cassandra nodes: whom a read asks, and what it does when a node is killed or frozen."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement

from data.errors import StoreUnavailable
from data.online_store import StoredRow
from data.online_store.cassandra.store import TABLE, CassandraStore
from data.settings import Settings
from tests.support.services.cassandra import Node, ring

HANG_S = 40.0
ROWS = [StoredRow(f"user_{i}", 1, str(i).encode()) for i in range(300)]
KEYS = [row.entity for row in ROWS]
PAYLOADS = [row.payload for row in ROWS]


@pytest.fixture(scope="module")
def ring_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """A ring of three nodes."""
    started = ring(tmp_path_factory.mktemp("ring"))
    yield started
    for node in started:
        node.kill()


@pytest.fixture
def nodes(ring_nodes: list[Node]) -> Iterator[list[Node]]:
    """The ring, none of its nodes frozen when the test is over."""
    yield ring_nodes
    for node in ring_nodes:
        if node.running:
            node.resume()


@contextmanager
def opened(nodes: list[Node], replicas: int, **fields: object) -> Iterator[CassandraStore]:
    """A store in a keyspace of its own, with ROWS on every replica; it has seen every node answer."""
    keyspace = f"test_{uuid.uuid4().hex[:8]}"
    # Three cold JVMs on two cores pause for seconds: reads must outlast that, and the tests wait for none to end.
    chosen = {"cassandra_read_timeout_ms": 20_000, **fields}
    settings = nodes[0].settings(cassandra_keyspace=keyspace, cassandra_replication_factor=replicas, **chosen)
    with closing(CassandraStore(settings, "cards@1", create=True)) as store:
        store.put_many(ROWS)
        asyncio.run(until(lambda: asyncio.to_thread(replicated, nodes, keyspace)))
        asyncio.run(until(lambda: works(store)))
        yield store


def replicated(nodes: list[Node], keyspace: str) -> bool:
    """True when every node finds all of ROWS by itself; a read at ALL repairs those that a quorum left behind.

    Its answer says nothing of the replicas: on a busy machine one was seen to lack rows after it, and reads at
    LOCAL_ONE found no row there. So each node is asked on its own.
    """
    assert rows_found(nodes[0], keyspace, ConsistencyLevel.ALL) == len(ROWS)
    return all(rows_found(node, keyspace, ConsistencyLevel.ONE) == len(ROWS) for node in nodes)


def rows_found(node: Node, keyspace: str, consistency: int) -> int:
    """Number of rows that a node finds in the table."""
    query = SimpleStatement(f"SELECT * FROM {keyspace}.{TABLE}", fetch_size=len(ROWS))
    profile = ExecutionProfile(WhiteListRoundRobinPolicy([node.host]), None, consistency, request_timeout=HANG_S)
    profiles = {EXEC_PROFILE_DEFAULT: profile}
    with Cluster([(node.host, node.port)], execution_profiles=profiles, control_connection_timeout=HANG_S) as cluster:
        return len(cluster.connect().execute(query).all())


def owned_by(node: Node, seen_from: Node, settings: Settings) -> set[str]:
    """The keys whose first replica is a node, by the driver's own metadata."""
    with Cluster([(seen_from.host, seen_from.port)], control_connection_timeout=HANG_S) as cluster:
        cluster.connect()
        assert cluster.metadata is not None
        owners = {key: cluster.metadata.get_replicas(settings.cassandra_keyspace, key.encode())[0] for key in KEYS}
    return {key for key, owner in owners.items() if owner.address == node.host}


async def read(store: CassandraStore, keys: list[str] = KEYS) -> list[bytes | None]:
    """Read; a read that hangs fails the test."""
    return await asyncio.wait_for(store.get_many(keys), HANG_S)


async def works(store: CassandraStore) -> bool:
    """True when a read gives all of ROWS."""
    try:
        return await read(store) == PAYLOADS
    except StoreUnavailable:
        return False


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fail after 180 s."""
    deadline = time.monotonic() + 180
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true within 180 s"
        await asyncio.sleep(0.05)


async def singles_and_batches(store: CassandraStore, rounds: int) -> None:
    """Read one key and all keys, several at once; every answer must be right."""
    for number in range(rounds):
        picked = [(number * 7 + i) % len(KEYS) for i in range(20)]
        found = await asyncio.gather(read(store), *(read(store, [KEYS[i]]) for i in picked))
        assert found == [PAYLOADS, *([PAYLOADS[i]] for i in picked)]


@pytest.mark.cassandra
@pytest.mark.parametrize(("replicas", "consistency"), [*itertools.product((1, 2, 3), ("LOCAL_ONE", "LOCAL_QUORUM"))])
def test_reads_with_any_replication(nodes: list[Node], replicas: int, consistency: str):
    """Single reads and batches are right whatever the replication factor and the consistency."""
    with opened(nodes, replicas, cassandra_read_consistency=consistency) as store:
        asyncio.run(singles_and_batches(store, 20))


@pytest.mark.cassandra
def test_only_owners_are_asked(nodes: list[Node]):
    """With one replica a frozen node holds up its own keys only: no other key's read goes by way of it."""
    settings = nodes[0].settings(cassandra_keyspace=f"test_{uuid.uuid4().hex[:8]}", cassandra_replication_factor=1)
    with closing(CassandraStore(settings, "cards@1", create=True)) as store:
        store.put_many(ROWS)
        asyncio.run(until(lambda: works(store)))
        frozen = owned_by(nodes[1], nodes[0], settings)
        others = [row for row in ROWS if row.entity not in frozen]
        assert 0 < len(others) < len(ROWS)
        nodes[1].pause()
        for _ in range(20):
            assert asyncio.run(read(store, [row.entity for row in others])) == [row.payload for row in others]
            assert asyncio.run(read(store, [others[0].entity])) == [others[0].payload]
        nodes[1].resume()
        impatient = settings.model_copy(update={"cassandra_read_timeout_ms": 1500})
        with closing(CassandraStore(impatient, "cards@1")) as other:
            nodes[1].pause()
            with pytest.raises(StoreUnavailable):
                asyncio.run(read(other))
        nodes[1].resume()
        asyncio.run(until(lambda: works(store)))


@pytest.mark.cassandra
def test_frozen_replica_is_made_up_for(nodes: list[Node]):
    """With three replicas one node may hang under reads, and be let go again: no read fails, every answer is right."""

    async def scenario(store: CassandraStore) -> None:
        for node in nodes[1:]:
            node.pause()
            await singles_and_batches(store, 10)
            node.resume()  # its late answers arrive now, beside those that were taken in their place
            await singles_and_batches(store, 10)

    with opened(nodes, 3, cassandra_speculative_delay_ms=20) as store:
        asyncio.run(scenario(store))


@pytest.mark.cassandra
def test_without_speculation_reads_wait_for_a_frozen_replica(nodes: list[Node]):
    """A delay of 0 asks one replica only, so that reads of a frozen node's keys end at their timeout."""
    with opened(nodes, 3, cassandra_speculative_delay_ms=0, cassandra_read_timeout_ms=1500) as store:
        nodes[1].pause()
        with pytest.raises(StoreUnavailable):
            asyncio.run(read(store))
        nodes[1].resume()
        asyncio.run(until(lambda: works(store)))


@pytest.mark.cassandra
def test_second_reads_are_counted_once(nodes: list[Node]):
    """Reads that were answered by two nodes are under way no more, and no fewer than none."""

    async def scenario(store: CassandraStore) -> None:
        for _ in range(3):
            nodes[1].pause()
            await singles_and_batches(store, 5)
            nodes[1].resume()
            await until(lambda: works(store))
        await until(lambda: asyncio.sleep(0, store.under_way == 0))

    with opened(nodes, 3, cassandra_speculative_delay_ms=20) as store:
        asyncio.run(scenario(store))


@pytest.mark.cassandra
def test_ring_survives_a_killed_node(nodes: list[Node]):
    """With three replicas one node may be killed under reads: no read fails, and writes reach a quorum."""

    async def scenario(store: CassandraStore) -> None:
        killing = asyncio.create_task(asyncio.to_thread(nodes[1].kill))
        reads = 0
        while not killing.done() or reads < 50:
            assert await read(store) == PAYLOADS
            one = reads % len(KEYS)
            assert await read(store, [KEYS[one]]) == [PAYLOADS[one]]
            reads += 1
        await killing

    with opened(nodes, 3) as store:
        asyncio.run(scenario(store))
        store.put_many([row._replace(event_us=2, payload=b"new") for row in ROWS])
        assert asyncio.run(read(store)) == [b"new"] * len(KEYS)
    nodes[1].start()
