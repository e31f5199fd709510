"""Prometheus metrics of a process that ingests a topic."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from data.errors import ConfigError
from data.event_store import EventOutcome
from data.event_store.event_stats import EventStats
from data.feature_views.events.event import Event


class IngestMetrics:
    """What one process has done with the messages of one topic, for one source of events."""

    def __init__(self, source: str, topic: str) -> None:
        self.registry = CollectorRegistry()
        events = Counter(
            "rayscore_ingest_events", "Events that came to the store", ["source", "outcome"], registry=self.registry
        )
        self._outcomes = {each: events.labels(source, each.name.lower()) for each in EventOutcome}
        self._late = Counter(
            "rayscore_ingest_late_events",
            "Events stored more than a minute after they were known",
            ["source"],
            registry=self.registry,
        ).labels(source)
        self._dead = Counter(
            "rayscore_ingest_dead_letters", "Messages that were set aside", ["topic"], registry=self.registry
        ).labels(topic)
        self._lag = Gauge(
            "rayscore_ingest_lag_messages", "Messages that are not stored yet", ["topic"], registry=self.registry
        ).labels(topic)
        self._last = Gauge(
            "rayscore_ingest_last_event_timestamp_seconds",
            "Time of the newest event that was stored",
            ["source"],
            registry=self.registry,
        ).labels(source)
        self._stats = EventStats()

    def serve(self, port: int, host: str) -> None:
        """Answer Prometheus at a port of this machine until the process ends.

        Raises:
            ConfigError: the port is taken.
        """
        try:
            start_http_server(port, host, self.registry)
        except OSError as exc:
            raise ConfigError(f"--metrics-port {port}: cannot be listened on at {host}: {exc.strerror}") from exc

    def stored(self, events: Sequence[Event], outcomes: Sequence[EventOutcome], dead_letters: int, now_us: int) -> None:
        """Count a batch that was stored; `now_us` is the time here, microseconds since 1970 UTC."""
        before = self._stats.counts
        self._stats.stored(events, outcomes, now_us)
        new = self._stats.counts.since(before)
        for outcome, counter in self._outcomes.items():
            counter.inc(new.outcomes[outcome])
        self._late.inc(new.late)
        self._dead.inc(dead_letters)
        if new.newest_us is not None:
            self._last.set(new.newest_us / 1e6)

    def lag(self, messages: int) -> None:
        """Say how many messages are not stored yet."""
        self._lag.set(messages)
