"""Histograms whose observation costs an append, against Prometheus' own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as PrometheusHistogram

from ray_app.monitoring.histogram import SECONDS, Histogram, Histograms
from tests.support.serving.metrics import samples, text

_VALUES = st.lists(st.floats(0, 4) | st.sampled_from(SECONDS), max_size=700)


@given(_VALUES)
def test_counts_are_those_of_prometheus(values: list[float]):
    """Whatever comes, a value on an edge included, buckets, count and sum are those of Prometheus' own histogram."""
    registry = CollectorRegistry()
    theirs = PrometheusHistogram("h", "text", buckets=SECONDS, registry=registry)
    ours = Histogram(SECONDS)
    for value in values:
        theirs.observe(value)
        ours.observe(value)
    expected = samples(text(registry))
    edges = {labels.removeprefix("le="): count for (name, labels), count in expected.items() if name == "h_bucket"}
    assert dict(ours.buckets()) == edges
    assert ours.buckets()[-1][1] == expected["h_count", ""]
    assert ours.sum == pytest.approx(expected["h_sum", ""])


def test_labels_keep_series_apart():
    """Distributions of one name are told apart by their labels, and asked for again are the same."""
    both = Histograms("h", "text", (1.0,), ["replica", "stage"])
    both.labels("r", "a").observe(0.5)
    both.labels("r", "b").observe(2.0)
    both.labels("r", "b").observe(2.0)
    found = samples(text(both))
    assert found["h_bucket", "le=1.0,stage=a"] == 1
    assert found["h_bucket", "le=1.0,stage=b"] == 0
    assert found["h_count", "stage=b"] == 2
    assert found["h_sum", "stage=b"] == 4
