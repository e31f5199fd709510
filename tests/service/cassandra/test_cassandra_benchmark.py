"""The Cassandra benchmark's reads: every way to read gives the same rows, and every figure is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.workloads.cassandra_reads import CONCURRENT, OURS, SINGLES, Stored, compare, with_frozen_node
from data.settings import Settings
from tests.support.services.cassandra import Node


class Patient(Stored):
    """Read without haste: a node that has just started is slow now and then."""

    def settings(self, **fields: Any) -> Settings:
        """As they are, but for the read timeout."""
        return super().settings(**{"cassandra_read_timeout_ms": 5000, **fields})


@pytest.mark.cassandra
def test_every_way_is_measured(cassandra_node: Node):
    """Each way has figures for each batch size and round, and the plain ways never give up."""
    stored = Patient([cassandra_node], 1, 500)
    stored.write()
    samples = asyncio.run(compare(stored, (1, 8), rounds=2, seconds=0.05, warm_s=0.5))
    assert set(samples) == {(way, batch) for way in (OURS, SINGLES, CONCURRENT) for batch in (1, 8)}
    for (way, _), rounds in samples.items():
        assert len(rounds) == 2
        assert all(figures["p50"] > 0 and figures["cpu us/key"] > 0 for figures in rounds)
        assert way == OURS or not any(figures["failed"] for figures in rounds)


@pytest.mark.cassandra
def test_failed_reads_are_a_share_and_end_at_their_timeout(cassandra_node: Node):
    """With one node there is nobody to turn to while it is frozen: all its reads fail, and it is let go again."""
    stored = Patient([cassandra_node, cassandra_node], 1, 500)
    stored.write()
    figures = asyncio.run(
        with_frozen_node(stored, {"cassandra_read_timeout_ms": 500}, rate=100, batch=4, seconds=0.5, freeze=True)
    )
    assert figures["failed"] == 1
    assert figures["p50"] >= 450
