"""The last minutes of each source of events: rates, shares and the newest event, whatever happens to replicas."""

from __future__ import annotations

from typing import Any

from data.event_store import EventOutcome
from data.event_store.event_stats import EventCounts
from ray_app.monitoring.recent_events import STEP_S, STEPS, RecentEvents

NOW = 1_700_000_000_000_000


def counts(taken: int, repeated: int = 0, late: int = 0, newest_us: int | None = NOW) -> EventCounts:
    """Cumulative counts of a source."""
    outcomes = [0] * len(EventOutcome)
    outcomes[EventOutcome.TAKEN], outcomes[EventOutcome.REPEATED] = taken, repeated
    return EventCounts(tuple(outcomes), late, newest_us)


class Watched:
    """What is shown of two sources, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events = RecentEvents(["swipes", "reports"])

    def second(self, **replicas: dict[str, EventCounts]) -> None:
        """Let a second pass, at whose end the replicas have said this."""
        self.now += 1
        self.events.record(replicas, self.now)

    def of(self, source: str) -> dict[str, Any]:
        """What is shown of a source."""
        (found,) = [each for each in self.events.plain() if each["name"] == source]
        return found


def test_rates_and_shares_of_two_replicas():
    """Increases are added over replicas; what they counted before they were first heard is left out."""
    watched = Watched()
    for at in range(11):
        one, other = counts(1000 + 8 * at, late=4 * at), counts(5 + at, at, newest_us=NOW + at)
        watched.second(f1={"swipes": one}, f2={"swipes": other})
    shown = watched.of("swipes")
    assert (shown["events"], shown["seconds"], shown["per_s"]) == (100, 10.0, 10.0)
    assert (shown["late_share"], shown["repeated_share"], shown["conflicts"]) == (0.4, 0.1, 0)
    assert shown["newest_at"] == (NOW + 10) / 1e6


def test_a_source_without_events_is_there():
    """Each source that windows read is shown: one of which nothing came, without shares and without a newest event."""
    shown = Watched().of("reports")
    assert (shown["events"], shown["per_s"]) == (0, 0.0)
    assert shown["late_share"] is shown["repeated_share"] is shown["newest_at"] is None


def test_a_replica_that_is_gone_takes_nothing_away():
    """Its last events stay in the last minutes, and the newest event that it saw stays known."""
    watched = Watched()
    for at in range(6):
        watched.second(f1={"swipes": counts(at)})
    for _ in range(5):
        watched.second()
    assert watched.of("swipes")["events"] == 5
    watched.second(f1={"swipes": counts(3, newest_us=NOW - 9)})
    assert watched.of("swipes")["newest_at"] == NOW / 1e6


def test_what_is_older_than_five_minutes_is_forgotten():
    """A source that stopped shows a rate of zero in the end, and how old its newest event is."""
    watched = Watched()
    for at in range(11):
        watched.second(f1={"swipes": counts(at)})
    for _ in range(int(STEP_S) * STEPS):
        watched.second(f1={"swipes": counts(10)})
    shown = watched.of("swipes")
    assert (shown["events"], shown["per_s"], shown["seconds"]) == (0, 0.0, STEP_S * STEPS)
    assert shown["newest_at"] == NOW / 1e6
