"""Window features of one row, from the stored events of its entities: the online twin of `windows`.

The events are whole numbers and the aggregates exact, and the last step of each is `aggregates`, as offline: the
same events give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from data.feature_views import aggregates
from data.feature_views.events.event import EventCodec, OwnEvent
from data.feature_views.online.event_line import EventChoice, EventLine
from data.feature_views.online.partial_aggregates import FOLD_VALUES, PARTIAL_OF
from data.feature_views.online.stored_events import StoredEvent, StoredEvents
from data.feature_views.online.tiles import Tile, TileLine, TilePlan, held_between, window_cuts
from data.schema.events.event_source import EventSource, EventValue
from data.schema.features.window_feature import Aggregate, WindowFeature


class Slice(NamedTuple):
    """What one entity of one source has to be read for: all its events up to `reach_us` before the row's time."""

    source: str
    entity: str
    reach_us: int
    """Microseconds; an event exactly so old is not in any window."""
    tiles: TilePlan | None = None
    """What the tiles of an entity with very many events hold; None: all its events are read, however many."""


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
        self.slices: tuple[Slice, ...] = _slices(features, sources)
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
        self,
        events: Sequence[Sequence[StoredEvent]],
        time_us: int,
        key: bytes,
        own: Sequence[OwnEvent] = (),
        tiles: Sequence[Sequence[Tile]] = (),
    ) -> list[WindowValue]:
        """Compute every feature of one row.

        Args:
            events: for each of `slices` the stored events of the row's entity, ascending in time and key; those of an
                entity that the row does not name: none.
            time_us: the row's time.
            key: the row's key, as `event_key` writes it.
            own: the events that the row itself is. One that is not among `events` counts at the row's time, where the
                row counts (`with_current`); of one that is, what is stored counts.
            tiles: for each of `slices` the tiles in place of further events, in the order of time, none of them across
                one of the slice's `TilePlan.cuts`; nothing when no slice has any.

        Raises:
            DamagedRow: the values of an event that is read cannot be unpacked.
        """
        slices = [*map(StoredEvents.of, events)]
        if own:
            slices = self._with_own(slices, time_us, own)
        lines = [EventLine(*each) for each in zip(slices, self._codecs, strict=True)]
        if not any(tiles):
            return [window.compute(lines[at], time_us, key) for window, at in self._windows]
        tiled = [
            TileLine(held, wanted.tiles) if held and wanted.tiles else None
            for held, wanted in zip(tiles, self.slices, strict=True)
        ]
        return [
            window.compute(lines[at], time_us, key)
            if (held := tiled[at]) is None
            else window.compute_tiled(held, lines[at], time_us, key)
            for window, at in self._windows
        ]

    def _with_own(self, slices: list[StoredEvents], time_us: int, own: Sequence[OwnEvent]) -> list[StoredEvents]:
        for source, event, _ in own:
            known_us = time_us + max(event.known_us - event.time_us, 0)
            stored = StoredEvent(time_us, event.key, known_us, event.payload)
            for number, entity in self._own_slices.get(source, ()):
                events = slices[number]
                if event.entities[entity] is not None and event.key not in events.keys:
                    slices[number] = events.with_event(stored, self._codecs[number])
        return slices


class _Window:
    """One window feature with the places of the values that it reads."""

    def __init__(self, feature: WindowFeature, source: EventSource, codecs: Mapping[str, EventCodec]) -> None:
        self.feature = feature
        self._choice = EventChoice(feature, source, codecs[feature.source].names)
        self._delay_us = max(feature.delay_us, source.delay_us)
        self._cuts = window_cuts(feature, source)
        self._partial = PARTIAL_OF[feature.aggregate]
        self._fold = FOLD_VALUES.get(self._partial, len)
        self._empty = 0.0 if feature.aggregate in _ZERO_WHEN_EMPTY else math.nan
        self._finish = _finish(feature.aggregate, source.value(feature.of) if feature.of is not None else None)

    def compute(self, line: EventLine, time_us: int, key: bytes) -> WindowValue:
        chosen = line.chosen(self._choice, time_us)
        first, end = chosen.between(*self._span(line, time_us, key))
        count, aggregate = end - first, self.feature.aggregate
        if not count:
            return WindowValue(self._empty, 0)
        if aggregate is Aggregate.COUNT:
            return WindowValue(float(count), count)
        if aggregate is Aggregate.SINCE_LAST:
            return WindowValue(aggregates.seconds(time_us - line.times[chosen.place(end - 1)]), count)
        return WindowValue(self._finish(self._fold(chosen.values[first:end]), count), count)

    def compute_tiled(self, tiles: TileLine, line: EventLine, time_us: int, key: bytes) -> WindowValue:
        beside = held_between(line, self._choice, *self._span(line, time_us, key), time_us)
        span = (time_us + self._cuts[0], time_us + self._cuts[1])
        held, count = tiles.between(self._choice, self._partial, span, beside)
        aggregate = self.feature.aggregate
        if not count:
            return WindowValue(self._empty, 0)
        if aggregate is Aggregate.COUNT:
            return WindowValue(float(count), count)
        if aggregate is Aggregate.SINCE_LAST:
            return WindowValue(aggregates.seconds(time_us - held), count)
        return WindowValue(self._finish(held, count), count)

    def _span(self, line: EventLine, time_us: int, key: bytes) -> tuple[int, int]:
        feature = self.feature
        if self._delay_us:
            return line.span(time_us - feature.reach_us, time_us - self._delay_us)
        first, end = line.span(time_us - feature.reach_us, time_us)
        # Of events at the same instant those count whose key is not above the row's own.
        while end and line.times[end - 1] == time_us:
            other = line.keys[end - 1]
            if other < key or (feature.with_current and other == key):
                break
            end -= 1
        return first, end


_ZERO_WHEN_EMPTY = (Aggregate.COUNT, Aggregate.SUM, Aggregate.DISTINCT)


def _finish(aggregate: Aggregate, value: EventValue | None) -> Callable[[Any, int], float | str]:
    """Return what makes an aggregate of what `PARTIAL_OF` it keeps, and of the number of events, at least one."""
    places = value.places if value is not None else 0
    if aggregate is Aggregate.MEAN:
        return lambda total, count: aggregates.mean(total, count, places)
    if aggregate is Aggregate.STD:
        return lambda moments, count: aggregates.deviation(moments[0], moments[1], count, places)
    if aggregate is Aggregate.DISTINCT:
        return lambda values, _: float(len(values))
    if value is not None and not value.is_numeric:
        return lambda word, _: word
    return lambda scaled, _: aggregates.total(scaled, places)


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


def _slices(features: Sequence[WindowFeature], sources: Mapping[str, EventSource]) -> tuple[Slice, ...]:
    read: dict[tuple[str, str], list[WindowFeature]] = {}
    for feature in features:
        read.setdefault((feature.source, feature.by), []).append(feature)
    return tuple(
        Slice(source, entity, max(each.reach_us for each in some), TilePlan(some, sources[source]))
        for (source, entity), some in read.items()
    )
