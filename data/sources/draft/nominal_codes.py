"""Nominal codes: whole numbers that name something, such as 5411 for a grocer, and whose order means nothing.

A model that takes them for amounts still learns, but needs many cuts for what one category says. No table tells for
sure, so a draft asks.
"""

from __future__ import annotations

import re

import numpy as np

from data.sources.draft.column_profile import Column, Context

_NAME = re.compile(
    r"(code|type|kind|zip|zipcode|postcode|postal|plz|status|category|class|mcc|group|segment|sector|region|country"
    r"|state|branch|channel)_?\d*$"
)
_COUNTED = re.compile(r"^(n|nb|no_of|num|number|count|cnt|total)_")
_CALENDAR = re.compile(r"(^|_)(day|days|dow|weekday|week|month|quarter|year|hour|minute|second|date)($|_)")
_FEW, _MOST = 3, 50
_ROWS_A_VALUE = 30
_SIGNIFICANT = 4.0
"""Standard errors between two label rates; of many pairs the largest is looked at."""
_ROUGH = 0.5
"""Mean squared step between the rates of neighbours, as a share of what it is in no order at all."""
_FAR_FROM_ZERO = 100
_SPARSE = 10
"""Width of the range for each different value, from which on the numbers between are missing rather than rare."""


def asks_for_code(column: Column, context: Context) -> bool:
    """Return whether whole numbers may be codes: by their name, by how they lie, or by a jumping label rate."""
    if not column.whole or column.distinct < _FEW:
        return False
    name = column.snake_name
    if _COUNTED.search(name) or _CALENDAR.search(name):
        return False
    if _NAME.search(name):
        return True
    few = column.distinct <= min(_MOST, len(column.present) // _ROWS_A_VALUE)
    return few and (_sparse(column.floats) or any(_jumps(column.floats, each) for each in context.contrasts))


def _sparse(values: np.ndarray) -> bool:
    """Return whether a few numbers lie far from zero and apart, as those of a numbering do; round ones are amounts."""
    different = np.unique(values[np.isfinite(values)])
    wide = different[-1] - different[0] >= _SPARSE * len(different)
    return bool(wide and _far(different) and (different % 10).any() and (different % 12).any())


def _jumps(values: np.ndarray, label: np.ndarray) -> bool:
    known = np.isfinite(values)
    different, codes = np.unique(values[known], return_inverse=True)
    counts = np.bincount(codes)
    rates = np.bincount(codes, label[known]) / counts
    enough = counts >= _ROWS_A_VALUE
    different, counts, rates = different[enough], counts[enough], rates[enough]
    if len(rates) < _FEW:
        return False
    turns = _turns(rates, counts, float(label.var()))
    return (turns >= 2 and _roughness(rates) >= _ROUGH) or (turns >= 1 and _far(different))


def _turns(rates: np.ndarray, counts: np.ndarray, variance: float) -> int:
    """Count how often the label rate changes direction along the values, by more than chance."""
    spread = max(variance, 1e-12)
    turns, rising = 0, 0
    low = high = 0
    for at in range(1, len(rates)):
        up = (rates[at] - rates[low]) / np.sqrt(spread * (1 / counts[at] + 1 / counts[low]))
        down = (rates[high] - rates[at]) / np.sqrt(spread * (1 / counts[at] + 1 / counts[high]))
        if up > _SIGNIFICANT and rising != 1:
            turns, rising, high = turns + (rising == -1), 1, at
        elif down > _SIGNIFICANT and rising != -1:
            turns, rising, low = turns + (rising == 1), -1, at
        # In a rise only a new top counts from here on, in a fall a new bottom.
        high = at if rates[at] >= rates[high] else high
        low = at if rates[at] <= rates[low] else low
    return turns


def _roughness(rates: np.ndarray) -> float:
    """Return von Neumann's ratio, halved: near 0 for a smooth curve, near 1 for rates in no order."""
    variance = rates.var()
    return float(np.square(np.diff(rates)).mean() / (2 * variance)) if variance else 0.0


def _far(different: np.ndarray) -> bool:
    """Return whether numbers in order begin far from zero, and are no years."""
    return bool(different[0] >= _FAR_FROM_ZERO and not (different[0] >= 1900 and different[-1] <= 2100))
