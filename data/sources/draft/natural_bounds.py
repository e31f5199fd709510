"""Natural bounds of a column of numbers: the range that its meaning sets, as far as the values or the name show it.

The observed range is no bound: tomorrow's largest amount is larger than any so far, and must not be refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from data.sources.draft.column_profile import Column

_ENOUGH_ROWS = 100
_FULL = 0.01
"""Share of the values in the last tenth of a range that shows the range to end where it does."""
_SHARE = re.compile(r"(^|_)(share|fraction|prob|proba|probability)$")
_PERCENT = re.compile(r"(^|_)(pct|perc|percent|percentage)$")
_CALENDAR = (
    (re.compile(r"(^|_)(hour|hr|hour_of_day)$"), 0, 23),
    (re.compile(r"(^|_)(weekday|dow|day_of_week|dayofweek)$"), 0, 6),
    (re.compile(r"(^|_)(weekday|dow|day_of_week|dayofweek)$"), 1, 7),
)


class Bounds(NamedTuple):
    """Smallest and largest value that make sense; None where there is no bound."""

    low: int | None = None
    high: int | None = None


def natural_bounds(column: Column) -> Bounds:
    """Return the bounds of a column of numbers; those of a flag, an hour, a share, a percentage, or not below zero."""
    # With infinities: a bound that they pass would refuse their rows.
    known = column.floats[~np.isnan(column.floats)]
    if not len(known) or known.min() < 0:
        return Bounds()
    name, low, high = column.snake_name, float(known.min()), float(known.max())
    if column.whole and column.distinct == 2 and (low, high) == (0, 1):
        return Bounds(0, 1)
    for pattern, first, last in _CALENDAR:
        if column.whole and pattern.search(name) and first <= low and high <= last:
            return Bounds(first, last)
    if not column.whole and _ends_at(known, 1, bool(_SHARE.search(name))):
        return Bounds(0, 1)
    if high > 1 and _ends_at(known, 100, bool(_PERCENT.search(name))):
        return Bounds(0, 100)
    return Bounds(0) if _begins_at_zero(known, column.whole) else Bounds()


def _ends_at(values: np.ndarray, end: int, named: bool) -> bool:
    """Return whether values that are not negative end there: by their name, or because many come close to it."""
    if values.max() > end:
        return False
    return named or (
        len(values) >= _ENOUGH_ROWS and values.max() >= 0.99 * end and (values > 0.9 * end).mean() >= _FULL
    )


def _begins_at_zero(values: np.ndarray, whole: bool) -> bool:
    """Return whether values that are not negative begin at zero: counts and amounts do, an age or a temperature not."""
    if len(values) < _ENOUGH_ROWS:
        return False
    low, middle, high = float(values.min()), float(np.median(values)), float(values.max())
    counted = whole and low <= 1
    skewed = high - middle >= 3 * (middle - low) and low <= 0.1 * middle
    return counted or skewed or low <= 0.01 * middle
