"""Prometheus metrics of a process that ingests a topic."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from data.errors import ConfigError
from data.event_store import EventOutcome
from data.feature_views.event import Event


class IngestMetrics:
    """What one process has done with the messages of one topic, for one source of events."""

    def __init__(self, source: str, topic: str) -> None:
        self.registry = CollectorRegistry()
        events = Counter(
            "rayscore_ingest_events", "Events that came to the store", ["source", "outcome"], registry=self.registry
        )
        self._outcomes = {each: events.labels(source, each.name.lower()) for each in EventOutcome}
        self._dead = Counter(
            "rayscore_ingest_dead_letters", "Messages that were set aside", ["topic"], registry=self.registry
        ).labels(topic)
        self._lag = Gauge(
            "rayscore_ingest_lag_messages", "Messages that are not stored yet", ["topic"], registry=self.registry
        ).labels(topic)
        self._last = Gauge(
            "rayscore_ingest_last_event_timestamp_seconds",
            "Latest time of an event that came to the store",
            ["source"],
            registry=self.registry,
        ).labels(source)
        self._latest_us = 0

    def serve(self, port: int, host: str) -> None:
        """Answer Prometheus at a port of this machine until the process ends.

        Raises:
            ConfigError: the port is taken.
        """
        try:
            start_http_server(port, host, self.registry)
        except OSError as exc:
            raise ConfigError(f"--metrics-port {port}: cannot be listened on at {host}: {exc.strerror}") from exc

    def stored(self, events: Sequence[Event], outcomes: Sequence[EventOutcome], dead_letters: int) -> None:
        """Count a batch that was stored."""
        for outcome in outcomes:
            self._outcomes[outcome].inc()
        self._dead.inc(dead_letters)
        if events:
            self._latest_us = max(self._latest_us, max(event.time_us for event in events))
            self._last.set(self._latest_us / 1e6)

    def lag(self, messages: int) -> None:
        """Say how many messages are not stored yet."""
        self._lag.set(messages)
