"""Bounds that the meaning of a column sets, as far as its values or its name show it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources.draft.column_profile import Column
from data.sources.draft.natural_bounds import natural_bounds

ROWS = 2000
_RNG = np.random.default_rng(0)


def bounds(values, name="x"):
    """The bounds of a column."""
    return tuple(natural_bounds(Column(name, pa.chunked_array([pa.array(values)]))))


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (_RNG.integers(0, 2, ROWS), "flag", (0, 1)),
        (_RNG.integers(0, 24, ROWS), "transaction_hour", (0, 23)),
        (_RNG.integers(0, 7, ROWS), "weekday", (0, 6)),
        (_RNG.integers(1, 8, ROWS), "dayOfWeek", (1, 7)),
        (_RNG.integers(6, 22, ROWS), "hour", (0, 23)),
        (_RNG.integers(0, 24, ROWS), "x", (0, None)),
        (_RNG.integers(0, 60, ROWS), "hours", (0, None)),
        (_RNG.random(ROWS), "x", (0, 1)),
        (_RNG.random(ROWS) / 4, "churn_prob", (0, 1)),
        (_RNG.random(ROWS) / 4, "x", (0, None)),
        (_RNG.integers(20, 101, ROWS), "trust", (0, 100)),
        (_RNG.random(ROWS) * 30, "fillPct", (0, 100)),
        (_RNG.poisson(3, ROWS), "visits", (0, None)),
        (_RNG.choice([-np.inf, 0.5, 1.0], ROWS), "churn_prob", (None, None)),
        (_RNG.choice([np.inf, 0.0, 0.5], ROWS), "churn_prob", (0, None)),
        (_RNG.poisson(3, ROWS) + 1, "calls", (0, None)),
        (_RNG.lognormal(3, 1, ROWS), "amount", (0, None)),
        ([None, *_RNG.lognormal(3, 1, ROWS).tolist(), float("inf")], "amount", (0, None)),
        (_RNG.integers(18, 90, ROWS), "age", (None, None)),
        (_RNG.normal(25, 4, ROWS), "temperature", (None, None)),
        (_RNG.normal(0, 1, ROWS), "x", (None, None)),
        (_RNG.integers(-1, 24, ROWS), "hour", (None, None)),
        (_RNG.random(20), "x", (None, None)),
        ([None, float("nan")], "x", (None, None)),
    ],
)
def test_bounds_follow_from_the_meaning(values, name, expected):
    """Flags, hours, shares, percentages, counts and amounts are bounded; ages and temperatures are not."""
    assert bounds(values, name) == expected


@given(st.lists(st.floats(allow_nan=False) | st.integers(0, 100).map(float), min_size=1, max_size=300))
def test_bounds_hold_every_value(values):
    """Whatever a column holds, no finite value lies outside the bounds."""
    low, high = bounds(values)
    finite = [value for value in values if np.isfinite(value)]
    assert low is None or min(finite) >= low
    assert high is None or max(finite) <= high
