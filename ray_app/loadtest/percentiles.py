"""Percentiles of latencies, from every value that was measured: no buckets, no interpolation."""

from __future__ import annotations

import numpy as np

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def percentiles(values: np.ndarray) -> dict[str, float]:
    """Each percentile is the smallest value that at least that share of all values does not exceed.

    Same unit as `values`. Of no values every percentile is NaN.
    """
    if not len(values):
        return dict.fromkeys(QUANTILES, float("nan"))
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def curve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole distribution as (share of requests at or below, value), ascending; at most one point a value."""
    ordered = np.sort(values)
    return np.arange(1, len(ordered) + 1) / max(len(ordered), 1), ordered
