"""The one hash of numbers: SplitMix64, the same on every machine and in every block of rows."""

from __future__ import annotations

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 divided by the golden ratio, the increment of SplitMix64."""
_WRAP = 1 << 64


def splitmix64(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Hash uint64 values by the finalizer of SplitMix64 (Steele et al. 2014); the hashes differ by `seed`."""
    mixed = values + np.uint64((seed + 1) * int(GOLDEN) % _WRAP)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def unit_interval(hashes: np.ndarray) -> np.ndarray:
    """Return uint64 hashes as float64 in [0, 1), from their upper 53 bits."""
    return (hashes >> np.uint64(11)) / float(1 << 53)
