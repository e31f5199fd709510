"""Window features of one block of entities.

The events of one entity up to a moment are a range of the block's order, a window is the difference of two such ranges,
and one binary search finds each end for all rows. What an aggregate does with a range stands in `ranges`, what it means
as a number in `aggregates`, which serving shares.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from data.feature_views import aggregates
from data.feature_views.kernel.entity_blocks import EntityBlock
from data.feature_views.kernel.entity_order import SearchKeys, earlier
from data.feature_views.kernel.event_arrays import Events, Moments, Values
from data.feature_views.kernel.ranges import Ranges
from data.schema.features.expression import COMPARE, Comparison
from data.schema.features.window_feature import Aggregate, WindowFeature

_PAIRS_A_STEP = 4_000_000
"""Pairs of a row and an event in its window that are held at a time."""


class WindowBlock:
    """The k events and n rows of some entities, in order, and the windows of the rows.

    Columns are brought into order when they are asked for, and kept, as are the ends that several features share.
    """

    def __init__(self, events: Events, rows: Moments, entity: str, block: EntityBlock) -> None:
        self._events, self._rows, self._block = events, rows, block
        self._time = events.time_us[block.events]
        codes, asked = events.entities[entity][block.events], rows.entities[entity]
        self._row_time = self._time if block.same else rows.time_us[block.rows]
        self._row_entity = codes if block.same else asked[block.rows]
        # From 0 on, so that entity and time fit into one number.
        lowest = int(codes[0]) if len(codes) else 0
        self._keys = SearchKeys(codes - lowest, self._time)
        self._row_entity = np.maximum(self._row_entity - lowest, -1)
        self._until: dict[int, np.ndarray] = {}
        self._up_to_row: dict[bool, np.ndarray] = {}
        self._values: dict[str, Values] = {}

    def compute(self, feature: WindowFeature) -> np.ndarray:
        """Return the values of one feature in the order of the block's rows, float64 of shape (n,).

        Raises:
            OverflowError: a sum does not fit into 64 bits; names the feature.
        """
        first = self._count_until(feature.reach_us)
        ranges, taken, places = Ranges(first, np.maximum(first, self._end(feature))), self._taken(feature), None
        if self._known is not None:
            return self._known_only(feature, ranges, taken, self._known)
        if taken is not None:
            ranges, places = ranges.within(taken), np.flatnonzero(taken)
        return self._aggregate(feature, ranges, places, self._row_time)

    def _end(self, feature: WindowFeature) -> np.ndarray:
        delay = max(feature.delay_us, self._events.delay_us)
        return self._count_until(delay) if delay else self._count_up_to_row(feature.with_current)

    def _count_until(self, delay_us: int) -> np.ndarray:
        """Of each row, how many events lie at or before so long before its time."""
        if delay_us not in self._until:
            self._until[delay_us] = self._keys.count(self._row_entity, earlier(self._row_time, delay_us), "right")
        return self._until[delay_us]

    def _count_up_to_row(self, with_current: bool) -> np.ndarray:
        if with_current not in self._up_to_row:
            places = np.arange(len(self._row_time)) + with_current if self._block.same else self._searched(with_current)
            self._up_to_row[with_current] = places
        return self._up_to_row[with_current]

    def _searched(self, with_current: bool) -> np.ndarray:
        """Among the events of the same instant, which are in the order of their keys, by halving."""
        events, rows = self._events.key_rank[self._block.events], self._rows.key_rank[self._block.rows]
        low = self._keys.count(self._row_entity, self._row_time, "left")
        high = self._keys.count(self._row_entity, self._row_time, "right")
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) // 2
            counts = events[middle] <= rows[open_] if with_current else events[middle] < rows[open_]
            low[open_[counts]] = middle[counts] + 1
            high[open_[~counts]] = middle[~counts]
        return low

    @cached_property
    def _known(self) -> np.ndarray | None:
        if self._events.known_us is None:
            return None
        return np.maximum(self._events.known_us[self._block.events], self._time)

    def _value(self, name: str) -> Values:
        if name not in self._values:
            held, at = self._events.values[name], self._block.events
            self._values[name] = held._replace(scaled=held.scaled[at], missing=held.missing[at])
        return self._values[name]

    def _taken(self, feature: WindowFeature) -> np.ndarray | None:
        """Which events a feature takes: those that meet its condition and have its value; None: all."""
        taken: np.ndarray | None = None
        for comparison in feature.where.comparisons if feature.where else ():
            held = _meets(self._value(comparison.name), comparison)
            taken = held if taken is None else taken & held
        if feature.of is not None and (missing := self._value(feature.of).missing).any():
            taken = ~missing if taken is None else taken & ~missing
        return taken

    def _known_only(
        self, feature: WindowFeature, ranges: Ranges, taken: np.ndarray | None, known: np.ndarray
    ) -> np.ndarray:
        """Aggregate windows of which each row sees only the events that are known at its time.

        Since when an event is known is no function of its time here, so no prefix sum helps: the events of each window
        are written out and looked at, a few million at a time.
        """
        result = np.empty(len(self._row_time), np.float64)
        ends = np.cumsum(ranges.counts)
        start = 0
        while start < len(result):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_A_STEP, "right")))
            row, place = _pairs(ranges, start, stop)
            seen = known[place] <= self._row_time[row]
            if taken is not None:
                seen &= taken[place]
            edges = np.searchsorted(row[seen], np.arange(start, stop + 1))
            step = Ranges(edges[:-1], edges[1:])
            result[start:stop] = self._aggregate(feature, step, place[seen], self._row_time[start:stop])
            start = stop
        return result

    def _aggregate(
        self, feature: WindowFeature, ranges: Ranges, places: np.ndarray | None, row_time: np.ndarray
    ) -> np.ndarray:
        """Aggregate the ranges of a sequence of events.

        Args:
            feature: what is computed.
            ranges: of each of n rows, its events in the sequence.
            places: the events of the sequence; None for those of the block.
            row_time: the rows' times, int64 of shape (n,).
        """
        counts = ranges.counts
        if feature.aggregate is Aggregate.COUNT:
            return counts.astype(np.float64)
        if feature.aggregate is Aggregate.SINCE_LAST:
            last = _picked(self._time if places is None else self._time[places], ranges.end - 1)
            return np.where(counts > 0, (row_time - last) / float(aggregates.US_A_SECOND), np.nan)
        values = self._value(feature.of or "")
        return _of_values(feature, ranges, values.scaled if places is None else values.scaled[places], values.places)


def _of_values(feature: WindowFeature, ranges: Ranges, held: np.ndarray, places: int) -> np.ndarray:
    """Aggregate ranges of values: whole numbers of `places` decimal places, int64 of shape (k,)."""
    counts, aggregate = ranges.counts, feature.aggregate
    if aggregate is Aggregate.DISTINCT:
        return ranges.distinct(held).astype(np.float64)
    if aggregate is Aggregate.STD:
        return aggregates.deviations(ranges.spreads(held), counts, places)
    if aggregate in (Aggregate.SUM, Aggregate.MEAN):
        if not ranges.sums_fit(held):
            raise OverflowError(
                f"features.{feature.name}: sums of {feature.of!r} may be beyond 64 bits; declare fewer decimals for it"
            )
        sums = ranges.sums(held)
        return aggregates.totals(sums, places) if aggregate is Aggregate.SUM else aggregates.means(sums, counts, places)
    return np.where(counts > 0, aggregates.totals(_one_of(aggregate, ranges, held), places), np.nan)


def _one_of(aggregate: Aggregate, ranges: Ranges, held: np.ndarray) -> np.ndarray:
    if aggregate is Aggregate.MIN:
        return ranges.lowest(held)
    if aggregate is Aggregate.MAX:
        return ranges.highest(held)
    return _picked(held, ranges.first if aggregate is Aggregate.FIRST else ranges.end - 1)


def _picked(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the values at some places; whatever there is where a place is none, as that of an empty range."""
    return values[np.clip(places, 0, len(values) - 1)] if len(values) else np.zeros(len(places), np.int64)


def _pairs(ranges: Ranges, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each row from `start` to `stop` with each of its events, in order."""
    counts = ranges.counts[start:stop]
    row = np.repeat(np.arange(start, stop), counts)
    offsets = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row, ranges.first[row] + offsets


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
