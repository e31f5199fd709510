"""Prometheus histograms for hot paths: an observation is a list append; buckets are counted later, many at a time.

The histogram of prometheus_client walks its buckets under a lock at every observation, which costs eight times as
much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bucket edges for the duration of a request, in seconds."""
FINE_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Bucket edges for the duration of a part of a request, in seconds."""

_BATCH = 512


class Histogram:
    """A histogram of one series. Not thread-safe: observe and read it from the same event loop.

    Args:
        edges: upper edges of the buckets (inclusive), ascending; values above the last go to a bucket "+Inf".
    """

    __slots__ = ("_counts", "_edges", "_pending", "_sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, float)
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._sum = 0.0
        self._pending: list[float] = []

    def observe(self, value: float) -> None:
        """Add one value."""
        self._pending.append(value)
        if len(self._pending) >= _BATCH:
            self._flush()

    @property
    def sum(self) -> float:
        """Sum of all values observed."""
        self._flush()
        return self._sum

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as (upper edge in Prometheus' notation, values up to it); the last, "+Inf", counts all."""
        self._flush()
        edges = [*map(floatToGoString, self._edges), "+Inf"]
        return list(zip(edges, np.cumsum(self._counts).tolist(), strict=True))

    def _flush(self) -> None:
        if self._pending:
            values, self._pending = self._pending, []
            self._counts += np.bincount(np.searchsorted(self._edges, values), minlength=len(self._counts))
            self._sum += sum(values)


class Histograms(Collector):
    """A metric family of histograms: one for each combination of label values. Registers like any collector.

    Args:
        name: of the metric.
        text: its help text.
        edges: upper edges of the buckets, as for Histogram.
        labels: label names.
    """

    def __init__(self, name: str, text: str, edges: Sequence[float], labels: Sequence[str]) -> None:
        self._description = (name, text, tuple(labels))
        self._edges = edges
        self._children: dict[tuple[str, ...], Histogram] = {}

    def labels(self, *values: str) -> Histogram:
        """Return the histogram with these label values, created at the first call; keep a reference on hot paths."""
        return self._children.setdefault(values, Histogram(self._edges))

    def collect(self) -> Iterable[Metric]:
        """Return the metric family, in a list of one, as prometheus_client expects."""
        return [family(*self._description, self._children)]


def family(
    name: str, text: str, labels: Sequence[str], children: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    """Make a metric family of `children`: histograms by their label values."""
    metric = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in children.items():
        metric.add_metric(values, histogram.buckets(), histogram.sum)
    return metric
