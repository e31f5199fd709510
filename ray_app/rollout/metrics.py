"""The Prometheus metrics of versions and shadows in a gateway, made of its statistics at every scrape.

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
        tallies: the counts by version.
        shadows: the comparisons by version.
    """

    def __init__(
        self,
        replica: str,
        tallies: Callable[[], Mapping[str, VersionStats]],
        shadows: Callable[[], Mapping[str, ShadowComparison]],
    ) -> None:
        self._replica = replica
        self._tallies = tallies
        self._shadows = shadows

    def collect(self) -> Iterable[Metric]:
        """The metric families of this moment."""
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
        for version, tally in self._tallies().items():
            counts = {"answered": tally.answered, "failed": tally.errors, "refused": tally.refused}
            for outcome, count in counts.items():
                requests.add_metric([self._replica, version, outcome], count)
            seconds.add_metric([self._replica, version], _buckets(tally), tally.seconds)
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


def _buckets(tally: VersionStats) -> list[tuple[str, float]]:
    """Answered requests up to a few of the tally's own edges."""
    below = [(floatToGoString(edge), tally.answered - tally.slower_than(edge)) for edge in SECONDS]
    return [*below, ("+Inf", tally.answered)]
