"""Window features of one row, from the stored events of its entities: the online twin of `windows`.

The events are whole numbers and the aggregates exact, and the last step of each is `aggregates`, as offline: the
same events give the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter, mul
from typing import Any, NamedTuple

from data.feature_views import aggregates
from data.feature_views.event import EventCodec, OwnEvent
from data.schema.event_source import EventSource, EventValue
from data.schema.expression import COMPARE, Condition
from data.schema.window_feature import Aggregate, WindowFeature

Scaled = int | str | None


class StoredEvent(NamedTuple):
    """One event as a store returns it, of one entity of one source."""

    time_us: int
    key: bytes
    known_us: int
    payload: bytes


class Slice(NamedTuple):
    """What one entity of one source has to be read for: all its events up to `reach_us` before the row's time."""

    source: str
    entity: str
    reach_us: int
    """Microseconds; an event exactly so old is not in any window."""


class WindowValue(NamedTuple):
    """The value of one window feature, NaN = missing, and the number of events that it was computed from."""

    value: float | str
    events: int


class WindowPlan:
    """The window features of a use case, by the slices of events that they read.

    Args:
        features: the window features, in schema order.
        sources: the use case's sources of events.
    """

    def __init__(self, features: Sequence[WindowFeature], sources: Mapping[str, EventSource]) -> None:
        self.features = tuple(features)
        self.slices: tuple[Slice, ...] = _slices(features)
        """What has to be read for one row, each (source, entity) once."""
        codecs = {name: EventCodec(source) for name, source in sources.items()}
        at = {(each.source, each.entity): at for at, each in enumerate(self.slices)}
        self._windows = [(_Window(each, sources[each.source], codecs), at[each.source, each.by]) for each in features]
        self._codecs = [codecs[each.source] for each in self.slices]
        # Of an own event, by source: the slices that it may be in, each with the place of its entity.
        self._own_slices: dict[str, list[tuple[int, int]]] = {}
        for number, each in enumerate(self.slices):
            entities = [entity.name for entity in sources[each.source].entities]
            self._own_slices.setdefault(each.source, []).append((number, entities.index(each.entity)))

    def compute(
        self, events: Sequence[Sequence[StoredEvent]], time_us: int, key: bytes, own: Sequence[OwnEvent] = ()
    ) -> list[WindowValue]:
        """Compute every feature of one row.

        Args:
            events: for each of `slices` the stored events of the row's entity, ascending in time and key; those of an
                entity that the row does not name: none.
            time_us: the row's time.
            key: the row's key, as `event_key` writes it.
            own: the events that the row itself is. One that is not among `events` counts at the row's time, where the
                row counts (`with_current`); of one that is, what is stored counts.

        Raises:
            DamagedRow: the values of an event that is read cannot be unpacked.
        """
        if own:
            events = self._with_own(events, time_us, own)
        lines = [_Line(*each) for each in zip(events, self._codecs, strict=True)]
        return [window.compute(lines[at], time_us, key) for window, at in self._windows]

    def _with_own(
        self, events: Sequence[Sequence[StoredEvent]], time_us: int, own: Sequence[OwnEvent]
    ) -> list[Sequence[StoredEvent]]:
        merged = list(events)
        for source, event, _ in own:
            known_us = time_us + max(event.known_us - event.time_us, 0)
            stored = StoredEvent(time_us, event.key, known_us, event.payload)
            for number, entity in self._own_slices.get(source, ()):
                rows = merged[number]
                if event.entities[entity] is not None and event.key not in map(itemgetter(1), rows):
                    at = bisect_left(rows, stored)
                    merged[number] = [*rows[:at], stored, *rows[at:]]
        return merged


class _Line:
    """The events of one entity in order, unpacked when a value is first looked at."""

    def __init__(self, rows: Sequence[StoredEvent], codec: EventCodec) -> None:
        self.rows = rows
        self.times = [row[0] for row in rows]
        self._codec = codec
        self._columns: list[tuple[Scaled, ...]] | None = None
        self._chosen: dict[tuple[Condition | None, int | None], _Chosen] = {}

    def column(self, at: int) -> Sequence[Scaled]:
        if self._columns is None:
            self._columns = self._codec.columns([row[3] for row in self.rows])
        return self._columns[at]

    def span(self, first_us: int, end_us: int) -> tuple[int, int]:
        """The places of the events later than one time and up to another."""
        return bisect_right(self.times, first_us), bisect_right(self.times, end_us)

    def chosen(self, window: _Window, time_us: int) -> _Chosen:
        """The events that meet a window's condition and have its value, whatever their time; found once."""
        wanted = window.choice
        if wanted not in self._chosen:
            self._chosen[wanted] = window.choose(self, time_us)
        return self._chosen[wanted]


