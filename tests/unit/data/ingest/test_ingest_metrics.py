"""Metrics of ingest: each event by its outcome, late ones, the newest, and what was set aside."""

from __future__ import annotations

from prometheus_client import generate_latest

from data.event_store import EventOutcome
from data.feature_views.events.event import Event
from data.ingest.ingest_metrics import IngestMetrics

NOW = 1_700_000_000_000_000


def value(metrics: IngestMetrics, series: str) -> float:
    """The value of one series."""
    (line,) = [each for each in generate_latest(metrics.registry).decode().splitlines() if each.startswith(series)]
    return float(line.rpartition(" ")[2])


def test_batches_are_counted():
    """Two batches add up; an hour behind is late; the newest event is that of any batch, and lag is the last said."""
    metrics = IngestMetrics("swipes", "tx")
    late, fresh = (Event(b"k", at, at, ("c1",), b"") for at in (NOW - 3_600_000_000, NOW - 1_000_000))
    metrics.stored([fresh, late], [EventOutcome.TAKEN, EventOutcome.TAKEN], 2, NOW)
    metrics.stored([late], [EventOutcome.REPEATED], 1, NOW)
    metrics.lag(7)
    assert value(metrics, 'rayscore_ingest_events_total{outcome="taken",source="swipes"}') == 2
    assert value(metrics, 'rayscore_ingest_events_total{outcome="repeated",source="swipes"}') == 1
    assert value(metrics, "rayscore_ingest_late_events_total") == 1
    assert value(metrics, "rayscore_ingest_dead_letters_total") == 3
    assert value(metrics, "rayscore_ingest_lag_messages") == 7
    assert value(metrics, "rayscore_ingest_last_event_timestamp_seconds") == (NOW - 1_000_000) / 1e6


def test_a_batch_of_what_is_no_event_says_nothing_of_the_newest():
    """A source of which nothing was stored has no newest event: the series stays at 0."""
    metrics = IngestMetrics("swipes", "tx")
    metrics.stored([], [], 3, NOW)
    assert value(metrics, "rayscore_ingest_last_event_timestamp_seconds") == 0
