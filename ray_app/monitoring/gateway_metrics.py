"""Prometheus metrics of a gateway: their names, labels and buckets, and the methods that count.

Each replica counts its own requests; the label `replica` keeps the series of replicas apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from data.event_store import EventOutcome
from data.schema.features.value_source import ValueSource
from ray_app.monitoring.histogram import SECONDS, Histograms
from ray_app.prediction import Prediction

# The `_created` series would double the size of a scrape, and no dashboard reads them.
disable_created_metrics()

FEATURE_FETCH = "feature_fetch"
MODEL = "model"
STORE_UNAVAILABLE, STAGE_ERROR, DAMAGED_ROW = "store_unavailable", "stage_error", "damaged_row"
"""Why a look-up failed: no answer from the store in time, an unforeseen error, a stored row that cannot be read."""

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_WAYS = ("link", "handle", "retry")
_AGES = (0.01, 0.1, 1, 10, 60, 600, 3600, 21_600, 86_400, 604_800, 2_592_000)
REFUSED = "refused"
_EVENTS = ("opened", "lost", "unreachable", "refused")


class Links(Protocol):
    """State of the direct connections to one deployment, as shown in metrics."""

    @property
    def open_links(self) -> int: ...  # noqa: D102

    @property
    def replicas(self) -> int: ...  # noqa: D102


class GatewayMetrics:
    """Counters, gauges and histograms of one gateway replica; not thread-safe, use it from the event loop.

    Label values are bound once, in the constructor, because looking them up costs more than counting.

    Args:
        replica: value of the label `replica`.
        model: name of the registered model.
        version: version of the champion.
    """

    def __init__(self, replica: str, model: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._replica = replica
        self._requests = self._counter("rayscore_requests_total", "HTTP requests of /predict by status code.", "code")
        # Series exist from 0 on: an alert's rate() needs a value from before the first failure.
        self._codes = {code: self._requests.labels(replica, str(code)) for code in (200, 500, 503, 504)}
        items = self._counter("rayscore_items_total", "Items of /predict by outcome.", "outcome")
        self._ok, self._refused = items.labels(replica, "ok"), items.labels(replica, "refused")
        entities = self._counter("rayscore_entities_total", "Store look-ups by whether they found one.", "found")
        self._found = {True: entities.labels(replica, "true"), False: entities.labels(replica, "false")}
        failures = self._counter("rayscore_lookup_failures_total", "Keys whose look-up failed, by reason.", "reason")
        self._lookup_failures = {
            reason: failures.labels(replica, reason) for reason in (STORE_UNAVAILABLE, STAGE_ERROR, DAMAGED_ROW)
        }
        sources = self._counter("rayscore_feature_source_total", "Where feature values came from.", "source")
        of = {source: sources.labels(replica, source.value) for source in ValueSource}
        self._from_request, self._from_online = of[ValueSource.REQUEST], of[ValueSource.ONLINE]
        self._from_default, self._from_events = of[ValueSource.DEFAULT], of[ValueSource.EVENTS]
        self._from_computed = of[ValueSource.COMPUTED]
        degraded = self._counter("rayscore_degraded_total", "Answers given without the online store.")
        self.degraded = degraded.labels(replica)
        events = self._counter("rayscore_events_total", "Events by what became of them.", "outcome")
        outcomes = [*(outcome.name.lower() for outcome in EventOutcome), REFUSED]
        self._event_outcomes = [events.labels(replica, outcome) for outcome in outcomes]
        self._newest_event = self._histogram(
            "rayscore_newest_event_age_seconds", "Age of the newest event in a row's windows, at the row's time.", _AGES
        ).labels(replica)
        self.request_seconds = self._histogram(
            "rayscore_request_seconds", "Time to answer a /predict request, in seconds.", SECONDS
        ).labels(replica)
        stages = self._histogram("rayscore_stage_seconds", "Time a micro-batch spent in a stage.", SECONDS, "stage")
        self._stages = {name: stages.labels(replica, name) for name in (FEATURE_FETCH, MODEL)}
        self.batch_rows = self._histogram("rayscore_batch_rows", "Rows in a micro-batch.", _ROWS).labels(replica)
        self._link_calls = self._counter(
            "rayscore_stage_calls_total", "Calls to a stage by how they went.", "deployment", "way"
        )
        self._links = self._gauge("rayscore_open_links", "Links to replicas that can take a call.", "deployment")
        self._linked = self._gauge("rayscore_link_replicas", "Replicas that links are kept to.", "deployment")
        self._link_events = self._counter(
            "rayscore_link_events_total", "What happened to links of this gateway.", "deployment", "event"
        )
        self._queue = self._gauge("rayscore_queue_rows", "Rows waiting for a micro-batch.").labels(replica)
        self._queue_limit = self._gauge("rayscore_queue_limit_rows", "Most rows that may wait.").labels(replica)
        full = self._counter("rayscore_queue_refused_rows_total", "Rows refused because the queue was full.")
        self.queue_refused = full.labels(replica)
        logged = self._counter(
            "rayscore_prediction_log_rows_total", "Rows of the prediction log by how they ended.", "outcome"
        )
        self._logged = {outcome: logged.labels(replica, outcome) for outcome in ("written", "dropped", "lost")}
        files = self._counter(
            "rayscore_prediction_log_removed_files_total", "Files of the prediction log removed, by reason.", "reason"
        )
        self._removed = {reason: files.labels(replica, reason) for reason in ("age", "size")}
        self._epoch = self._gauge("rayscore_traffic_epoch", "Epoch of the traffic rules in force.").labels(replica)
        self._info = self._gauge("rayscore_model_info", "Always 1; the champion served.", "model", "version")
        self.serve(model, version, 0)

    def serve(self, model: str, champion: str, epoch: int) -> None:
        """Set the champion's version and the epoch of the traffic rules that made it champion."""
        self._info.clear()
        self._info.labels(self._replica, model, champion).set(1)
        self._epoch.set(epoch)

    def request(self, code: int, seconds: float) -> None:
        """Count one HTTP request by its status code, with the s it took."""
        (self._codes.get(code) or self._code(code)).inc()
        self.request_seconds.observe(seconds)

    def refused(self, count: int) -> None:
        """Count rows that were refused as invalid."""
        self._refused.inc(count)

    def predictions(self, predictions: Sequence[Prediction]) -> None:
        """Count predictions: outcome, entities found or not, degraded answers, and the source of each feature value."""
        self._ok.inc(len(predictions))
        for prediction in predictions:
            absent = prediction.row.encoded.count(None)
            self._from_request.inc(len(prediction.row.encoded) - absent)
            self._from_online.inc(prediction.stored)
            computed = (
                self._count_computed(prediction) if prediction.row.query is not None or prediction.computed else 0
            )
            self._from_default.inc(absent - prediction.stored - computed)
            if prediction.lookup.found is not None:
                self._found[prediction.lookup.found].inc()
            if prediction.lookup.degraded:
                self.degraded.inc()

    def events(self, outcomes: Sequence[EventOutcome], refused: int = 0) -> None:
        """Count events, recorded with a row or sent by themselves: what became of them; and those that were refused."""
        for outcome in outcomes:
            self._event_outcomes[outcome].inc()
        self._event_outcomes[-1].inc(refused)

    def lookup_failed(self, reason: str, keys: int) -> None:
        """Count keys whose look-up failed: STORE_UNAVAILABLE, STAGE_ERROR or DAMAGED_ROW."""
        self._lookup_failures[reason].inc(keys)

    def stage(self, name: str, seconds: float) -> None:
        """Record the s that one micro-batch spent in a stage: FEATURE_FETCH or MODEL."""
        self._stages[name].observe(seconds)

    def log_rows(self, outcome: str, rows: int) -> None:
        """Count rows of the prediction log by outcome: "written", "dropped" or "lost"."""
        self._logged[outcome].inc(rows)

    def log_files_removed(self, reason: str, files: int) -> None:
        """Count files of the prediction log that were removed because of their "age" or of the log's "size"."""
        self._removed[reason].inc(files)

    def watch_log_disk(self, free_share: Callable[[], float]) -> None:
        """Export the free share (0 to 1) of the prediction log's disk; `free_share` is called at every scrape."""
        free = self._gauge("rayscore_prediction_log_disk_free_ratio", "Free share of the prediction log's disk.")
        free.labels(self._replica).set_function(free_share)

    def watch_queue(self, waiting: Callable[[], int], limit: int) -> None:
        """Export the micro-batch queue's length in rows and its limit; `waiting` is called at every scrape."""
        self._queue.set_function(waiting)
        self._queue_limit.set(limit)

    def count_calls(self, deployment: str) -> Callable[[str], None]:
        """Return a function that counts one call to a deployment by its way: "link", "handle" or "retry"."""
        ways = {way: self._link_calls.labels(self._replica, deployment, way) for way in _WAYS}
        return lambda way: ways[way].inc()

    def count_link_events(self, deployment: str) -> Callable[[str], None]:
        """Return a function that counts one link event: "opened", "lost", "unreachable" or "refused"."""
        events = {event: self._link_events.labels(self._replica, deployment, event) for event in _EVENTS}
        return lambda event: events[event].inc()

    def watch_links(self, deployment: str, links: Links) -> None:
        """Export the state of the links to a deployment; `links` is read at every scrape."""
        self._links.labels(self._replica, deployment).set_function(lambda: links.open_links)
        self._linked.labels(self._replica, deployment).set_function(lambda: links.replicas)

    def _count_computed(self, prediction: Prediction) -> int:
        """Count the values that the service computed, and return their number; observe how old the newest event is."""
        windows = prediction.lookup.windows
        if windows is not None and windows.newest_age_s is not None:
            self._newest_event.observe(windows.newest_age_s)
        of_events = sum(value == value for value in windows.values) if windows is not None else 0
        of_others = sum(value == value for value in prediction.computed)
        self._from_events.inc(of_events)
        self._from_computed.inc(of_others)
        return of_events + of_others

    def _code(self, code: int) -> Counter:
        return self._codes.setdefault(code, self._requests.labels(self._replica, str(code)))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["replica", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, ["replica", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, edges: tuple[float, ...], *labels: str) -> Histograms:
        histogram = Histograms(name, text, edges, ["replica", *labels])
        self.registry.register(histogram)
        return histogram
