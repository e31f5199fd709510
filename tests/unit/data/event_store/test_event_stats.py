"""Statistics of a source: what is late, which event is the newest, and how counts of processes are added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.event_store import EventOutcome
from data.event_store.event_stats import LATE_US, EventCounts, EventStats, added
from data.feature_views.events.event import Event

NOW = 1_700_000_000_000_000
DAY = 86_400_000_000
OUTCOMES = st.sampled_from(EventOutcome)
TIMES = st.integers(NOW - 2 * LATE_US, NOW + LATE_US)


def event(time_us: int, known_us: int | None = None) -> Event:
    """An event of a time, known at it or later."""
    return Event(b"k", time_us, time_us if known_us is None else known_us, ("c1",), b"")


def counted(*stored: tuple[Event, EventOutcome]) -> EventCounts:
    """The counts after events were stored now."""
    stats = EventStats()
    stats.stored([each for each, _ in stored], [outcome for _, outcome in stored], NOW)
    return stats.counts


@pytest.mark.parametrize(
    ("given", "late"),
    [
        (event(NOW), 0),
        (event(NOW - LATE_US), 0),
        (event(NOW - LATE_US - 1), 1),
        (event(NOW + 1), 0),
        (event(NOW - 7 * DAY, NOW), 0),
        (event(NOW - 8 * DAY, NOW - DAY), 1),
    ],
    ids=["now", "a minute", "longer", "ahead", "a label just known", "a label known yesterday"],
)
def test_an_event_is_late_by_when_it_was_known(given: Event, late: int):
    """More than a minute after its time, or after the moment that its source's delay or `known_at` gives."""
    assert counted((given, EventOutcome.TAKEN)).late == late


@pytest.mark.parametrize(
    ("outcome", "late", "newest"),
    [
        (EventOutcome.TAKEN, 1, NOW - DAY),
        (EventOutcome.REVISED, 1, NOW - DAY),
        (EventOutcome.REPEATED, 0, NOW - DAY),
        (EventOutcome.SUPERSEDED, 0, None),
        (EventOutcome.CONFLICT, 0, None),
    ],
)
def test_only_what_changes_windows_is_late(outcome: EventOutcome, late: int, newest: int | None):
    """What the store has already comes late for nobody; what it does not keep is not its newest event either."""
    counts = counted((event(NOW - DAY), outcome))
    assert (counts.late, counts.newest_us, counts.total) == (late, newest, 1)
    assert counts.outcomes[outcome] == 1


def test_what_is_read_is_seen():
    """The newest event is the newest that was stored or read, whatever came last."""
    stats = EventStats()
    for time_us in (NOW - 5, NOW, NOW - 9):
        stats.seen(time_us)
    assert stats.counts == EventCounts(newest_us=NOW)


def test_a_restarted_process_counts_from_nothing():
    """Counts that are lower than before are all new; else the increase is."""
    before, after = counted((event(NOW), EventOutcome.TAKEN)), counted((event(NOW), EventOutcome.REPEATED))
    assert (before + after).since(before).outcomes == after.outcomes
    assert after.since(before) == after


@given(st.lists(st.tuples(TIMES, OUTCOMES, st.booleans())))
def test_processes_add_up(stored: list[tuple[int, EventOutcome, bool]]):
    """Events that two processes stored are counted as if one had."""
    one, other, both = EventStats(), EventStats(), EventStats()
    for time_us, outcome, first in stored:
        for stats in (one if first else other, both):
            stats.stored([event(time_us)], [outcome], NOW)
    assert added([{"a": one.counts}, {"a": other.counts}, {}]) == {"a": both.counts}
