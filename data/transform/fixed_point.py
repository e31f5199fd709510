"""Fixed-point numbers: a number as a whole number of its last declared decimal place.

Sums of whole numbers are exact, so neither the order of the events nor the machine nor a late arrival can change a bit
of a window's sum, and what is computed from a table equals what is computed online.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LIMIT = 2**53
"""Whole numbers of this size and above are refused: a float64 no longer holds each of them."""


class FixedPoint(NamedTuple):
    """A column of n numbers as whole numbers."""

    scaled: np.ndarray
    """int64 of shape (n,), 0 where there is no number."""
    missing: np.ndarray
    """Bool of shape (n,): the value is NaN."""
    out_of_range: np.ndarray
    """Bool of shape (n,): infinite, or too large for the declared places; to be refused."""


def to_fixed(values: np.ndarray, places: int) -> FixedPoint:
    """Convert float64 of shape (n,), NaN = missing, to whole numbers of `places` decimal places, half to even."""
    missing = np.isnan(values)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.rint(values * float(10**places))
    fits = np.abs(rounded) < LIMIT
    return FixedPoint(np.where(fits, rounded, 0).astype(np.int64), missing, ~fits & ~missing)


def fixed_value(value: float, places: int) -> int | None:
    """Convert one number as `to_fixed` does; None where it is out of range.

    Args:
        value: any float but NaN.
        places: decimal places that are kept.
    """
    scaled = float(value) * float(10**places)
    if not -float(LIMIT) <= scaled <= float(LIMIT):
        return None
    rounded = round(scaled)
    return rounded if abs(rounded) < LIMIT else None


def to_float(scaled: np.ndarray, places: int) -> np.ndarray:
    """Convert whole numbers, int64 of shape (n,), to the float64 nearest to what they stand for."""
    return scaled / float(10**places)
