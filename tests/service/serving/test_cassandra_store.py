"""The same graph over Cassandra, and what it answers while the node is silent or gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.services import http_client
from tests.support.services.application import Workplace, request_body, serve_command, stored_rows, wait_for
from tests.support.services.cassandra import Node
from tests.support.services.model_swaps import Versions

pytestmark = [pytest.mark.ray, pytest.mark.cassandra]


@pytest.fixture(scope="module")
def cassandra_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Cassandra node of these tests' own: it ends with them."""
    node = Node(tmp_path_factory.mktemp("cassandra")).start()
    yield node
    node.kill()


@pytest.fixture(scope="module")
def on_cassandra(
    versions: Versions, cassandra_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """The graph with only the settings changed, its store a Cassandra node."""
    versions.reset()
    sqlite = versions.place
    place = Workplace(tmp_path_factory.mktemp("cassandra"))
    place.environment |= {
        "RAYSCORE_STORE": "cassandra",
        "RAYSCORE_CASSANDRA_HOSTS": cassandra_node.address,
        "RAYSCORE_CASSANDRA_READ_TIMEOUT_MS": "1000",
        "RAYSCORE_FEATURE_TIMEOUT_MS": "1500",
        "RAYSCORE_REQUEST_TIMEOUT_MS": "5000",
        "RAYSCORE_MLFLOW_TRACKING_URI": sqlite.settings.tracking_uri,
    }
    done = place.run("data", "materialize", str(sqlite.folder / "card.parquet"))
    assert done.returncode == 0, done.stderr
    with place.running(*serve_command("graph")) as child:
        place.wait_ready(child)
        yield place


def test_the_graph_reads_cassandra(place: Workplace, on_cassandra: Workplace) -> None:
    """From a Cassandra node the very same values and probabilities come as from SQLite."""
    body = request_body(stored_rows(place, 1)[0])

    expected = http_client.post(f"{place.url}/predict?detail=1", json=body, timeout=30).json()
    answer: dict[str, Any] = {}

    def whole() -> bool:
        # A node that has just started is slow now and then.
        answer.update(http_client.post(f"{on_cassandra.url}/predict?detail=1", json=body, timeout=30).json())
        return answer["degraded"] is False

    wait_for(whole, "a whole answer")
    assert (answer["probability"], answer["features"]) == (expected["probability"], expected["features"])


def test_a_frozen_and_a_closed_node_degrade_answers_and_leave_nothing_behind(
    place: Workplace, on_cassandra: Workplace, cassandra_node: Node
) -> None:
    """Every answer comes while the node is silent or gone, whole ones when it is back, and no file stays open."""
    body = request_body(stored_rows(place, 1)[0])

    def degraded() -> bool:
        answer = http_client.post(f"{on_cassandra.url}/predict", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["degraded"]

    def open_files() -> int:
        replicas = on_cassandra.processes("ServeReplica:default:FeatureFetch")
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in replicas)

    wait_for(lambda: not degraded(), "a whole answer")
    before = open_files()
    cassandra_node.pause()
    try:
        frozen = [degraded() for _ in range(3)]
    finally:
        cassandra_node.resume()
    wait_for(lambda: not degraded(), "whole answers after the freeze")
    cassandra_node.kill()
    try:
        closed = [degraded() for _ in range(20)]
    finally:
        cassandra_node.start()
    wait_for(lambda: not degraded(), "whole answers after the restart")

    assert all(frozen)
    assert all(closed)
    wait_for(lambda: open_files() <= before, "as few open files as before")
