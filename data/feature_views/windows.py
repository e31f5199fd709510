"""The offline kernel of window features: all windows of n rows over k events, in vectors, exact.

Events are sorted once by entity, time and key. Then the events of one entity up to a moment are a range of that order,
a window is the difference of two such ranges, and one binary search finds each end for all rows. What an aggregate
does with a range stands in `ranges`, what it means as a number in `aggregates`, which serving shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data.feature_views import aggregates
from data.feature_views.entity_order import SearchKeys, entity_order
from data.feature_views.ranges import Ranges
from data.schema.expression import COMPARE, Comparison
from data.schema.window_feature import Aggregate, WindowFeature

NO_ENTITY = -1
"""Stands for the entity of an event or row that names none: such an event is in no window, such a row sees none."""


class Values(NamedTuple):
    """One value of k events: whole numbers of its last decimal place, or codes of words."""

    scaled: np.ndarray
    """int64 of shape (k,)."""
    missing: np.ndarray
    """Bool of shape (k,)."""
    places: int = 0
    words: tuple[str, ...] | None = None
    """Of text: the words that codes stand for."""


class Events(NamedTuple):
    """The events of one source: k of them, in any order, each key once."""

    entities: Mapping[str, np.ndarray]
    """By entity: its codes, int64 of shape (k,), numbered as in `Moments`; `NO_ENTITY` where there is none."""
    time_us: np.ndarray
    """int64 of shape (k,), microseconds since 1970 UTC."""
    key_rank: np.ndarray
    """int64 of shape (k,): the order of keys among events and rows together."""
    values: Mapping[str, Values]
    known_us: np.ndarray | None = None
    """int64 of shape (k,): since when each is known; None where that is its time and `delay_us`."""
    delay_us: int = 0


class Moments(NamedTuple):
    """The rows whose windows are wanted: n of them, in any order."""

    entities: Mapping[str, np.ndarray]
    time_us: np.ndarray
    key_rank: np.ndarray


def windows(events: Events, rows: Moments, features: Sequence[WindowFeature]) -> dict[str, np.ndarray]:
    """Compute window features of one source.

    Returns:
        By feature, float64 of shape (n,), NaN = missing. The first or last of words is the code of the word.

    Raises:
        OverflowError: a sum does not fit into 64 bits; names the feature.
    """
    found: dict[str, np.ndarray] = {}
    for entity in dict.fromkeys(feature.by for feature in features):
        line = _Timeline(events, rows, entity)
        found |= {feature.name: line.compute(feature) for feature in features if feature.by == entity}
    return found


class _Timeline:
    """Events in the order of entity, time and key, and of each row where it stands among them."""

    def __init__(self, events: Events, rows: Moments, entity: str) -> None:
        order = entity_order(events.entities[entity], events.time_us, events.key_rank)
        # Events without entity sort to the front and are in nobody's window.
        self._order = order[np.searchsorted(events.entities[entity][order], 0) :]
        self._events = events
        self._entity = events.entities[entity][self._order]
        self._time = events.time_us[self._order]
        self._rank = events.key_rank[self._order]
        self._rows = rows
        self._row_entity = rows.entities[entity]
        # Rows in the order of the events: a binary search then finds what it reads still in the cache.
        self._row_order = entity_order(self._row_entity, rows.time_us, rows.key_rank)
        self._until: dict[tuple[int, bool], np.ndarray] = {}
        self._keys = SearchKeys(self._entity, self._time)

    def compute(self, feature: WindowFeature) -> np.ndarray:
        first = self._count_before(feature.reach_us)
        end = np.maximum(first, self._end(feature))
        taken = self._taken(feature)
        ranges, indices = Ranges(first, end), self._order
        if self._events.known_us is not None:
            values = _known_only(self._events, self._order, ranges, taken, self._sorted_row_times(), feature)
        else:
            if taken is not None:
                ranges, indices = ranges.within(taken), self._order[taken]
            values = _aggregate(feature, ranges, self._events, indices, self._sorted_row_times())
        result = np.empty(len(values), np.float64)
        result[self._row_order] = values
        return result

    def _sorted_row_times(self) -> np.ndarray:
        return self._rows.time_us[self._row_order]

    def _end(self, feature: WindowFeature) -> np.ndarray:
        delay = max(feature.delay_us, self._events.delay_us)
        asked = (delay, feature.with_current)
        if asked not in self._until:
            self._until[asked] = self._count_up_to_row(feature.with_current) if not delay else self._count_until(delay)
        return self._until[asked]

    def _count_until(self, delay_us: int) -> np.ndarray:
        """Of each row, how many events lie before the end of its window: those at its very end are inside."""
        return self._keys.count(self._sorted_row_entities(), self._sorted_row_times() - delay_us, "right")

    def _count_before(self, reach_us: int) -> np.ndarray:
        """Of each row, how many events lie before its window, which is open at its beginning."""
        return self._keys.count(self._sorted_row_entities(), self._sorted_row_times() - reach_us, "right")

    def _count_up_to_row(self, with_current: bool) -> np.ndarray:
        entity, time = self._sorted_row_entities(), self._sorted_row_times()
        rank = self._rows.key_rank[self._row_order]
        low, high = self._keys.count(entity, time, "left"), self._keys.count(entity, time, "right")
        # Among the events of the same instant, which are in the order of their keys, by halving.
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) // 2
            counts = self._rank[middle] <= rank[open_] if with_current else self._rank[middle] < rank[open_]
            low[open_[counts]] = middle[counts] + 1
            high[open_[~counts]] = middle[~counts]
        return low

    def _sorted_row_entities(self) -> np.ndarray:
        return self._row_entity[self._row_order]

    def _taken(self, feature: WindowFeature) -> np.ndarray | None:
        """Which events, in order, a feature takes: those that meet its condition and have its value; None: all."""
        taken: np.ndarray | None = None
        comparisons = feature.where.comparisons if feature.where else ()
        for comparison in comparisons:
            held = _meets(self._events.values[comparison.name], comparison)[self._order]
            taken = held if taken is None else taken & held
        if feature.of is not None and (missing := self._events.values[feature.of].missing[self._order]).any():
            taken = ~missing if taken is None else taken & ~missing
        return taken


def _meets(values: Values, comparison: Comparison) -> np.ndarray:
    """Return which of k events meet a comparison; a missing value meets none."""
    constant = comparison.constant
    if values.words is not None:
        words = np.array([COMPARE[comparison.sign](word, constant) for word in values.words], bool)
        met = words[values.scaled] if len(words) else np.zeros(len(values.scaled), bool)
    else:
        numbers = values.scaled / float(10**values.places)
        met = COMPARE[comparison.sign](numbers, float(constant))
    return met & ~values.missing


def _aggregate(
    feature: WindowFeature, ranges: Ranges, events: Events, indices: np.ndarray, time_us: np.ndarray
) -> np.ndarray:
    """Aggregate the ranges of a sequence of events.

    Args:
        feature: what is computed.
        ranges: of each of n rows, its events in the sequence.
        events: all events.
        indices: the events of the sequence, int64 of shape (k,).
        time_us: the rows' times, int64 of shape (n,).
    """
    counts, aggregate = ranges.counts, feature.aggregate
    if aggregate is Aggregate.COUNT:
        return counts.astype(np.float64)
    full = counts > 0
    if aggregate is Aggregate.SINCE_LAST:
        last = events.time_us[indices[np.maximum(ranges.end - 1, 0)]] if len(indices) else np.zeros(len(counts))
        return np.where(full, (time_us - last) / float(aggregates.US_A_SECOND), np.nan)
    values = events.values[feature.of or ""]
    held, places = values.scaled[indices], values.places
    if aggregate is Aggregate.DISTINCT:
        return ranges.distinct(held).astype(np.float64)
    if aggregate is Aggregate.STD:
        return aggregates.deviations(ranges.spreads(held), counts, places)
    if aggregate in (Aggregate.SUM, Aggregate.MEAN):
        _check_sums(feature, held, counts)
        sums = ranges.sums(held)
        return aggregates.totals(sums, places) if aggregate is Aggregate.SUM else aggregates.means(sums, counts, places)
    return np.where(full, aggregates.totals(_pick(aggregate, ranges, held), places), np.nan)


def _pick(aggregate: Aggregate, ranges: Ranges, held: np.ndarray) -> np.ndarray:
    if aggregate is Aggregate.MIN:
        return ranges.lowest(held)
    if aggregate is Aggregate.MAX:
        return ranges.highest(held)
    at = ranges.first if aggregate is Aggregate.FIRST else ranges.end - 1
    return held[np.clip(at, 0, len(held) - 1)] if len(held) else np.zeros(len(at), np.int64)


def _check_sums(feature: WindowFeature, held: np.ndarray, counts: np.ndarray) -> None:
    if float(np.abs(held).max(initial=0)) * float(counts.max(initial=0)) >= 2.0**62:
        raise OverflowError(
            f"features.{feature.name}: sums of {feature.of!r} may be beyond 64 bits; declare fewer decimals for it"
        )


_PAIRS_A_STEP = 4_000_000
"""Pairs of a row and an event in its window that are held at a time."""


def _known_only(
    events: Events,
    order: np.ndarray,
    ranges: Ranges,
    taken: np.ndarray | None,
    time_us: np.ndarray,
    feature: WindowFeature,
) -> np.ndarray:
    """Aggregate windows of which each row sees only the events that are known at its time.

    Since when an event is known is no function of its time here, so no prefix sum helps: the events of each window are
    written out and looked at, a few million at a time.
    """
    assert events.known_us is not None
    known = np.maximum(events.known_us, events.time_us)[order]
    result = np.empty(len(time_us), np.float64)
    ends = np.cumsum(ranges.counts)
    start = 0
    while start < len(time_us):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_A_STEP, "right")))
        counts = ranges.counts[start:stop]
        row = np.repeat(np.arange(start, stop), counts)
        offsets = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = ranges.first[row] + offsets
        seen = known[place] <= time_us[row]
        if taken is not None:
            seen &= taken[place]
        row, place = row[seen], place[seen]
        edges = np.searchsorted(row, np.arange(start, stop + 1))
        step = Ranges(edges[:-1], edges[1:])
        result[start:stop] = _aggregate(feature, step, events, order[place], time_us[start:stop])
        start = stop
    return result
