"""Tiles of the Cassandra event store: whatever is written, by whichever process, they stand for what the events are."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from data.event_store import OwnEvent, RowEvents, RowQuery
from data.event_store.cassandra.store import CassandraEvents
from data.event_store.tile_making import TileRules
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.online.online_windows import WindowPlan, WindowValue
from data.schema.events.event_source import EventSource
from data.schema.features.expression import parse_condition
from data.schema.features.window_feature import Aggregate, WindowFeature
from data.schema.scratch_name import scratch_name
from tests.support.environment.waiting import wait_for
from tests.support.services.cassandra import Node

pytestmark = pytest.mark.cassandra

SECOND = 1_000_000
MINUTE = 60 * SECOND
SOURCES = {
    "swipes": EventSource.model_validate({"entities": ["shop"], "values": {"amount": {"decimals": 2}}, "record": True}),
    "reports": EventSource.model_validate(
        {"entities": ["shop"], "values": {"amount": {"decimals": 2}}, "key": "id", "time": "at", "known_at": "known"}
    ),
}
CODEC = EventCodec(SOURCES["swipes"])
PLAN = WindowPlan(
    [
        WindowFeature(
            f"{source} {each.value} {minutes}",
            *(each, minutes * MINUTE, 0, source, "shop", "amount" if each.reads_value else None),
            parse_condition("amount > 5") if minutes == 30 else None,
            False,
        )
        for source in SOURCES
        for each in Aggregate
        for minutes in (30, 300)
    ],
    SOURCES,
)
SMALL = TileRules(hot=4, events=2, fan_out=2, settle_us=MINUTE)
COUNT = 1
"""The place of the number of events of the longer window."""

Open = Callable[..., CassandraEvents]


@pytest.fixture
def open_(cassandra_node: Node) -> Iterator[Open]:
    """Opens stores with small tiles, of a use case that is new in every test; closes them in the end."""
    opened: list[CassandraEvents] = []
    fresh = f"shops_{uuid.uuid4().hex[:8]}"

    def open_one(use_case: str = fresh, clock: Callable[[], int] | None = None) -> CassandraEvents:
        clocked = {} if clock is None else {"clock": clock}
        settings = cassandra_node.settings()
        store = CassandraEvents(settings, use_case, SOURCES, 600 * MINUTE, create=True, rules=SMALL, **clocked)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        store.close()


def made(key: int | str, time_us: int, known_us: int = 0, amount: int = 100) -> Event:
    """An event of the shop."""
    return Event(event_key(key), time_us, max(known_us, time_us), ("s",), CODEC.pack([amount, "s"]))


def read(store: CassandraEvents, time_us: int | None, key: str = "~", own: tuple[OwnEvent, ...] = ()) -> RowEvents:
    """Read what a row of the shop needs, from tiles where there are some."""
    row = RowQuery(event_key(key), time_us, ("s",) * len(PLAN.slices), own)
    return asyncio.run(store.fetch(PLAN.slices, [row], 30.0))[0]


def windows(found: RowEvents, key: str = "~") -> list[WindowValue]:
    """The windows of a row."""
    return PLAN.compute(found.events, found.time_us, event_key(key), (), found.tiles)


def from_events(store: CassandraEvents, time_us: int, key: str = "~") -> list[str]:
    """The windows of a row, to the bit, from events alone."""
    slices = [each._replace(tiles=None) for each in PLAN.slices]
    row = RowQuery(event_key(key), time_us, ("s",) * len(slices))
    found = asyncio.run(store.fetch(slices, [row], 30.0))[0]
    assert not found.tiles
    return [*map(repr, windows(found, key))]


def check(store: CassandraEvents, time_us: int, key: str = "~") -> RowEvents:
    """Read a row's windows from tiles: they are those of the events."""
    found = read(store, time_us, key)
    assert [*map(repr, windows(found, key))] == from_events(store, time_us, key)
    return found


