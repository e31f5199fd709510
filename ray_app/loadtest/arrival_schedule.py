"""Arrival schedule of a load test: the time at which each request is due.

Open loop: all times are fixed before the first request is sent, so a slow service does not slow the load down.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np


class Profile(str, Enum):
    """Shape of the request rate over time; `rps` is the highest rate of each shape."""

    CONSTANT = "constant"
    RAMP = "ramp"
    STEP = "step"
    SPIKE = "spike"


class _Piece(NamedTuple):
    """A segment of a profile: its share of the duration, and the rate at its ends as shares of `rps`."""

    share: float
    first: float
    last: float


_LOW = 0.1
_PIECES = {
    Profile.CONSTANT: (_Piece(1, 1, 1),),
    Profile.RAMP: (_Piece(1, _LOW, 1),),
    Profile.STEP: (_Piece(1 / 3, _LOW, _LOW), _Piece(2 / 3, 1, 1)),
    Profile.SPIKE: (_Piece(0.4, _LOW, _LOW), _Piece(0.2, 1, 1), _Piece(0.4, _LOW, _LOW)),
}


def arrivals(profile: Profile, rps: float, duration_s: float, warmup_s: float = 0.0) -> np.ndarray:
    """Due times of all requests, in s from the start of measuring, ascending; one float64 per request.

    Request k is due when the integral of the rate reaches k, so requests are evenly spaced while the rate is constant.
    Warm-up requests have negative times and come at the profile's first rate.

    Args:
        profile: shape of the rate.
        rps: highest rate, in requests/s.
        duration_s: time to measure, in s.
        warmup_s: time before that, in s.
    """
    first = _PIECES[profile][0].first * rps
    warm = np.arange(-round(warmup_s * first), 0) / first
    parts, started, offset = [warm], 0.0, 0.0
    for piece in _PIECES[profile]:
        length_s = piece.share * duration_s
        low, high = piece.first * rps, piece.last * rps
        total = offset + (low + high) / 2 * length_s
        # The tolerance: with rounding errors, a request due exactly where two pieces meet would be in both or neither.
        counts = np.arange(np.ceil(offset - 1e-6), np.ceil(total - 1e-6)) - offset
        parts.append(started + _when(np.maximum(counts, 0), low, (high - low) / length_s))
        started, offset = started + length_s, total
    return np.concatenate(parts)


def _when(count: np.ndarray, rate: float, slope: float) -> np.ndarray:
    """Solve `rate * t + slope * t**2 / 2 = count` for t, in the form that does not divide by a slope of 0."""
    return 2 * count / (rate + np.sqrt(rate**2 + 2 * slope * count))
