"""Every Prometheus metric of a gateway: name, labels and buckets in one table.

Each gateway replica counts for itself; the `replica` label keeps their series apart, so that a scrape
that reaches one replica now and another later never sees a counter jump.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from ray_app.prediction import Prediction

# The `_created` series double the page and no board reads them.
disable_created_metrics()

CONTENT_TYPE = CONTENT_TYPE_LATEST

FEATURE_FETCH = "feature_fetch"
MODEL = "model"

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one gateway replica, their label values bound once because binding costs more than counting."""

    def __init__(self, replica: str, model: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._replica = replica
        self._requests = self._counter("rayscore_requests_total", "HTTP requests of /predict by status code.", "code")
        items = self._counter("rayscore_items_total", "Items of /predict by outcome.", "outcome")
        self._ok, self._refused = items.labels(replica, "ok"), items.labels(replica, "refused")
        entities = self._counter("rayscore_entities_total", "Store look-ups by whether they found one.", "found")
        self._found = {True: entities.labels(replica, "true"), False: entities.labels(replica, "false")}
        sources = self._counter("rayscore_feature_source_total", "Where feature values came from.", "source")
        self._from_request = sources.labels(replica, "request")
        self._from_online = sources.labels(replica, "online")
        self._from_default = sources.labels(replica, "default")
        degraded = self._counter("rayscore_degraded_total", "Answers given without the online store.")
        self.degraded = degraded.labels(replica)
        self.request_seconds = self._histogram(
            "rayscore_request_seconds", "Time to answer a /predict request, in seconds.", _SECONDS
        ).labels(replica)
        stages = self._histogram("rayscore_stage_seconds", "Time a micro-batch spent in a stage.", _SECONDS, "stage")
        self._stages = {name: stages.labels(replica, name) for name in (FEATURE_FETCH, MODEL)}
        self.batch_rows = self._histogram("rayscore_batch_rows", "Rows in a micro-batch.", _ROWS).labels(replica)
        self._link_calls = self._counter(
            "rayscore_stage_calls_total", "Calls to a stage by how they went.", "deployment", "way"
        )
        self._links = self._gauge("rayscore_open_links", "Links to replicas that can take a call.", "deployment")
        self._queue = self._gauge("rayscore_queue_rows", "Rows waiting for a micro-batch.").labels(replica)
        logged = self._counter(
            "rayscore_prediction_log_rows_total", "Rows of the prediction log by how they ended.", "outcome"
        )
        self._logged = {outcome: logged.labels(replica, outcome) for outcome in ("written", "dropped", "lost")}
        self._epoch = self._gauge("rayscore_traffic_epoch", "Epoch of the traffic rules in force.").labels(replica)
        self._info = self._gauge("rayscore_model_info", "Always 1; the champion served.", "model", "version")
        self.serve(model, version, 0)

    def serve(self, model: str, champion: str, epoch: int) -> None:
        """Say which version is champion, by which traffic rules."""
        self._info.clear()
        self._info.labels(self._replica, model, champion).set(1)
        self._epoch.set(epoch)

    def request(self, code: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(self._replica, str(code)).inc()
        self.request_seconds.observe(seconds)

    def refused(self, count: int) -> None:
        """Count items that were refused."""
        self._refused.inc(count)

    def predictions(self, predictions: Sequence[Prediction]) -> None:
        """Count what predictions say of themselves: outcome, entities, degradation, sources."""
        self._ok.inc(len(predictions))
        for prediction in predictions:
            absent = prediction.row.encoded.count(None)
            self._from_request.inc(len(prediction.row.encoded) - absent)
            self._from_online.inc(prediction.stored)
            self._from_default.inc(absent - prediction.stored)
            if prediction.lookup.found is not None:
                self._found[prediction.lookup.found].inc()
            if prediction.lookup.degraded:
                self.degraded.inc()

    def stage(self, name: str, seconds: float) -> None:
        """Book the time of one micro-batch in one stage."""
        self._stages[name].observe(seconds)

    def log_rows(self, outcome: str, rows: int) -> None:
        """Count rows of the prediction log: "written", "dropped" or "lost"."""
        self._logged[outcome].inc(rows)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Read the queue's length from `waiting` at every scrape."""
        self._queue.set_function(waiting)

    def count_calls(self, deployment: str) -> Callable[[str], None]:
        """Return what counts calls to a deployment by the way they went: "link", "handle" or "retry"."""
        ways = {way: self._link_calls.labels(self._replica, deployment, way) for way in ("link", "handle", "retry")}
        return lambda way: ways[way].inc()

    def watch_links(self, deployment: str, open_links: Callable[[], int]) -> None:
        """Read the number of open links from `open_links` at every scrape."""
        self._links.labels(self._replica, deployment).set_function(open_links)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["replica", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["replica", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, ["replica", *labels], buckets=buckets, registry=self.registry)
