"""Digits of decimal fractions: whether doubles keep them, for a whole column at once, by whole-number arithmetic.

A text with a point is M / 10^k with a whole M, its double m * 2^q. Printed to as many digits it is the same when it is
nearer than half a unit of the last one: |m * 5^k - M * 2^s| < 2^(s-1) with s = -(q + k). The double is the nearest to
the text, so the left side is at most 5^k / 2; up to k = 27 that fits 63 bits, and both products may overflow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data.sources.csv.text_arrays import position

_MOST_DIGITS = 20
_MOST_PLACES = 27
_FEWEST_ROWS = 32
"""Texts of a layout that is rarer are not worth the steps."""

_WIDTH = 32
"""Layouts are numbered in this base; longer texts are left out."""

_POWERS_OF_FIVE = np.array([5**power for power in range(_MOST_PLACES + 1)], np.uint64)
_POWERS_OF_TEN = np.array([10**power for power in range(_MOST_DIGITS)], np.uint64)

Marks = npt.NDArray[np.bool_]


class _Layout(NamedTuple):
    """Where the parts of a text are, its sign aside: its length, its point and its `e` (or its length)."""

    length: int
    point: int
    exponent: int


def proven_to_keep(text: pa.StringArray, numbers: pa.Array) -> Marks:
    """Mark the texts whose digits the doubles are proven to keep; of those not marked nothing is known.

    Args:
        text: numbers as they are written, shape (n,).
        numbers: the nearest doubles to them, shape (n,).
    """
    proven = np.zeros(len(text), bool)
    _, bounds, content = text.buffers()
    if not len(text) or bounds is None or content is None:
        return proven
    data = np.frombuffer(content, np.uint8)
    offsets = np.frombuffer(bounds, np.int32)[text.offset : text.offset + len(text) + 1]
    values = numbers.to_numpy(zero_copy_only=False)
    keys, starts = _layouts(text, data, offsets)
    keys[~np.isfinite(values)] = 0
    counts = np.bincount(keys)
    for key in np.flatnonzero(counts >= _FEWEST_ROWS):
        layout = _Layout(*(int(part) for part in np.unravel_index(key, (_WIDTH, _WIDTH, _WIDTH))))
        if 1 < layout.exponent <= _MOST_DIGITS + 1:
            rows = np.flatnonzero(keys == key)
            block = data[starts[rows, None] + np.arange(layout.length)]
            proven[rows] = _are_near(block, layout, np.abs(values[rows]))
    return proven


def _layouts(
    text: pa.StringArray, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the number of each text's layout, 0 for none, and where its digits start."""
    negative = data[np.minimum(offsets[:-1], data.size - 1)] == ord("-")
    starts = offsets[:-1] + negative.astype(np.int64)
    lengths = offsets[1:] - starts
    point, exponent = position(text, ".") - negative, position(text, "e") - negative
    exponent = np.where(exponent < 0, lengths, exponent)
    fit = (lengths < _WIDTH) & (point >= 0) & (point < exponent)
    return np.where(fit, (lengths * _WIDTH + point) * _WIDTH + exponent, 0), starts


def _are_near(block: npt.NDArray[np.uint8], layout: _Layout, values: npt.NDArray[np.float64]) -> Marks:
    """Mark the rows of one layout, shape (rows, length), whose doubles are near enough."""
    digits = _whole_numbers(np.delete(block[:, : layout.exponent], layout.point, axis=1))
    if digits is None:
        return np.zeros(len(block), bool)
    places = layout.exponent - layout.point - 1 - _exponents(block[:, layout.exponent + 1 :])
    fraction, power = np.frexp(values)
    mantissa = np.ldexp(fraction, 53).astype(np.uint64)
    shift = 53 - power - places
    fit = (places >= 0) & (places <= _MOST_PLACES) & (shift > 0)
    fives = _POWERS_OF_FIVE[np.where(fit, places, 0)]
    scaled = np.where(shift < 64, digits << np.clip(shift, 0, 63).astype(np.uint64), np.uint64(0))
    distance = (mantissa * fives - scaled).view(np.int64)
    half = np.int64(1) << np.clip(shift - 1, 0, 62).astype(np.int64)
    near = (np.abs(distance) < half) & ~_is_power_of_ten(digits)
    return fit & ((distance == 0) | near) & _leads_well(block, layout)


def _whole_numbers(characters: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64] | None:
    """Return rows of digits as numbers; None when one is no digit, or too many for 64 bits."""
    rows, width = characters.shape
    bounds = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    text = pa.StringArray.from_buffers(rows, pa.py_buffer(bounds), pa.py_buffer(characters.tobytes()))
    try:
        return text.cast(pa.uint64()).to_numpy()
    except pa.ArrowInvalid:
        return None


def _exponents(characters: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return what is written behind `e` as numbers, 0 where nothing is."""
    found = np.zeros(len(characters), np.int64)
    for column in characters.T:
        found = np.where(column >= ord("0"), found * 10 + column - ord("0"), found)
    negative = (characters == ord("-")).any(axis=1)
    return np.where(negative, -found, found)


def _is_power_of_ten(digits: npt.NDArray[np.uint64]) -> Marks:
    """Mark numbers below which a digit more is printed, so that half a unit is less there."""
    above = np.searchsorted(_POWERS_OF_TEN, digits)
    return _POWERS_OF_TEN[np.minimum(above, len(_POWERS_OF_TEN) - 1)] == digits


def _leads_well(block: npt.NDArray[np.uint8], layout: _Layout) -> Marks | bool:
    """Mark the rows without a zero that leads: that is no digit a double keeps."""
    return layout.point <= 1 or block[:, 0] != ord("0")
