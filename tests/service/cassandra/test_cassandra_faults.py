"""Cassandra's own faults, on real nodes: killed, frozen, restarted, absent, and rows that expire."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest
from cassandra.cluster import Cluster

from data.errors import ConfigError, StoreUnavailable
from data.online_store import Outcome, StoredRow
from data.online_store.cassandra.driver import contact_points
from data.online_store.cassandra.store import CassandraStore
from data.settings import Settings
from tests.support.environment.ports import free_port
from tests.support.services.cassandra import Node

HANG_S = 20.0
KEYS = [f"user_{i}" for i in range(100)]
ROWS = [StoredRow(key, i + 1, key.encode()) for i, key in enumerate(KEYS)]


@pytest.fixture
def node(cassandra_node: Node) -> Iterator[Node]:
    """The shared node, running again when the test is over, whatever it did to it."""
    if not cassandra_node.running:
        cassandra_node.start()
    yield cassandra_node
    if cassandra_node.running:
        cassandra_node.resume()
    else:
        cassandra_node.start()


@pytest.fixture
def view() -> str:
    """A view that is new in every test."""
    return f"cards@{uuid.uuid4().hex[:8]}"


@pytest.fixture
def store(node: Node, view: str) -> Iterator[CassandraStore]:
    """A store on the shared node that holds ROWS."""
    with closing(CassandraStore(node.settings(), view, create=True)) as made:
        made.put_many(ROWS)
        yield made


async def read(store: CassandraStore, keys: list[str] = KEYS) -> list[bytes | None]:
    """Read; a read that hangs fails the test."""
    return await asyncio.wait_for(store.get_many(keys), HANG_S)


async def works(store: CassandraStore, rows: list[StoredRow] = ROWS) -> bool:
    """True when a read gives all of the rows, False when the store is unavailable."""
    try:
        return await read(store, [row.entity for row in rows]) == [row.payload for row in rows]
    except StoreUnavailable:
        return False


async def fails(store: CassandraStore) -> bool:
    """True when a read raises StoreUnavailable."""
    return not await works(store)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition; fail after 180 s."""
    deadline = time.monotonic() + 180
    while not await condition():
        assert time.monotonic() < deadline, "it did not come true within 180 s"
        await asyncio.sleep(0.05)


@pytest.mark.cassandra
def test_killed_node_comes_back(node: Node, store: CassandraStore):
    """Calls on a node that dies end with StoreUnavailable, also those under way; after its restart the store works."""
    newer = [row._replace(event_us=row.event_us + 1, payload=b"new") for row in ROWS]

    async def scenario() -> None:
        stop = asyncio.Event()
        outcomes: list[bool] = []

        async def keep_reading() -> None:
            while not stop.is_set():
                outcomes.append(await works(store))
                await asyncio.sleep(0)

        readers = [asyncio.create_task(keep_reading()) for _ in range(8)]
        await until(lambda: asyncio.sleep(0, len(outcomes) >= 50))
        assert all(outcomes)
        await asyncio.to_thread(node.kill)
        await until(lambda: asyncio.sleep(0, not any(outcomes[-20:])))
        stop.set()
        await asyncio.gather(*readers)
        with pytest.raises(StoreUnavailable, match=r"cannot read Cassandra at 127\.0\.0\.1:"):
            await read(store, ["user_1"])
        with pytest.raises(StoreUnavailable, match="cannot write Cassandra"):
            await asyncio.to_thread(store.put_many, newer)
        await asyncio.to_thread(node.start)
        await until(lambda: works(store))

    asyncio.run(scenario())
    store.put_many(newer)
    assert asyncio.run(read(store)) == [b"new"] * len(KEYS)


@pytest.mark.cassandra
def test_frozen_node_ends_reads_at_their_timeout(node: Node, view: str):
    """While the node answers nothing, every read ends with StoreUnavailable; it needs no reopening afterwards."""

    async def scenario(store: CassandraStore) -> None:
        node.pause()
        results = await asyncio.gather(*(read(store) for _ in range(20)), return_exceptions=True)
        assert {type(result) for result in results} == {StoreUnavailable}
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.ping(), HANG_S)
        node.resume()
        await until(lambda: works(store))

    with closing(CassandraStore(node.settings(cassandra_read_timeout_ms=500), view, create=True)) as store:
        store.put_many(ROWS)
        asyncio.run(scenario(store))


