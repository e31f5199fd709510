"""The Prometheus metrics of a replica's parts: process, exchange with Control, store, models, link server.

Each collector reads, at every scrape, counts that the part keeps anyway.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ray_app.control.supervised_loop import SupervisedLoop
from ray_app.deployments.metrics.event_metrics import EventMetrics
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.monitoring.histogram import family
from ray_app.transport.server import REFUSALS, UNANSWERED, LinkServer

_STATM = Path("/proc/self/statm")


class ProcessMetrics(Collector):
    """CPU, memory and age of this process, one of a deployment's replicas."""

    def __init__(self, replica: str, deployment: str) -> None:
        self._values = [replica, deployment]
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        labels = ["replica", "deployment"]
        cpu = CounterMetricFamily(
            "rayscore_replica_cpu_seconds", "CPU time of the replica's process, in seconds.", labels=labels
        )
        cpu.add_metric(self._values, time.process_time())
        started = GaugeMetricFamily(
            "rayscore_replica_start_time_seconds", "When the replica started, in seconds since 1970.", labels=labels
        )
        started.add_metric(self._values, self._started)
        memory = GaugeMetricFamily(
            "rayscore_replica_memory_bytes", "Resident memory of the replica's process.", labels=labels
        )
        if _STATM.exists():
            memory.add_metric(self._values, int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        return [cpu, started, memory]


class ControlLoopMetrics(Collector):
    """Unexpected failures of a replica's exchange with Control."""

    def __init__(self, replica: str, deployment: str, loop: SupervisedLoop) -> None:
        self._values = [replica, deployment]
        self._loop = loop

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        failures = CounterMetricFamily(
            "rayscore_control_loop_failures",
            "Unexpected failures of the replica's exchange with Control.",
            labels=["replica", "deployment"],
        )
        failures.add_metric(self._values, self._loop.failures)
        return [failures]


class StoreMetrics(Collector):
    """Reads of the online store and the event store by a replica: keys by outcome, and times."""

    def __init__(self, replica: str, features: LocalFeatures) -> None:
        self._replica = replica
        self._features = features

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        features = self._features
        keys = CounterMetricFamily(
            "rayscore_store_keys", "Keys read from the online store by outcome.", labels=["replica", "outcome"]
        )
        for outcome, count in features.keys.items():
            keys.add_metric([self._replica, outcome], count)
        is_open = GaugeMetricFamily(
            "rayscore_store_open", "1 when the online store could be opened.", labels=["replica"]
        )
        is_open.add_metric([self._replica], features.is_open)
        text = "Time of a read of many keys from the online store, in seconds."
        seconds = family("rayscore_store_read_seconds", text, ["replica"], {(self._replica,): features.seconds})
        of_events = EventMetrics(self._replica, features.windows).collect() if features.windows is not None else ()
        return [keys, is_open, seconds, *of_events]


class ModelMetrics(Collector):
    """Rows scored by a replica's models, and times.

    Args:
        replica: value of the label `replica`.
        held: returns the digests of the loaded versions, which are the ones with series.
        model: returns a loaded model by its digest's bytes, None when it is not loaded.
    """

    def __init__(
        self, replica: str, held: Callable[[], Mapping[str, str]], model: Callable[[bytes], OnnxModel | None]
    ) -> None:
        self._replica = replica
        self._held = held
        self._model = model

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        series = {(self._replica, version): model for version, model in self._models().items()}
        rows = CounterMetricFamily("rayscore_model_rows", "Rows scored by ONNX Runtime.", labels=["replica", "version"])
        for values, model in series.items():
            rows.add_metric(values, model.rows)
        times = {values: model.seconds for values, model in series.items()}
        text = "Time of one call of ONNX Runtime, in seconds."
        return [rows, family("rayscore_model_seconds", text, ["replica", "version"], times)]

    def _models(self) -> dict[str, OnnxModel]:
        """Loaded models by version; a bundle that was registered twice is one model, by the first of its versions."""
        models: dict[str, OnnxModel] = {}
        for version, digest in self._held().items():
            model = self._model(bytes.fromhex(digest))
            if model is not None and model not in models.values():
                models[version] = model
        return models


class LinkMetrics(Collector):
    """Connections and calls of a stage replica's link server."""

    def __init__(self, replica: str, deployment: str, server: LinkServer) -> None:
        self._values = [replica, deployment]
        self._server = server

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        labels, server = ["replica", "deployment"], self._server
        connections = GaugeMetricFamily("rayscore_link_connections", "Connections of gateways.", labels=labels)
        connections.add_metric(self._values, len(server.connections))
        in_flight = GaugeMetricFamily(
            "rayscore_link_calls_in_flight", "Calls over links that wait for their answer.", labels=labels
        )
        in_flight.add_metric(self._values, server.in_flight)
        refused = CounterMetricFamily(
            "rayscore_link_refused", "Connections closed because of what the peer did.", labels=[*labels, "reason"]
        )
        for reason in REFUSALS:
            refused.add_metric([*self._values, reason.replace(" ", "_")], server.refusals[reason])
        unanswered = CounterMetricFamily(
            "rayscore_link_calls_unanswered", "Calls over links without an answer.", labels=[*labels, "reason"]
        )
        for reason in UNANSWERED:
            unanswered.add_metric([*self._values, reason], server.unanswered[reason])
        return [connections, in_flight, refused, unanswered]
