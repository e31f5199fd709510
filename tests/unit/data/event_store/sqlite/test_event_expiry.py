"""What becomes of old events: they are removed when the settings say so, and never one that a window may read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from data.event_store import EventOutcome, RowQuery, events_max_age_us
from data.event_store.sqlite.event_expiry import EventExpiry
from data.event_store.sqlite.event_file import EventFile
from data.event_store.sqlite.event_table import FiledSource
from data.event_store.sqlite.followed_table import FollowedTable
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.events.event import Event, event_key
from data.feature_views.online.online_windows import Slice
from data.schema.events.event_source import EventEntity, EventSource
from data.settings import Settings
from tests.support.environment.waiting import wait_for

SOURCES = {name: EventSource(entities=(EventEntity(name="c", columns=("c",)),)) for name in ("swipes", "reports")}
DAY = 86_400_000_000
NOW = 1_700_000_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteEvents]:
    """A store with 1,500 events of each source, one an hour."""
    with closing(SqliteEvents(tmp_path / "events.db", "cards", SOURCES, create=True)) as made:
        for source in SOURCES:
            hours = [NOW - at * DAY // 24 for at in range(1_500)]
            # Keys that have nothing to do with the times.
            made.append(
                source, [Event(event_key(at * 7919 % 1_500), us, us, ("card",), b"") for at, us in enumerate(hours)]
            )
        yield made


@contextmanager
def expiry(tmp_path: Path, age_us: int, clock: Callable[[], int] = lambda: NOW) -> Iterator[EventExpiry]:
    """What removes events older than an age, at hand and not in its thread."""
    filed = {name: FiledSource(f"cards.{name}@{source.fingerprint}", 1) for name, source in SOURCES.items()}
    made = EventExpiry(FollowedTable(EventFile(tmp_path / "events.db", 10.0), filed, 10.0), SOURCES, age_us, clock)
    try:
        yield made
    finally:
        made.stop()


def times(store: SqliteEvents, source: str) -> list[int]:
    """The times of a source's events that windows of 100 days read."""
    row = RowQuery(event_key("?"), NOW, ("card",))
    return [event.time_us for event in asyncio.run(store.fetch([Slice(source, "c", 100 * DAY)], [row]))[0].events[0]]


def test_old_events_of_all_sources_are_removed(store: SqliteEvents, tmp_path: Path):
    """One round removes what is older than the age, to the microsecond, of each source, and counts it."""
    with expiry(tmp_path, 10 * DAY) as old:
        old.sweep()
        assert old.removed == 2 * (1_500 - 241)
    for source in SOURCES:
        assert times(store, source) == [NOW - at * DAY // 24 for at in range(240, -1, -1)]


def test_rounds_go_on_as_time_does(store: SqliteEvents, tmp_path: Path):
    """What has become old since is removed by a later round; what is removed may come again as a new event."""
    clock = iter([NOW, NOW, NOW + DAY])
    with expiry(tmp_path, 10 * DAY, lambda: next(clock)) as old:
        for removed in (2 * 1_259, 2 * 1_259, 2 * 1_283):
            old.sweep()
            assert old.removed == removed
    assert len(times(store, "swipes")) == 217
    back = Event(event_key(1_499 * 7919 % 1_500), NOW - 1_499 * DAY // 24, NOW, ("card",), b"")
    assert store.append("swipes", [back]) == [EventOutcome.TAKEN]
    assert times(store, "swipes")[0] == back.time_us


def test_a_store_removes_by_itself(tmp_path: Path, store: SqliteEvents):
    """A store that is opened with an age removes what is older without being asked, and says how much."""
    with closing(
        SqliteEvents(tmp_path / "events.db", "cards", SOURCES, clock=lambda: NOW, max_age_us=10 * DAY)
    ) as other:
        wait_for(lambda: other.expired == 2 * 1_259, "old events to be removed")
    assert len(times(store, "swipes")) == 241
    assert store.expired == 0


@pytest.mark.parametrize(
    ("days", "keep_days", "kept_days"), [(0, 30, None), (60, None, None), (60, 30, 60), (0.5, 30, 31)]
)
def test_what_a_window_may_read_is_kept(days: float, keep_days: int | None, kept_days: int | None):
    """No age, no removal; and never before a day more than the longest window."""
    keep_us = None if keep_days is None else keep_days * DAY
    kept_us = events_max_age_us(Settings(events_max_age_days=days), keep_us)
    assert kept_us == (None if kept_days is None else kept_days * DAY)
