"""The Prometheus metrics of an event store, as the replica that reads it and records in it sees its sources."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from data.event_store import EventOutcome
from ray_app.inference.features.event_windows import EventWindows
from ray_app.monitoring.histogram import family


class EventMetrics(Collector):
    """The store's calls, and each source's events; reads, at every scrape, counts that are kept anyway."""

    def __init__(self, replica: str, windows: EventWindows) -> None:
        self._replica = replica
        self._windows = windows

    def collect(self) -> Iterable[Metric]:
        """Return the metric families with their values now."""
        return [*self._of_store(), *self._of_tiles(), *self._of_sources()]

    def _of_store(self) -> list[Metric]:
        labels, values, windows = ["replica"], [self._replica], self._windows
        is_open = GaugeMetricFamily(
            "rayscore_event_store_open", "1 when the event store could be opened.", labels=labels
        )
        is_open.add_metric(values, windows.is_open)
        failures = CounterMetricFamily(
            "rayscore_event_store_failures", "Calls of the event store that failed.", labels=labels
        )
        failures.add_metric(values, windows.failures)
        series = (self._replica,)
        text = "Time to record and read the events of many rows, in seconds."
        seconds = family("rayscore_event_fetch_seconds", text, labels, {series: windows.seconds})
        read = family("rayscore_row_events", "Events that were read for a row.", labels, {series: windows.events_read})
        expired = CounterMetricFamily("rayscore_events_expired", "Events removed for their age.", labels=labels)
        expired.add_metric(values, windows.expired)
        return [is_open, failures, seconds, read, expired]

    def _of_tiles(self) -> Iterable[Metric]:
        work = self._windows.tile_work
        for name, text, value in (
            ("rayscore_event_tiles_read", "Tiles that were read in place of events.", work.tiles_read),
            ("rayscore_event_tiles_folded", "Tiles that were made.", work.tiles_folded),
            ("rayscore_event_tiles_events_folded", "Events that were folded into tiles.", work.events_folded),
            ("rayscore_event_tiles_fold_seconds", "Time spent on making tiles, in seconds.", work.fold_seconds),
        ):
            metric = CounterMetricFamily(name, text, labels=["replica"])
            metric.add_metric([self._replica], value)
            yield metric

    def _of_sources(self) -> list[Metric]:
        labels = ["replica", "source"]
        events = CounterMetricFamily(
            "rayscore_source_events", "Events that came to the store.", labels=[*labels, "outcome"]
        )
        late = CounterMetricFamily(
            "rayscore_source_late_events", "Events stored more than a minute after they were known.", labels=labels
        )
        newest = GaugeMetricFamily(
            "rayscore_source_newest_event_timestamp_seconds",
            "Time of the newest event that was stored or read.",
            labels=labels,
        )
        for source, counts in self._windows.counts().items():
            for outcome in EventOutcome:
                events.add_metric([self._replica, source, outcome.name.lower()], counts.outcomes[outcome])
            late.add_metric([self._replica, source], counts.late)
            if counts.newest_us is not None:
                newest.add_metric([self._replica, source], counts.newest_us / 1e6)
        return [events, late, newest]
