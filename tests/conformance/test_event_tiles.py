"""Hot entities: a store may answer with tiles in place of events, and what is computed is the same."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest

from data.event_store import EventStore, RowQuery, open_events
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.online.online_windows import WindowPlan, WindowValue
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import Aggregate, WindowFeature
from data.settings import Settings
from tests.support.environment.waiting import wait_for

HOUR = 3_600_000_000
NOW = time.time_ns() // 1000 - HOUR
SOURCES = {"swipes": EventSource.model_validate({"entities": ["shop"], "values": {"amount": {"decimals": 2}}})}
CODEC = EventCodec(SOURCES["swipes"])
PLAN = WindowPlan(
    [
        WindowFeature(f"{each.value} {hours}", each, hours * HOUR, 0, "swipes", "shop", of, None, False)
        for each in Aggregate
        for of in ["amount" if each.reads_value else None]
        for hours in (1, 20)
    ],
    SOURCES,
)
MANY = 3000


@pytest.fixture
def store(store_settings: Settings) -> Iterator[EventStore]:
    """A store of one use case that is new in every test."""
    made = open_events(store_settings, f"shops_{uuid.uuid4().hex[:8]}", SOURCES, keep_us=48 * HOUR, create=True)
    yield made
    made.close()


def swipe(key: int, time_us: int) -> Event:
    """An event of the shop."""
    return Event(event_key(key), time_us, time_us, ("s",), CODEC.pack([key * 7919 % 10_007, "s"]))


def computed(store: EventStore, time_us: int, *, tiled: bool = True) -> list[WindowValue]:
    """The windows of a row of the shop."""
    slices = PLAN.slices if tiled else [each._replace(tiles=None) for each in PLAN.slices]
    row = RowQuery(event_key("~"), time_us, ("s",))
    found = asyncio.run(store.fetch(slices, [row], 10.0))[0]
    return PLAN.compute(found.events, found.time_us, row.key, row.own, found.tiles)


def test_a_hot_entity_and_a_late_event(store: EventStore):
    """Once tiles are made and after a late event the windows are those of all events."""
    store.append("swipes", [swipe(at, NOW - 20 * HOUR + at * 20 * HOUR // MANY) for at in range(1, MANY)])
    expected = computed(store, NOW, tiled=False)
    assert computed(store, NOW) == expected
    wait_for(lambda: bool(computed(store, NOW)) and store.tile_work.tiles_read > 0, "the tiles to be read")
    for late in range(5):
        assert computed(store, NOW) == computed(store, NOW, tiled=False)
        store.append("swipes", [swipe(MANY + late, NOW - late * 4 * HOUR - 1)])
        assert computed(store, NOW)[1].events == MANY + late
    assert computed(store, NOW) == computed(store, NOW, tiled=False)