@pytest.mark.cassandra
def test_writes_outlast_a_frozen_node(node: Node, store: CassandraStore, caplog: pytest.LogCaptureFixture):
    """Writes that time out are sent again, so that a pause of the node loses none of them."""
    caplog.set_level(logging.WARNING, "data.online_store.cassandra.writes")
    newer = [StoredRow(f"late_{i}", 1, b"late") for i in range(2000)]
    node.pause()
    writer = threading.Thread(target=store.put_many, args=(newer,))
    writer.start()
    asyncio.run(until(lambda: asyncio.sleep(0, any("attempt" in record.message for record in caplog.records))))
    node.resume()
    writer.join()
    for start in range(0, len(newer), len(KEYS)):
        part = newer[start : start + len(KEYS)]
        asyncio.run(until(lambda part=part: works(store, part)))


@pytest.mark.cassandra
def test_cancelled_reader_leaves_others_unharmed(node: Node, view: str):
    """A cancelled read neither breaks the reads beside it nor those after it, even when its loop is gone."""

    async def abandon(store: CassandraStore) -> None:
        node.pause()
        tasks = [asyncio.create_task(read(store)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        node.resume()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert others == [[row.payload for row in ROWS]] * 2
        node.pause()
        asyncio.create_task(store.get_many(KEYS)).add_done_callback(lambda task: task.cancelled())
        await asyncio.sleep(0)

    with closing(CassandraStore(node.settings(), view, create=True)) as store:
        store.put_many(ROWS)
        asyncio.run(abandon(store))  # ends, and closes its loop, with a read under way
        node.resume()
        asyncio.run(until(lambda: works(store)))


@pytest.mark.cassandra
def test_too_many_reads_are_refused(node: Node, view: str):
    """Above the bound on requests under way a read is refused at once instead of blocking the loop; later as before."""

    async def scenario(store: CassandraStore) -> None:
        for _ in range(3):
            node.pause()
            reads = [asyncio.create_task(read(store, [row.entity])) for row in ROWS * 6]
            await until(lambda reads=reads: asyncio.sleep(0, any(task.done() for task in reads)))
            node.resume()
            results = await asyncio.gather(*reads, return_exceptions=True)
            refused = [result for result in results if isinstance(result, StoreUnavailable)]
            assert len(refused) == 600 - 512
            assert all("more than" in str(error) for error in refused)
            assert store.under_way == 0

    with closing(CassandraStore(node.settings(), view, create=True)) as store:
        store.put_many(ROWS)
        asyncio.run(until(lambda: works(store)))
        asyncio.run(scenario(store))


@pytest.mark.cassandra
def test_opening_and_closing_leaves_nothing(node: Node, store: CassandraStore, view: str):
    """Twenty sessions one after the other, each closed under reads, leave no file, socket or thread behind."""

    async def abandon(short_lived: CassandraStore) -> list[object]:
        reads = [asyncio.create_task(read(short_lived)) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(short_lived.close)
        return list(await asyncio.gather(*reads, return_exceptions=True))

    async def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    async def given_back(files: int, threads: int) -> bool:
        now_files, now_threads = await held()
        return now_files <= files and now_threads <= threads

    def restart() -> None:
        answers = asyncio.run(abandon(CassandraStore(node.settings(), view)))
        assert all(isinstance(answer, (list, StoreUnavailable)) for answer in answers)

    restart()  # the driver's loop thread is there from the first session on
    before = asyncio.run(held())
    for _ in range(20):
        restart()
    asyncio.run(until(lambda: given_back(*before)))
    assert asyncio.run(works(store))


def test_no_node_at_start_names_what_was_tried():
    """Where nothing listens, opening fails with the address and the reason."""
    port = free_port()
    settings = Settings(store="cassandra", cassandra_hosts=f"127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=rf"cannot open Cassandra at 127\.0\.0\.1:{port}.*tried.*refused"):
        CassandraStore(settings, "v@1", create=True)


def test_unknown_host_name():
    """A host name that cannot be resolved is named."""
    settings = Settings(store="cassandra", cassandra_hosts="no-such-host.invalid")
    with pytest.raises(StoreUnavailable, match=r"no-such-host\.invalid"):
        CassandraStore(settings, "v@1")


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("a", [("a", 9042)]),
        ("a:1, b ,a:1", [("a", 1), ("b", 9042)]),
        ("[::1]:7,::1", [("::1", 7), ("::1", 9042)]),
    ],
)
def test_contact_points(text: str, points: list[tuple[str, int]]):
    """Contact points are host, host:port or [IPv6]:port, separated by commas."""
    assert contact_points(Settings(cassandra_hosts=text)) == points


@pytest.mark.parametrize("text", ["", "a:", "a:x", "a:0", "a:70000", "a,,b", ":9042"])
def test_wrong_contact_points(text: str):
    """A contact point of another form is a mistake in the settings, not an outage."""
    with pytest.raises(ConfigError, match="is not host or host:port"):
        contact_points(Settings.model_construct(cassandra_hosts=text, cassandra_port=9042))


@pytest.mark.cassandra
def test_reader_without_table(node: Node):
    """A reader makes neither keyspace nor table: it names the command that does."""
    with pytest.raises(StoreUnavailable, match=r"no table nothing_here\.feature_rows_v2.*rayscore materialize"):
        CassandraStore(node.settings(cassandra_keyspace="nothing_here"), "v@1")


@pytest.mark.cassandra
def test_wrong_datacenter(node: Node):
    """A data center that the cluster does not have is an error at start, not reads that never find a replica."""
    with pytest.raises(ConfigError, match=r"DATACENTER.*no data center 'nowhere', but: datacenter1"):
        CassandraStore(node.settings(cassandra_datacenter="nowhere"), "v@1")


@pytest.mark.cassandra
def test_rows_are_dropped_in_time(node: Node, view: str):
    """A row is dropped when its time to live is over since it was written; one past it by its event time is refused."""

    async def gone(store: CassandraStore) -> bool:
        return await read(store, ["going"]) == [None]

    with closing(CassandraStore(node.settings(), view, ttl_seconds=20, create=True)) as store:
        now_us = time.time_ns() // 1000
        rows = [StoredRow("going", now_us, b"x"), StoredRow("gone", now_us - 21_000_000, b"y")]
        assert store.put_many(rows) == [Outcome.WRITTEN, Outcome.EXPIRED]
        assert asyncio.run(read(store, ["going", "gone"])) == [b"x", None]
        asyncio.run(until(lambda: gone(store)))


@pytest.mark.cassandra
def test_unchanged_row_lives_as_long_as_it_should(node: Node, view: str):
    """A row that is there already is written again when its time to live has been lengthened since."""
    now_us = time.time_ns() // 1000
    row, witness = StoredRow("k", now_us, b"x"), StoredRow("left alone", now_us, b"y")

    async def witness_is_gone(store: CassandraStore) -> bool:
        return await read(store, ["left alone"]) == [None]

    with closing(CassandraStore(node.settings(), view, ttl_seconds=15, create=True)) as store:
        store.put_many([row, witness])
    with closing(CassandraStore(node.settings(), view, ttl_seconds=3600)) as store:
        assert store.put_many([row, row]) == [Outcome.UNCHANGED] * 2
        asyncio.run(until(lambda: witness_is_gone(store)))
        assert asyncio.run(read(store, ["k"])) == [b"x"]


@pytest.mark.cassandra
def test_rows_of_an_earlier_layout_are_not_read(node: Node, view: str):
    """Rows that an earlier version has written, without stamps, are no rows, and do not hide those written now."""
    with closing(CassandraStore(node.settings(), view, create=True)) as store:
        with Cluster([(node.host, node.port)]) as cluster:
            session = cluster.connect(node.settings().cassandra_keyspace)
            session.execute(
                'CREATE TABLE IF NOT EXISTS feature_rows (entity text, "view" text, payload blob, '
                'PRIMARY KEY ((entity), "view"))'
            )
            written = 'INSERT INTO feature_rows (entity, "view", payload) VALUES (%s, %s, %s) USING TIMESTAMP 5'
            session.execute(written, ("k", view, b"\xf5 without a stamp"))
        assert asyncio.run(read(store, ["k"])) == [None]
        assert store.put_many([StoredRow("k", 5, b"x")]) == [Outcome.WRITTEN]
        assert asyncio.run(read(store, ["k"])) == [b"x"]
