"""The Prometheus metrics of versions and shadows in a gateway, from its statistics at every scrape.

Their labels are versions, of which a gateway keeps twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ray_app.monitoring.histogram import SECONDS
from ray_app.rollout.shadow_comparison import ShadowComparison
from ray_app.rollout.version_stats import VersionStats


class RolloutMetrics(Collector):
    """Collects one gateway's counts by version and shadow.

    Args:
        replica: value of the label `replica`.
        version_stats: returns the counts by version.
        shadows: returns the comparisons by version.
    """

    def __init__(
        self,
        replica: str,
        version_stats: Callable[[], Mapping[str, VersionStats]],
        shadows: Callable[[], Mapping[str, ShadowComparison]],
    ) -> None:
        self._replica = replica
        self._version_stats = version_stats
        self._shadows = shadows

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        requests = CounterMetricFamily(
            "rayscore_rollout_requests",
            "Requests by the version that the rules gave them to and how they went; those that name one are left out.",
            labels=["replica", "version", "outcome"],
        )
        seconds = HistogramMetricFamily(
            "rayscore_version_request_seconds",
            "Time to answer a /predict request, by the version that answered.",
            labels=["replica", "version"],
        )
        for version, stats in self._version_stats().items():
            counts = {"answered": stats.answered, "failed": stats.errors, "refused": stats.refused}
            for outcome, count in counts.items():
                requests.add_metric([self._replica, version, outcome], count)
            seconds.add_metric([self._replica, version], _buckets(stats), stats.seconds)
        rows = CounterMetricFamily(
            "rayscore_shadow_rows",
            "Rows for a shadow by what became of them.",
            labels=["replica", "version", "outcome"],
        )
        for version, each in self._shadows().items():
            counts = {"compared": each.rows, "dropped": each.dropped, "failed": each.failed}
            for outcome, count in counts.items():
                rows.add_metric([self._replica, version, outcome], count)
        return [requests, seconds, rows]


def _buckets(stats: VersionStats) -> list[tuple[str, float]]:
    """Cumulative counts of answered requests at the edges `SECONDS`, which are edges of the latency histogram too."""
    below = [(floatToGoString(edge), stats.answered - stats.slower_than(edge)) for edge in SECONDS]
    return [*below, ("+Inf", stats.answered)]
