"""When each request of a load test is due. Open loop: the times are fixed before the first request is sent."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np


class Profile(str, Enum):
    """How the asked rate goes over time; `rps` is the highest rate of each."""

    CONSTANT = "constant"
    RAMP = "ramp"
    STEP = "step"
    SPIKE = "spike"


class _Piece(NamedTuple):
    """A share of the duration over which the rate goes straight from one share of `rps` to another."""

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
    """Times at which requests are due, in s from the start of measuring, ascending.

    Warm-up requests come at the profile's first rate and have negative times. Evenly spaced while the rate is
    constant: request k is due when the integral of the rate has reached k.
    """
    first = _PIECES[profile][0].first * rps
    warm = np.arange(-round(warmup_s * first), 0) / first
    parts, started, offset = [warm], 0.0, 0.0
    for piece in _PIECES[profile]:
        took = piece.share * duration_s
        low, high = piece.first * rps, piece.last * rps
        total = offset + (low + high) / 2 * took
        # The small allowance keeps a request that is due at the very end of a piece out of two of them.
        wanted = np.arange(np.ceil(offset - 1e-6), np.ceil(total - 1e-6)) - offset
        parts.append(started + _when(np.maximum(wanted, 0), low, (high - low) / took))
        started, offset = started + took, total
    return np.concatenate(parts)


def _when(count: np.ndarray, rate: float, slope: float) -> np.ndarray:
    """Time t at which `rate * t + slope * t**2 / 2` is `count`, in the form that is exact for a slope of 0."""
    return 2 * count / (rate + np.sqrt(rate**2 + 2 * slope * count))
