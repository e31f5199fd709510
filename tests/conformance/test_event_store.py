"""The conformance suite of the event stores: what is read of what was stored, and the life of a store."""

from __future__ import annotations

import asyncio
import pickle
import uuid

import pytest

from data.errors import ConfigError, StoreError, StoreUnavailable
from data.event_store import EventOutcome, open_events
from data.feature_views.events.event import Event, event_key
from data.feature_views.online.online_windows import Slice
from data.schema.events.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.settings import Settings
from tests.support.services.event_stores import (
    CARD,
    CARDS,
    HOUR,
    NOW,
    SHOP,
    Open,
    fetch,
    row,
    seen,
    stored,
    swipe,
    swiped,
)


def test_nothing_stored_is_nothing_read(open_: Open):
    """An entity without events has none, and so has one that the row does not name; no rows are no answers."""
    store = open_()
    assert store.append("swipes", []) == []
    assert seen(store, NOW, None) == seen(store, NOW, "nobody") == [[]]
    assert fetch(store) == []


def test_events_come_back_in_order(open_: Open):
    """Ascending in time and then in key, numbers by size before text, whatever the order in which they were stored."""
    store = open_()
    events = [swipe(9, NOW), swipe(10, NOW), swipe("10", NOW), swipe("9", NOW), swipe(1, NOW + 1)]
    assert store.append("swipes", events[::-1]) == [EventOutcome.TAKEN] * 5
    assert seen(store, NOW + 1, "c") == [stored(*events)]


def test_ends_of_a_slice(open_: Open):
    """An event as old as the reach is outside, one at the row's time is inside, and what is later is not read."""
    store = open_()
    events = [swipe(at, NOW + us) for at, us in enumerate((-HOUR, 1 - HOUR, -1, 0, 1))]
    store.append("swipes", events)
    assert seen(store, NOW, "c") == [stored(*events[1:4])]


def test_a_slice_of_many_days(open_: Open):
    """A window of a year reads the events of the whole year."""
    store = open_()
    year = 365 * 24 * HOUR
    events = [swipe(at, NOW - year + 1 + at * 73 * 24 * HOUR) for at in range(5)]
    store.append("swipes", [*events, swipe(9, NOW - year)])
    assert seen(store, NOW, "c", slices=[Slice("swipes", "card", year)]) == [stored(*events)]


def test_each_entity_has_its_events(open_: Open):
    """One event is found by each of its entities; one without an entity by the others; entities do not mix."""
    store = open_()
    both, card, shop = swipe(1, NOW, "x", "y"), swipe(2, NOW, "x", None), swipe(3, NOW, None, "x")
    store.append("swipes", [both, card, shop])
    assert seen(store, NOW, "x", "y", slices=(CARD, SHOP)) == [stored(both, card), stored(both)]
    assert seen(store, NOW, "y", "x", slices=(CARD, SHOP)) == [[], stored(shop)]


def test_sources_and_use_cases_do_not_mix(open_: Open):
    """An event is found in its source and use case alone, and not when the source is made of something else."""
    store, key = open_(), swipe(1, NOW)
    store.append("swipes", [key])
    other = CARDS | {"swipes": EventSource.model_validate({"entities": ["card", "shop"], "values": ["amount"]})}
    assert seen(open_("another"), NOW, "c") == seen(open_(sources=other), NOW, "c") == [[]]
    assert seen(store, NOW, "c", slices=[Slice("reports", "card", HOUR)]) == [[]]


@pytest.mark.parametrize("entity", ["'; DROP TABLE events; --", "日本語", "nul\x00inside", " ", "k" * 10_000])
def test_odd_entities(open_: Open, entity: str):
    """The key of an entity may be any text."""
    store, event = open_(), swipe(1, NOW, entity)
    store.append("swipes", [event])
    assert seen(store, NOW, entity) == [stored(event)]


@pytest.mark.parametrize("entity", ["half a pair \ud800", "k" * 70_000], ids=["surrogate", "too long"])
def test_entities_that_cannot_be_stored(open_: Open, entity: str):
    """Such an entity has no events; an event of it is refused by name, and with it the call."""
    store = open_()
    bad = Event(event_key(2), NOW, NOW, (entity, None), b"")
    assert seen(store, NOW, entity) == [[]]
    with pytest.raises(StoreError, match="is not UTF-8, or is too long"):
        store.append("swipes", [swipe(1, NOW), bad])
    assert seen(store, NOW, "c") == [[]]


def test_event_time_beyond_64_bits(open_: Open):
    """A time that no store can hold is refused by name."""
    with pytest.raises(StoreError, match="146,000 years"):
        open_().append("swipes", [swipe(1, 2**63)])


def test_ping_and_close(open_: Open):
    """An open store answers ping; a closed one raises on every call, and closing again is fine."""
    store = open_()
    asyncio.run(store.ping())
    store.close()
    store.close()
    for call in (
        lambda: fetch(store, row(1, NOW)),
        lambda: fetch(store, swiped(1)),
        lambda: asyncio.run(store.ping()),
        lambda: store.append("swipes", [swipe(1, NOW)]),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_cannot_be_pickled(open_: Open):
    """A store refuses to be sent to another process, and says what to do."""
    with pytest.raises(TypeError, match="open the store where it is used"):
        pickle.dumps(open_())


def test_unclosed_store_is_reported(store_settings: Settings):
    """A store that is dropped without close is a ResourceWarning."""
    with pytest.warns(ResourceWarning, match="unclosed event store"):
        open_events(store_settings, "leaked", CARDS, create=True)


def test_unknown_driver_is_a_config_error():
    """A store that is not known is refused with the names of those that are."""
    unknown = Settings.model_construct(store="redis")
    with pytest.raises(ConfigError, match="known: sqlite, cassandra"):
        open_events(unknown, "v", CARDS)


def test_only_a_scratch_store_is_emptied(open_: Open):
    """Emptied, a scratch store takes the same events again; the live store refuses, and keeps what it has."""
    name = f"cards_{uuid.uuid4().hex[:8]}"
    live, scratch = open_(name), open_(scratch_name(name))
    for store in (live, scratch):
        store.append("swipes", [swipe(1, NOW)])
    scratch.append("swipes", [swipe(2, NOW)])
    assert seen(live, NOW, "c") == [stored(swipe(1, NOW))]
    scratch.empty()
    assert seen(scratch, NOW, "c") == [[]]
    scratch.append("swipes", [swipe(2, NOW)])
    assert seen(scratch, NOW, "c") == [stored(swipe(2, NOW))]
    with pytest.raises(StoreError, match="is live and cannot be emptied"):
        live.empty()
    assert seen(live, NOW, "c") == [stored(swipe(1, NOW))]
