"""The last step of an aggregate, from exact whole numbers to a float: one rule for a column and for one value.

Every division has a whole number below 2**53 or a correctly rounded one on either side, and is done once, in float64:
so numpy and Python give the same bits.
"""

from __future__ import annotations

import math

import numpy as np

US_A_SECOND = 1_000_000


def total(scaled_sum: int, places: int) -> float:
    """Return the sum of a window; `scaled_sum` in units of its last decimal place."""
    return float(scaled_sum) / float(10**places)


def totals(scaled_sums: np.ndarray, places: int) -> np.ndarray:
    """Return `total` of n windows: from int64 to float64, both of shape (n,)."""
    return scaled_sums.astype(np.float64) / float(10**places)


def mean(scaled_sum: int, count: int, places: int) -> float:
    """Return the mean of a window, NaN of an empty one."""
    return float(scaled_sum) / (float(count) * float(10**places)) if count else math.nan


def means(scaled_sums: np.ndarray, counts: np.ndarray, places: int) -> np.ndarray:
    """Return `mean` of n windows: int64 of shape (n,) each, to float64 of shape (n,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = scaled_sums.astype(np.float64) / (counts.astype(np.float64) * float(10**places))
    return np.where(counts > 0, found, np.nan)


def deviation(scaled_sum: int, scaled_squares: int, count: int, places: int) -> float:
    """Return the standard deviation of a sample, NaN of fewer than two.

    Args:
        scaled_sum: sum of the whole numbers.
        scaled_squares: sum of their squares.
        count: how many.
        places: decimal places of a whole number.
    """
    if count < 2:
        return math.nan
    spread = count * scaled_squares - scaled_sum * scaled_sum
    return math.sqrt(float(spread) / float(count * (count - 1))) / float(10**places)


def deviations(spreads: np.ndarray, counts: np.ndarray, places: int) -> np.ndarray:
    """Return `deviation` of n windows from `spreads`, count * squares - sum * sum, as float64 of shape (n,).

    A spread that is beyond 64 bits has to be rounded once, from the exact whole number.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.sqrt(spreads / (counts * (counts - 1)).astype(np.float64)) / float(10**places)
    return np.where(counts > 1, found, np.nan)


def seconds(microseconds: int) -> float:
    """Return a duration in seconds."""
    return float(microseconds) / US_A_SECOND
