"""The Prometheus metrics of an explanation replica's boosters: rows explained, and times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ray_app.inference.explanation.explanation_stage import Explainer
from ray_app.monitoring.histogram import family


class ExplanationMetrics(Collector):
    """Rows explained by a replica's boosters, and times.

    Args:
        replica: value of the label `replica`.
        held: returns the digests of the loaded versions, which are the ones with series.
        explainer: returns a loaded explainer by its digest's bytes, None when it is not loaded.
    """

    def __init__(
        self, replica: str, held: Callable[[], Mapping[str, str]], explainer: Callable[[bytes], Explainer | None]
    ) -> None:
        self._replica = replica
        self._held = held
        self._explainer = explainer

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        series = self._series()
        labels = ["replica", "version"]
        rows = CounterMetricFamily("rayscore_explanation_rows", "Rows explained by TreeSHAP.", labels=labels)
        for values, explainer in series.items():
            rows.add_metric(values, explainer.rows)
        times = {values: explainer.seconds for values, explainer in series.items()}
        text = "Time of one call of TreeSHAP, in seconds."
        return [rows, family("rayscore_explanation_seconds", text, labels, times)]

    def _series(self) -> dict[tuple[str, str], Explainer]:
        """Loaded explainers by labels; a bundle that was registered twice is one, by the first of its versions."""
        found: dict[tuple[str, str], Explainer] = {}
        for version, digest in self._held().items():
            explainer = self._explainer(bytes.fromhex(digest))
            if explainer is not None and explainer not in found.values():
                found[self._replica, version] = explainer
        return found
