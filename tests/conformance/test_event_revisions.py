"""The conformance suite of the event stores: an event that comes again, with the same content or another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.event_store import EventOutcome, EventStore, RowQuery
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.online.online_windows import WindowPlan
from data.schema.features.window_feature import Aggregate, WindowFeature
from tests.support.services.event_stores import CARDS, HOUR, NOW, REPORTS, Open, fetch, report, seen, stored, swipe


def test_a_repeat_changes_nothing(open_: Open, looks: bool):
    """The same events again, in the same call or a later one, are what they were."""
    store, event = open_(), swipe(1, NOW)
    again = EventOutcome.REPEATED if looks else EventOutcome.TAKEN
    assert store.append("swipes", [event, event]) == [EventOutcome.TAKEN, again]
    assert store.append("swipes", [event]) == [again]
    assert seen(store, NOW, "c") == [stored(event)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_content_known_latest_stays(open_: Open, order: Sequence[int], looks: bool):
    """Of three contents of a key, at two times and of two cards, the one known latest, in whatever order they come."""
    store = open_()
    contents = [
        report(1, NOW, NOW + 1, fraud=1),
        report(1, NOW + 5, NOW + 9, "d", fraud=2),
        report(1, NOW, NOW + 20, fraud=3),
    ]
    for each in order:
        outcome = store.append("reports", [contents[each]])[0]
        assert outcome in (EventOutcome.TAKEN, EventOutcome.REVISED, EventOutcome.SUPERSEDED)
    if looks:
        assert store.append("reports", contents) == [EventOutcome.SUPERSEDED] * 2 + [EventOutcome.REPEATED]
        assert seen(store, NOW + 9, "d", slices=[REPORTS]) == [[]]
    assert seen(store, NOW + 9, "c", slices=[REPORTS]) == [stored(contents[2])]


def test_another_content_known_since_the_same_time_is_refused(open_: Open, looks: bool):
    """Where the store can tell it says so, and keeps the first; of two contents at most one is ever read."""
    store = open_()
    first, other = report(1, NOW, NOW + 1, fraud=1), report(1, NOW, NOW + 1, fraud=2)
    outcomes = store.append("reports", [first, other])
    found = seen(store, NOW, "c", slices=[REPORTS])
    if looks:
        assert (outcomes, found) == ([EventOutcome.TAKEN, EventOutcome.CONFLICT], [stored(first)])
    assert found in ([stored(first)], [stored(other)])


PLAN = WindowPlan(
    [
        WindowFeature(f"{source}_{aggregate.value}", aggregate, HOUR, 0, source, "card", of, None, False)
        for source, of in (("swipes", "amount"), ("reports", "fraud"))
        for aggregate in (Aggregate.COUNT, Aggregate.SUM, Aggregate.LAST, Aggregate.STD)
    ],
    CARDS,
)


counter = itertools.count()


@pytest.fixture
def cache() -> dict[str, EventStore]:
    """Keeps one open store across the examples of a property."""
    return {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_of_arrival_decides_nothing(open_: Open, data: st.DataObject, cache: dict[str, EventStore]):
    """Whatever the order, the calls and the repeats in which events and revisions come, the windows are the same."""
    store = cache.setdefault("store", cache.get("store") or open_())
    run = f"run {next(counter)}"
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=12))
    swipes = {key: swipe(f"{run}/{key}", NOW - time_us, run, amount=amount) for key, time_us, amount in drawn}
    reports = {}
    for key, time_us, known in drawn:
        # A content for each moment of knowing, so that no two are known since the same.
        each = Event(event_key(f"{run}/{key}"), NOW - time_us % 2, NOW + known, (run,), b"")
        reports[key, known] = each._replace(payload=EventCodec(CARDS["reports"]).pack([known, run]))
    sent = [("swipes", each) for each in swipes.values()] + [("reports", each) for each in reports.values()]
    sent += data.draw(st.lists(st.sampled_from(sent), max_size=5)) if sent else []
    for source, each in data.draw(st.permutations(sent)):
        store.append(source, [each])
    query = RowQuery(event_key("~"), NOW + 10, (run,) * 2)
    found = fetch(store, query, slices=PLAN.slices)[0]
    latest: dict[bytes, Event] = {}
    for each in sorted(reports.values(), key=lambda event: event.known_us):
        latest[each.key] = each
    expected = [sorted(stored(*swipes.values())), sorted(stored(*latest.values()))]
    assert [list(each) for each in found.events] == expected
    assert PLAN.compute(found.events, NOW + 10, query.key) == PLAN.compute(expected, NOW + 10, query.key)
