"""Aggregates over ranges of a sequence: n ranges [first, end) at once, exact, without a loop over rows."""

from __future__ import annotations

import numpy as np

from data.feature_views.kernel.entity_order import stable_order
from data.feature_views.kernel.wide_spread import wide_spreads

_LARGEST_EXACT = float(2**62)
"""Below this an int64 holds a sum or a spread, with room for the rounding of the estimate."""


class Ranges:
    """Ranges of a sequence of k elements, none of which begins or ends before the one before it does.

    Args:
        first: index of the first element, int64 of shape (n,), ascending.
        end: index after the last one, int64 of shape (n,), ascending; not below `first`.
    """

    def __init__(self, first: np.ndarray, end: np.ndarray) -> None:
        self.first = first
        self.end = end
        self.counts = end - first
        """Number of elements, int64 of shape (n,)."""

    def within(self, kept: np.ndarray) -> Ranges:
        """Return the same ranges in the sequence of the elements that are `kept`, bool of shape (k,)."""
        before = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))
        return Ranges(before[self.first], before[self.end])

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum int64 of shape (k,) over each range.

        Exact where the sum itself fits into 64 bits: prefix sums that run over wrap around, and their difference
        wraps back.
        """
        prefix = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=prefix[1:])
        return prefix[self.end] - prefix[self.first]

    def sums_fit(self, values: np.ndarray) -> bool:
        """Return whether 64 bits hold the sum of int64 of shape (k,) over each range, whatever their signs."""
        sizes = np.abs(values).astype(np.float64)
        if float(sizes.max(initial=0)) * float(self.counts.max(initial=0)) < _LARGEST_EXACT:
            return True
        before = np.concatenate(([0.0], np.cumsum(sizes)))
        return bool(np.all(before[self.end] - before[self.first] < _LARGEST_EXACT))

    def spreads(self, values: np.ndarray) -> np.ndarray:
        """Return count * (sum of squares) - (sum)**2 of each range as float64, each rounded once from the exact one."""
        largest = float(np.abs(values).max(initial=0))
        bound = (self.counts.astype(np.float64) * largest) ** 2
        sums, squares = self.sums(values), self.sums(values * values)
        spreads = (self.counts * squares - sums * sums).astype(np.float64)
        wide = np.flatnonzero(bound >= _LARGEST_EXACT)
        if wide.size:
            spreads[wide] = wide_spreads(values, self.first[wide], self.end[wide])
        return spreads

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """Return the smallest of int64 of shape (k,) in each range; 0 where a range is empty.

        A range of m elements is covered by two of the largest power of two up to m. The minima of all ranges of that
        length are made level by level, each in place of the one before: one copy of the values is held.
        """
        found = np.zeros(len(self.first), np.int64)
        level = np.zeros(len(self.first), np.int8)
        full = self.counts > 0
        level[full] = np.frexp(self.counts[full].astype(np.float64))[1] - 1
        minima = values.copy()
        for power in range(int(level.max(initial=0)) + 1):
            length = 1 << power
            if power:
                half = length // 2
                np.minimum(minima[: len(minima) - half], minima[half:], out=minima[: len(minima) - half])
            asked = np.flatnonzero(full & (level == power))
            if asked.size:
                found[asked] = np.minimum(minima[self.first[asked]], minima[self.end[asked] - length])
        return found

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Return the largest of int64 of shape (k,) in each range; 0 where a range is empty."""
        return -self.lowest(-values)

    def distinct(self, codes: np.ndarray) -> np.ndarray:
        """Count the different ones among int64 codes of shape (k,) in each range.

        An element is the first of its kind in a range when it lies in it and the one of its kind before does not.
        Ranges only move on, so it is so in consecutive ranges, and only where they begin and end is looked for.
        """
        places = np.arange(len(codes))
        begins = np.maximum(
            np.searchsorted(self.end, places, side="right"), np.searchsorted(self.first, _predecessors(codes))
        )
        ends = np.searchsorted(self.first, places, side="right")
        counted = begins < ends
        count = len(self.first)
        steps = np.bincount(begins[counted], minlength=count) - np.bincount(ends[counted], minlength=count + 1)[:count]
        return np.cumsum(steps)


def _predecessors(codes: np.ndarray) -> np.ndarray:
    """Return for each element the index after the one of its kind before, 0 without one."""
    order = stable_order(codes)
    same = codes[order[1:]] == codes[order[:-1]]
    found = np.zeros(len(codes), np.int64)
    found[order[1:][same]] = order[:-1][same] + 1
    return found
