"""Faults of the event store's own on a real Cassandra node: frozen, killed and restarted; and events that expire."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from data.errors import StoreUnavailable
from data.event_store import OwnEvent, RowEvents, RowQuery
from data.event_store.cassandra.store import CassandraEvents
from data.feature_views.events.event import Event, event_key
from data.feature_views.online.online_windows import Slice
from data.schema.events.event_source import EventSource
from tests.support.services.cassandra import Node

SECOND = 1_000_000
YEAR = 365 * 86_400 * SECOND
SOURCES = {"swipes": EventSource.model_validate({"entities": ["card"], "values": ["amount"], "record": True})}
SLICES = (Slice("swipes", "card", YEAR),)

Open = Callable[..., CassandraEvents]


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
def open_(node: Node) -> Iterator[Open]:
    """Opens stores of a use case that is new in every test; closes them in the end."""
    opened: list[CassandraEvents] = []
    use_case = f"cards_{uuid.uuid4().hex[:8]}"

    def open_one(keep_us: int | None = None) -> CassandraEvents:
        opened.append(CassandraEvents(node.settings(), use_case, SOURCES, keep_us, create=True))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def swipe(key: int, time_us: int) -> Event:
    """An event of the one card."""
    return Event(event_key(key), time_us, time_us, ("c",), b"")


def record(store: CassandraEvents, key: int) -> RowEvents:
    """Record a row without a time, and read its card's events."""
    row = RowQuery(event_key(key), None, ("c",), (OwnEvent("swipes", swipe(key, 0), True),))
    return asyncio.run(store.fetch(SLICES, [row], 5.0))[0]


def count(store: CassandraEvents, time_us: int) -> int:
    """The number of the card's events up to a time."""
    return len(asyncio.run(store.fetch(SLICES, [RowQuery(b"?", time_us, ("c",))], 5.0))[0].events[0])


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, which may be unavailable meanwhile; fail after 180 s."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except StoreUnavailable:
            pass
        time.sleep(0.05)
    pytest.fail("it did not come true within 180 s")


@pytest.mark.cassandra
def test_frozen_node_ends_the_call_and_nothing_is_doubled(node: Node, open_: Open):
    """While the node answers nothing a row is not recorded in time; sent again after, it is one event."""
    store = open_()
    record(store, 1)
    node.pause()
    for call in (lambda: record(store, 2), lambda: asyncio.run(store.ping())):
        with pytest.raises(StoreUnavailable):
            call()
    node.resume()
    until(lambda: len(record(store, 2).events[0]) == 2)
    assert len(record(store, 3).events[0]) == 3


@pytest.mark.cassandra
def test_killed_node_has_all_that_was_answered(node: Node, open_: Open):
    """After a kill -9 of the node and its restart every event that was answered is there, and new ones are taken."""
    store = open_()
    before = [record(store, key).time_us for key in range(20)]
    node.kill()
    with pytest.raises(StoreUnavailable):
        record(store, 20)
    node.start()
    until(lambda: count(store, before[-1]) == 20)
    record(store, 21)


@pytest.mark.cassandra
def test_events_stay_for_their_time(open_: Open):
    """An event is dropped once its time to keep is over, one of long ago only so long after it was stored."""
    now = time.time_ns() // 1000
    events = [swipe(1, now), swipe(2, now - YEAR // 2), swipe(3, now + 3600 * SECOND)]
    store = open_(SECOND)
    store.append("swipes", events)
    open_().append("swipes", [swipe(4, now)])
    until(lambda: count(store, now) == 1)
    assert count(store, now + 3600 * SECOND) == 2
