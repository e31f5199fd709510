"""Exact percentiles of latencies: nearest rank over all values, without buckets or interpolation."""

from __future__ import annotations

import numpy as np

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Percentiles of `values` (1-D) by name, in their unit; all NaN when there are no values.

    Each is the smallest value that at least that share of all values does not exceed.
    """
    if not len(values):
        return dict.fromkeys(QUANTILES, float("nan"))
    ranked = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, ranked.tolist(), strict=True))


def curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Empirical distribution: two arrays of len(values), the share of values at or below, and the values ascending."""
    ordered = np.sort(values)
    return np.arange(1, len(ordered) + 1) / max(len(ordered), 1), ordered
