"""Statistics of each source of events: what became of them, how many came late, how old the newest one is.

Service and ingest count by this one rule, in each process for itself; counts of several processes are added, and the
newest event is the newest of any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data.event_store import EventOutcome
from data.feature_views.events.event import Event

LATE_US = 60 * 1_000_000
"""An event that is stored longer than this after it was known is late.

A minute: clocks that disagree and senders that batch stay below it.
"""
_NEVER = -(2**63)
_HELD = tuple(each in (EventOutcome.TAKEN, EventOutcome.REPEATED, EventOutcome.REVISED) for each in EventOutcome)
_CHANGING = tuple(each in (EventOutcome.TAKEN, EventOutcome.REVISED) for each in EventOutcome)


class EventCounts(NamedTuple):
    """Cumulative statistics of one source."""

    outcomes: tuple[int, ...] = (0,) * len(EventOutcome)
    """Events that came to the store, by `EventOutcome`."""
    late: int = 0
    """Those that changed what windows read, longer than LATE_US after they were known: rows scored in between did not
    see them. An event is known at its `known_at`, or its time and its source's `delay`."""
    newest_us: int | None = None
    """Time of the newest event that was stored or read, microseconds since 1970 UTC; None before the first."""

    @property
    def total(self) -> int:
        """All events that came to the store."""
        return sum(self.outcomes)

    def __add__(self, other: object) -> EventCounts:
        if not isinstance(other, EventCounts):
            return NotImplemented
        return EventCounts(
            tuple(one + more for one, more in zip(self.outcomes, other.outcomes, strict=True)),
            self.late + other.late,
            _later(self.newest_us, other.newest_us),
        )

    def since(self, before: EventCounts) -> EventCounts:
        """The counts since `before`; all of them where one is lower than before, because the process restarted."""
        outcomes = tuple(now - then for now, then in zip(self.outcomes, before.outcomes, strict=True))
        late = self.late - before.late
        return self if late < 0 or min(outcomes) < 0 else EventCounts(outcomes, late, self.newest_us)


class EventStats:
    """Counts the events of one source in this process. Not thread-safe."""

    __slots__ = ("_late", "_newest_us", "_outcomes")

    def __init__(self) -> None:
        self._outcomes = [0] * len(EventOutcome)
        self._late = 0
        self._newest_us = _NEVER

    def stored(self, events: Sequence[Event], outcomes: Sequence[EventOutcome], now_us: int) -> None:
        """Count events that came to the store, with what became of each; `now_us` is the time here."""
        for event, outcome in zip(events, outcomes, strict=True):
            self.count(outcome, event.time_us, event.known_us, now_us)

    def count(self, outcome: EventOutcome, time_us: int, known_us: int, now_us: int) -> None:
        """Count one event that came to the store.

        Args:
            outcome: what became of it.
            time_us: its time in the store, microseconds since 1970 UTC.
            known_us: since when it is known, not before its time.
            now_us: the time here.
        """
        self._outcomes[outcome] += 1
        if _HELD[outcome]:
            self._late += _CHANGING[outcome] and known_us < now_us - LATE_US
            self.seen(time_us)

    def seen(self, time_us: int) -> None:
        """Take note that there is an event of this time, microseconds since 1970 UTC."""
        if time_us > self._newest_us:
            self._newest_us = time_us

    @property
    def counts(self) -> EventCounts:
        """The counts so far."""
        newest = None if self._newest_us == _NEVER else self._newest_us
        return EventCounts(tuple(self._outcomes), self._late, newest)


def added(reports: Sequence[Mapping[str, EventCounts]]) -> dict[str, EventCounts]:
    """The sum of several processes' counts, by source."""
    total: dict[str, EventCounts] = {}
    for report in reports:
        for source, counts in report.items():
            total[source] = total.get(source, EventCounts()) + counts
    return total


def _later(one: int | None, other: int | None) -> int | None:
    return max((each for each in (one, other) if each is not None), default=None)
