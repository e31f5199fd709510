"""Window features of one row, from the stored events of its entities: the online twin of `windows`.

The events are whole numbers and the aggregates exact, and the last step of each is `aggregates`, as offline: the
same events give the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from data.feature_views import aggregates
from data.feature_views.event import EventCodec
from data.schema.event_source import EventSource
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
        self._codecs = {name: EventCodec(source) for name, source in sources.items()}
        self._windows = [_Window(feature, sources[feature.source], self._codecs) for feature in features]
        self._read_by = {(each.source, each.entity): at for at, each in enumerate(self.slices)}

    def compute(self, events: Sequence[Sequence[StoredEvent]], time_us: int, key: bytes) -> list[WindowValue]:
        """Compute every feature of one row.

        Args:
            events: for each of `slices` the stored events of the row's entity, ascending in time and key; those of an
                entity that the row does not name: none.
            time_us: the row's time.
            key: the row's key, as `event_key` writes it.

        Raises:
            DamagedRow: the values of an event that is read cannot be unpacked.
        """
        lines = [_Line(rows, self._codecs[slice_.source]) for rows, slice_ in zip(events, self.slices, strict=True)]
        return [
            window.compute(lines[self._read_by[window.feature.source, window.feature.by]], time_us, key)
            for window in self._windows
        ]


class _Line:
    """The events of one entity in order, unpacked when they are first looked at."""

    def __init__(self, rows: Sequence[StoredEvent], codec: EventCodec) -> None:
        self.rows = rows
        self.order = [(row.time_us, row.key) for row in rows]
        self._codec = codec
        self._columns: list[tuple[Scaled, ...]] | None = None

    def column(self, at: int) -> Sequence[Scaled]:
        if self._columns is None:
            unpacked = [self._codec.unpack(row.payload) for row in self.rows]
            self._columns = list(zip(*unpacked, strict=True)) if unpacked else [()] * len(self._codec.names)
        return self._columns[at]


class _Window:
    """One window feature with the places of the values that it reads."""

    def __init__(self, feature: WindowFeature, source: EventSource, codecs: Mapping[str, EventCodec]) -> None:
        self.feature = feature
        names = codecs[feature.source].names
        value = source.value(feature.of) if feature.of is not None else None
        self._of = names.index(feature.of) if feature.of is not None else None
        self._places = value.places if value is not None else 0
        self._text = value is not None and not value.is_numeric
        self._tests = _tests(feature.where, source, names)
        self._delayed = source.delayed
        self._source_delay = source.delay_us

    def compute(self, line: _Line, time_us: int, key: bytes) -> WindowValue:
        taken = self._events(line, time_us, key)
        feature, count = self.feature, len(taken)
        if feature.aggregate is Aggregate.COUNT:
            return WindowValue(float(count), count)
        if feature.aggregate is Aggregate.SINCE_LAST:
            since = aggregates.seconds(time_us - line.rows[taken[-1]].time_us) if count else math.nan
            return WindowValue(since, count)
        column = line.column(self._of or 0)
        held = [column[at] for at in taken]
        return WindowValue(self._finish(held, count), count)

    def _events(self, line: _Line, time_us: int, key: bytes) -> Sequence[int]:
        """The places of the events in the window that meet the condition and have the value."""
        feature = self.feature
        first = bisect_right(line.order, time_us - feature.reach_us, key=_time)
        delay = max(feature.delay_us, self._source_delay)
        if delay:
            end = bisect_right(line.order, time_us - delay, key=_time)
        else:
            end = (bisect_right if feature.with_current else bisect_left)(line.order, (time_us, key))
        places: Sequence[int] = range(first, end)
        if self._delayed and not self._source_delay:
            places = [at for at in places if line.rows[at].known_us <= time_us]
        for column, test in self._tests:
            values = line.column(column)
            places = [at for at in places if values[at] is not None and test(values[at])]
        if self._of is not None:
            values = line.column(self._of)
            places = [at for at in places if values[at] is not None]
        return places

    def _finish(self, held: list[Scaled], count: int) -> float | str:
        aggregate, places = self.feature.aggregate, self._places
        if aggregate is Aggregate.DISTINCT:
            return float(len(set(held)))
        if self._text:
            return (held[0] if aggregate is Aggregate.FIRST else held[-1]) if held else math.nan  # pyright: ignore
        numbers: list[int] = held  # pyright: ignore[reportAssignmentType]  missing ones and text are left out above
        if aggregate is Aggregate.SUM:
            return aggregates.total(sum(numbers), places)
        if aggregate is Aggregate.MEAN:
            return aggregates.mean(sum(numbers), count, places)
        if aggregate is Aggregate.STD:
            return aggregates.deviation(sum(numbers), sum(each * each for each in numbers), count, places)
        if not numbers:
            return math.nan
        if aggregate is Aggregate.MIN:
            return aggregates.total(min(numbers), places)
        if aggregate is Aggregate.MAX:
            return aggregates.total(max(numbers), places)
        return aggregates.total(numbers[0] if aggregate is Aggregate.FIRST else numbers[-1], places)


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
    compare: object
    scale: float
    bound: float

    def __call__(self, scaled: int) -> bool:
        return self.compare(scaled / self.scale, self.bound)  # pyright: ignore


class _TextTest(NamedTuple):
    compare: object
    word: str

    def __call__(self, text: str) -> bool:
        return self.compare(text, self.word)  # pyright: ignore


def _time(order: tuple[int, bytes]) -> int:
    return order[0]
