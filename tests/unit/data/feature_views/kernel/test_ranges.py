"""Aggregates over ranges: each equals a loop over the elements of every range."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.feature_views.kernel.ranges import Ranges
from data.feature_views.kernel.wide_spread import wide_spreads

_SIZES = st.sampled_from([3, 1000, 2**31, 2**40, 2**52, 2**53 - 1])


@given(st.data())
def test_every_aggregate_equals_a_loop(data: st.DataObject) -> None:
    """Empty ranges, equal elements and spreads far beyond 64 bits among them."""
    size = data.draw(_SIZES)
    values = data.draw(st.lists(st.integers(-size, size), max_size=30))
    ends = data.draw(st.lists(st.tuples(*[st.integers(0, len(values))] * 2), min_size=1, max_size=20))
    firsts, lasts = (sorted(each) for each in zip(*map(sorted, ends), strict=True))
    pairs = list(zip(firsts, lasts, strict=True))
    held, cut = np.array(values, np.int64), [values[first:end] for first, end in pairs]
    ranges = Ranges(*np.array(pairs, np.int64).T)
    assert ranges.sums(held).tolist() == [sum(each) for each in cut]
    assert ranges.lowest(held).tolist() == [min(each, default=0) for each in cut]
    assert ranges.highest(held).tolist() == [max(each, default=0) for each in cut]
    assert ranges.distinct(held).tolist() == [len(set(each)) for each in cut]
    spreads = [float(len(each) * sum(x * x for x in each) - sum(each) ** 2) for each in cut]
    assert ranges.spreads(held).tolist() == spreads


@given(st.integers(0, 2**53 - 1), st.integers(0, 50), st.integers(1, 80))
def test_a_spread_beyond_64_bits_is_rounded_once(value: int, step: int, count: int) -> None:
    """Values that lie close together far from 0, and ranges that are too long for two halves of their bits."""
    values = [max(value - step * at, -(2**53)) for at in range(count)]
    ends = np.arange(count + 1)
    found = wide_spreads(np.array(values, np.int64), np.zeros(count + 1, np.int64), ends)
    parts = [values[:end] for end in ends]
    assert found.tolist() == [float(len(part) * sum(x * x for x in part) - sum(part) ** 2) for part in parts]
