"""Histograms for paths where each microsecond counts: to observe costs an append, the sorting is done later.

Prometheus' own histogram walks its buckets under a lock at every observation, which costs eight times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper edges of what takes a request's time."""
FINE_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Upper edges of what takes a part of it."""

_FOLD = 512


class Histogram:
    """One histogram. Belongs to one event loop.

    Args:
        edges: upper edges of the buckets, rising; one more takes what is above them.
    """

    __slots__ = ("_counts", "_edges", "_fresh", "_sum")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(edges, float)
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._sum = 0.0
        self._fresh: list[float] = []

    def observe(self, value: float) -> None:
        """Take one value."""
        self._fresh.append(value)
        if len(self._fresh) >= _FOLD:
            self._fold()

    @property
    def sum(self) -> float:
        """Sum of the values taken."""
        self._fold()
        return self._sum

    def buckets(self) -> list[tuple[str, float]]:
        """Upper edge, as Prometheus writes it, and number of values up to it; the last is all of them."""
        self._fold()
        edges = [*map(floatToGoString, self._edges), "+Inf"]
        return list(zip(edges, np.cumsum(self._counts).tolist(), strict=True))

    def _fold(self) -> None:
        if self._fresh:
            fresh, self._fresh = self._fresh, []
            self._counts += np.bincount(np.searchsorted(self._edges, fresh), minlength=len(self._counts))
            self._sum += sum(fresh)


class Histograms(Collector):
    """Distributions of one name, by the values of its labels, as Prometheus collects them."""

    def __init__(self, name: str, text: str, edges: Sequence[float], labels: Sequence[str]) -> None:
        self._named = (name, text, tuple(labels))
        self._edges = edges
        self._children: dict[tuple[str, ...], Histogram] = {}

    def labels(self, *values: str) -> Histogram:
        """The distribution with these labels; ask once and keep it."""
        return self._children.setdefault(values, Histogram(self._edges))

    def collect(self) -> Iterable[Metric]:
        """The one family."""
        return [family(*self._named, self._children)]


def family(
    name: str, text: str, labels: Sequence[str], children: Mapping[tuple[str, ...], Histogram]
) -> HistogramMetricFamily:
    """Distributions as one family, by the values of its labels."""
    found = HistogramMetricFamily(name, text, labels=labels)
    for values, each in children.items():
        found.add_metric(values, each.buckets(), each.sum)
    return found