class _Chosen(NamedTuple):
    places: Sequence[int] | None
    """Places of the events in their line, ascending; None for all."""
    values: Sequence[Scaled]
    """The value of each; none for an aggregate that reads no value."""

    def between(self, first: int, end: int) -> tuple[int, int]:
        """The same span of the line, counted in chosen events."""
        if self.places is None:
            return first, max(first, end)
        first, end = bisect_left(self.places, first), bisect_left(self.places, end)
        return first, max(first, end)


class _Window:
    """One window feature with the places of the values that it reads."""

    def __init__(self, feature: WindowFeature, source: EventSource, codecs: Mapping[str, EventCodec]) -> None:
        self.feature = feature
        names = codecs[feature.source].names
        value = source.value(feature.of) if feature.of is not None else None
        self._of = names.index(feature.of) if feature.of is not None else None
        self._tests = _tests(feature.where, source, names)
        self._delay_us = max(feature.delay_us, source.delay_us)
        self._known_late = source.known_at is not None
        self._finish = _finish(feature.aggregate, value)
        self.choice = (feature.where, self._of)
        """Windows of one choice read the same events of a line, in other spans of time."""

    def compute(self, line: _Line, time_us: int, key: bytes) -> WindowValue:
        chosen = line.chosen(self, time_us)
        first, end = chosen.between(*self._span(line, time_us, key))
        count, aggregate = end - first, self.feature.aggregate
        if aggregate is Aggregate.COUNT:
            return WindowValue(float(count), count)
        if aggregate is Aggregate.SINCE_LAST:
            last = end - 1 if chosen.places is None else chosen.places[end - 1] if count else 0
            return WindowValue(aggregates.seconds(time_us - line.times[last]) if count else math.nan, count)
        return WindowValue(self._finish(chosen.values[first:end], count), count)

    def choose(self, line: _Line, time_us: int) -> _Chosen:
        places = None
        if self._known_late:
            places = [at for at, row in enumerate(line.rows) if row[2] <= time_us]
        for column, test in self._tests:
            values = line.column(column)
            places = [at for at in _all(places, line) if values[at] is not None and test(values[at])]
        if self._of is None:
            return _Chosen(places, ())
        values = line.column(self._of)
        if None in values:
            places = [at for at in _all(places, line) if values[at] is not None]
        return _Chosen(places, values if places is None else [values[at] for at in places])

    def _span(self, line: _Line, time_us: int, key: bytes) -> tuple[int, int]:
        feature = self.feature
        if self._delay_us:
            return line.span(time_us - feature.reach_us, time_us - self._delay_us)
        first, end = line.span(time_us - feature.reach_us, time_us)
        # Of events at the same instant those count whose key is not above the row's own.
        while end and line.times[end - 1] == time_us:
            other = line.rows[end - 1][1]
            if other < key or (feature.with_current and other == key):
                break
            end -= 1
        return first, end


def _all(places: Sequence[int] | None, line: _Line) -> Sequence[int]:
    return range(len(line.rows)) if places is None else places


def _finish(aggregate: Aggregate, value: EventValue | None) -> Callable[[Sequence[Any], int], float | str]:
    """Return what makes an aggregate of values that are not missing, and of their number."""
    places = value.places if value is not None else 0
    if aggregate is Aggregate.SUM:
        return lambda held, _: aggregates.total(sum(held), places)
    if aggregate is Aggregate.MEAN:
        return lambda held, count: aggregates.mean(sum(held), count, places)
    if aggregate is Aggregate.STD:
        return lambda held, count: aggregates.deviation(sum(held), sum(map(mul, held, held)), count, places)
    if aggregate is Aggregate.DISTINCT:
        return lambda held, _: float(len(set(held)))
    pick = {Aggregate.MIN: min, Aggregate.MAX: max, Aggregate.FIRST: itemgetter(0)}.get(aggregate, itemgetter(-1))
    if value is not None and not value.is_numeric:
        return lambda held, count: pick(held) if count else math.nan
    return lambda held, count: aggregates.total(pick(held), places) if count else math.nan


def fold_by_key(events: Iterable[StoredEvent]) -> list[StoredEvent]:
    """Return events in order with each key once: of several the one that is known latest, of equal ones the earliest.

    A store without a lock may hold an event twice, when it was sent twice without a time of its own.
    """
    ordered = sorted(events)
    if len({event.key for event in ordered}) == len(ordered):
        return ordered
    kept: dict[bytes, StoredEvent] = {}
    for event in ordered:
        if event.key not in kept or event.known_us > kept[event.key].known_us:
            kept[event.key] = event
    return sorted(kept.values())


def _slices(features: Sequence[WindowFeature]) -> tuple[Slice, ...]:
    reach: dict[tuple[str, str], int] = {}
    for feature in features:
        place = (feature.source, feature.by)
        reach[place] = max(reach.get(place, 0), feature.reach_us)
    return tuple(Slice(source, entity, reach_us) for (source, entity), reach_us in reach.items())


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