def filled(store: CassandraEvents, now: int) -> None:
    """Store 60 events of each source, a few minutes apart, and wait until most are in tiles."""
    for source in SOURCES:
        store.append(source, [made(at, now - (295 - 4 * at) * MINUTE, amount=at * 7 % 11 * 100) for at in range(60)])
    wait_for(lambda: _has_tiles(store, now), "the tiles to be made", 60)


def _has_tiles(store: CassandraEvents, now: int) -> bool:
    found = check(store, now)
    return all(len(events) < 40 for events in found.events) and all(found.tiles)


def test_whatever_is_written_tiles_are_what_the_events_are(open_: Open):
    """Late events, revisions that move an event, repeats at another time, conflicts, by two stores in turn: each read
    of either equals that from events, and the tiles that one has made the other takes as they are."""
    rnd, now = random.Random(3), time.time_ns() // 1000
    one, other = open_(), open_()
    filled(one, now)
    wait_for(lambda: _has_tiles(other, now), "the tiles to be taken", 60)
    assert other.tile_work.events_folded < one.tile_work.events_folded / 2
    for step in range(40):
        writer, source = rnd.choice([one, other]), rnd.choice([*SOURCES])
        key = rnd.choice([rnd.randrange(60), 1000 + step])
        at = now - rnd.randrange(300) * MINUTE
        writer.append(source, [made(key, at, at + rnd.randrange(3) * MINUTE, rnd.randrange(2000))])
        for store in (one, other):
            check(store, now - rnd.choice([0, 0, rnd.randrange(100)]) * MINUTE - rnd.randrange(2), f"{step}")
    assert one.tile_work.tiles_read > 100


def test_a_row_without_time_sent_again_is_one_event(open_: Open):
    """Its first event is in a tile when it comes again: it keeps the time it had, and counts once for all others."""
    now = [time.time_ns() // 1000 - 200 * MINUTE]

    def clock() -> int:
        return now[0]

    store = open_(clock=clock)
    store.append("swipes", [made(at, now[0] - (100 - at) * MINUTE) for at in range(100)])
    own = OwnEvent("swipes", made("row", 0), True)
    first = read(store, None, "row", (own,))
    now[0] += 100 * MINUTE
    store.append("swipes", [made(200 + at, now[0] - (90 - at) * MINUTE) for at in range(90)])

    def in_a_tile() -> bool:
        found = read(store, now[0])
        return bool(found.tiles) and event_key("row") not in {event.key for event in found.events[0]}

    wait_for(in_a_tile, "the row's event to be in a tile", 60)
    again = read(store, None, "row", (own,))
    assert again.time_us == first.time_us
    assert windows(again, "row") == windows(first, "row")
    now[0] += MINUTE
    assert windows(check(store, now[0]))[COUNT].events == 191


def test_an_emptied_scratch_store_has_no_tiles(open_: Open):
    """Another process empties it: tiles in this one's memory are not read any more."""
    now, name = time.time_ns() // 1000, scratch_name(f"shops_{uuid.uuid4().hex[:8]}")
    store, other = open_(name), open_(name)
    filled(store, now)
    other.empty()
    assert windows(check(store, now))[COUNT].events == 0
    other.append("swipes", [made(1, now - 10 * MINUTE)])
    assert windows(check(store, now))[COUNT].events == 1


def test_live_events_cost_no_marks(open_: Open):
    """An event of this moment is seen at once beside the tiles, which stay as they are; a late one takes some away."""
    now = time.time_ns() // 1000
    store = open_()
    filled(store, now)
    before = len(read(store, now).tiles[0])
    live = time.time_ns() // 1000
    store.append("swipes", [made("live", live)])
    found = check(store, live)
    assert event_key("live") in {event.key for event in found.events[0]}
    assert len(found.tiles[0]) >= before - 2
    store.append("swipes", [made("late", now - 100 * MINUTE)])
    assert event_key("late") in {event.key for event in check(store, live).events[0]}
