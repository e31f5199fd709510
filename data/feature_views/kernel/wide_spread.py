"""Spreads beyond 64 bits: count * (sum of squares) - (sum)**2 of many ranges, exact, and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ROOM = float(2**62)


def wide_spreads(values: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the spreads of n ranges as float64, each the nearest to the exact whole number.

    Each value is divided into two halves of its bits. The spread is then a sum of three that 64 bits hold, shifted, and
    that sum one of 128 bits. Where a range is too long for this, Python's whole numbers take over.

    Args:
        values: int64 of shape (k,), below 2**54 in size.
        first: index of each range's first element, int64 of shape (n,).
        end: index after its last one.
    """
    half = (int(np.abs(values).max(initial=0)).bit_length() + 1) // 2
    counts = (end - first).astype(np.float64)
    short = counts * counts * 4.0**half < _ROOM
    found = np.empty(len(first), np.float64)
    found[short] = _by_halves(values, first[short], end[short], half)
    found[~short] = _by_whole_numbers(values, first[~short], end[~short])
    return found


def _by_halves(values: np.ndarray, first: np.ndarray, end: np.ndarray, half: int) -> np.ndarray:
    high, low = values >> half, values & (2**half - 1)
    counts, high_sum, low_sum = end - first, _sums(high, first, end), _sums(low, first, end)
    squares = counts * _sums(high * high, first, end) - high_sum * high_sum
    products = counts * _sums(high * low, first, end) - high_sum * low_sum
    low_squares = counts * _sums(low * low, first, end) - low_sum * low_sum
    return _rounded_sum([(low_squares, 0), (products, half + 1), (squares, 2 * half)])


def _sums(values: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    # Where a prefix sum runs over it wraps around, and the difference wraps back.
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))
    return before[end] - before[first]


def _rounded_sum(parts: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Add int64 numbers, each times two to a power below 64, in 128 bits; the sum is from 0 to below 2**117."""
    high = np.zeros(len(parts[0][0]), np.int64)
    low = np.zeros(len(high), np.uint64)
    for part, shift in parts:
        added = part.astype(np.uint64) << np.uint64(shift)
        low = low + added
        high = high + (part >> min(64 - shift, 63)) + (low < added)
    bits = np.frexp(high.astype(np.float64))[1]
    shift = np.clip(bits, 1, 63).astype(np.uint64)
    kept = (high.astype(np.uint64) << (np.uint64(64) - shift)) | (low >> shift)
    # A last bit that says whether anything is left decides a tie, and nothing else.
    rest = (low << (np.uint64(64) - shift)) != 0
    return np.where(high == 0, low.astype(np.float64), np.ldexp((kept | rest).astype(np.float64), bits))


def _by_whole_numbers(values: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    if not len(first):
        return np.zeros(0, np.float64)
    exact = values.astype(object)
    sums = np.concatenate(([0], np.cumsum(exact)))
    squares = np.concatenate(([0], np.cumsum(exact * exact)))
    total = sums[end] - sums[first]
    return ((end - first).astype(object) * (squares[end] - squares[first]) - total * total).astype(np.float64)
