"""The stored events of one entity in the order of time, and which of them a feature's `where` and `of` choose."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data.feature_views.events.event import EventCodec
from data.feature_views.online.stored_events import StoredEvents
from data.schema.events.event_source import EventSource
from data.schema.features.expression import COMPARE, Condition
from data.schema.features.window_feature import WindowFeature

Scaled = int | str | None


class EventLine:
    """The events of one entity in order, unpacked when a value is first looked at."""

    def __init__(self, events: StoredEvents, codec: EventCodec) -> None:
        self.times, self.keys, self.known = events.times, events.keys, events.known
        self._events = events
        self._codec = codec
        self._chosen: dict[tuple[Condition | None, int | None], ChosenEvents] = {}

    def column(self, at: int) -> Sequence[Scaled]:
        """Return one value of every event; raises DamagedRow when an event cannot be unpacked."""
        return self._events.columns(self._codec)[at]

    def span(self, first_us: int, end_us: int) -> tuple[int, int]:
        """Return the places of the events later than one time and up to another."""
        return bisect_right(self.times, first_us), bisect_right(self.times, end_us)

    def chosen(self, choice: EventChoice, time_us: float) -> ChosenEvents:
        """Return the events of a choice that are known at a time, whatever their own; found once."""
        wanted = choice.wanted
        if wanted not in self._chosen:
            self._chosen[wanted] = choice.of_line(self, time_us)
        return self._chosen[wanted]


class ChosenEvents(NamedTuple):
    """Some of the events of a line."""

    places: Sequence[int] | None
    """Places of the events in their line, ascending; None for all."""
    values: Sequence[Scaled]
    """The value of each; none for a choice that reads no value."""

    def between(self, first: int, end: int) -> tuple[int, int]:
        """Return the same span of the line, counted in chosen events."""
        if self.places is None:
            return first, max(first, end)
        first, end = bisect_left(self.places, first), bisect_left(self.places, end)
        return first, max(first, end)

    def place(self, at: int) -> int:
        """Return the place in the line of a chosen event."""
        return at if self.places is None else self.places[at]


class EventChoice:
    """What a window feature reads of an event: its condition and its value.

    Args:
        feature: the window feature.
        source: its source of events.
        names: the values of an event in the order in which they are packed.
    """

    def __init__(self, feature: WindowFeature, source: EventSource, names: Sequence[str]) -> None:
        self._of = names.index(feature.of) if feature.of is not None else None
        self._tests = _tests(feature.where, source, names)
        self._known_late = source.known_at is not None
        self.wanted = (feature.where, self._of)
        """Windows of which this is the same read the same events of a line, in other spans of time."""

    def of_line(self, line: EventLine, time_us: float) -> ChosenEvents:
        """Find the events that meet the condition and have the value, of those that are known at a time."""
        places = None
        if self._known_late:
            places = [at for at, known_us in enumerate(line.known) if known_us <= time_us]
        for column, test in self._tests:
            values = line.column(column)
            places = [at for at in _all(places, line) if values[at] is not None and test(values[at])]
        if self._of is None:
            return ChosenEvents(places, ())
        values = line.column(self._of)
        if None in values:
            places = [at for at in _all(places, line) if values[at] is not None]
        return ChosenEvents(places, values if places is None else [values[at] for at in places])


def _all(places: Sequence[int] | None, line: EventLine) -> Sequence[int]:
    return range(len(line.times)) if places is None else places


def _tests(where: Condition | None, source: EventSource, names: Sequence[str]) -> list:
    tests = []
    for comparison in where.comparisons if where is not None else ():
        value = source.value(comparison.name)
        compare, constant = COMPARE[comparison.sign], comparison.constant
        if value is not None and value.is_numeric:
            scale, bound = float(10**value.places), float(constant)
            tests.append((names.index(comparison.name), _NumberTest(compare, scale, bound)))
        else:
            tests.append((names.index(comparison.name), _TextTest(compare, str(constant))))
    return tests


class _NumberTest(NamedTuple):
    compare: Callable[[Any, Any], Any]
    scale: float
    bound: float

    def __call__(self, scaled: int) -> bool:
        return self.compare(scaled / self.scale, self.bound)


class _TextTest(NamedTuple):
    compare: Callable[[Any, Any], Any]
    word: str

    def __call__(self, text: str) -> bool:
        return self.compare(text, self.word)
