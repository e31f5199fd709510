"""What windows were seen to be is explained by the events that were missing, or counted early, and by no longer run."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from data.feature_views.events.event import EventCodec, event_key
from data.feature_views.online.explaining_events import SeenWindows
from data.feature_views.online.online_windows import WindowPlan
from data.feature_views.online.stored_events import StoredEvent
from data.schema.events.event_source import EventSource
from data.schema.features.window_feature import Aggregate, WindowFeature

SECOND = 1_000_000
NOW = 10_000 * SECOND
SOURCES = {"swipes": EventSource.model_validate({"entities": ["card"], "values": {"amount": {"decimals": 0}}})}
CODEC = EventCodec(SOURCES["swipes"])


def window(aggregate: Aggregate, seconds: int) -> WindowFeature:
    """A window over all swipes of a card."""
    of = "amount" if aggregate.reads_value else None
    return WindowFeature(
        f"{aggregate.value}_{seconds}", aggregate, seconds * SECOND, 0, "swipes", "card", of, None, False
    )


TELLING = (window(Aggregate.COUNT, 9000), window(Aggregate.SUM, 9000))
COUNT = (window(Aggregate.COUNT, 9000),)


def swipe(key: int, seconds_ago: int, amount: int = 10) -> StoredEvent:
    """A stored swipe of the card."""
    time_us = NOW - seconds_ago * SECOND
    return StoredEvent(time_us, event_key(key), time_us, CODEC.pack([amount, "c1"]))


def seen(windows: Sequence[WindowFeature], counted: Sequence[StoredEvent]) -> SeenWindows:
    """What a row of now is answered with by a store that holds these events."""
    found = WindowPlan(windows, SOURCES).compute([counted], NOW, event_key(0))
    values = {feature.name: each.value for feature, each in zip(windows, found, strict=True)}
    return SeenWindows(windows, SOURCES, NOW, event_key(0), lambda name, value: repr(value) == repr(values[name]))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_a_run_that_was_missing_is_explained(amounts: list[int], data: st.DataObject):
    """Without whatever run: one no longer explains what was seen, and the run itself is named if it is as short."""
    events = [swipe(at, 100 - at, amount) for at, amount in enumerate(amounts)]
    first = data.draw(st.integers(0, len(events) - 1))
    end = data.draw(st.integers(first + 1, len(events)))
    windows = seen(TELLING, [*events[:first], *events[end:]])
    found = windows.missing_runs(events)
    assert found == sorted(found)
    assert len(found[0]) <= end - first
    assert events[first:end] in found or len(found[0]) < end - first


def test_an_event_that_counts_nowhere_explains_nothing():
    """What is the same with all events was not made by a missing one, but where the event is in no window."""
    events = [swipe(at, 100 - at) for at in range(3)]
    assert seen(COUNT, events).missing_runs(events) == []
    old = swipe(9, 9000)
    assert seen(COUNT, events).missing_runs([old, *events]) == [[old]]


def test_what_had_not_arrived_yet_is_found_however_much_it_is():
    """Of many events the last hundred are found, though all runs so long are too many to be tried."""
    events = [swipe(at, 900 - at, at) for at in range(600)]
    assert seen(TELLING, events[:500]).missing_runs(events) == [events[500:]]


def test_an_event_that_was_counted_early_is_named():
    """An event of later than the row explains a value that no missing event does."""
    events, later = [swipe(1, 20), swipe(2, 10)], [swipe(3, -10, 40), swipe(4, -20, 50)]
    windows = seen(TELLING, [*events, swipe(4, 1, 50)])
    assert windows.missing_runs(events) == []
    assert windows.counted_early(events, later) == [later[1]]
