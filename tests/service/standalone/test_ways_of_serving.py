"""The other ways of serving: each answers as batch scoring does, by handles, in one replica, and over Cassandra.

That the graph by links over SQLite does too is shown in `tests/service/serving/test_application.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ray_app.__main__ import main as ray_app
from ray_app.environment.listeners import bind_fault
from ray_app.environment.serve_environment import serve_environment
from tests.support.environment.ports import free_port
from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import (
    BIN,
    ONLINE_FEATURES,
    REQUEST_FEATURES,
    Workplace,
    request_body,
    serve_command,
    stored_rows,
)
from tests.support.services.cassandra import Node

pytestmark = pytest.mark.ray

PATIENT = {"RAYSCORE_FEATURE_TIMEOUT_MS": "3000", "RAYSCORE_REQUEST_TIMEOUT_MS": "8000"}
"""Whole answers are asked for also where a replica starts beside them, which takes all of a small machine."""
ROWS = 50


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder with a champion, a table, and a SQLite store that was filled from it."""
    place = Workplace(tmp_path_factory.mktemp("ways"))
    place.fill_store(place.write_recent_table())
    place.publish_champion()
    return place


@pytest.fixture(scope="module")
def expected(place: Workplace) -> list[float]:
    """The probabilities of the first rows, by `rayscore score` with the online features from the SQLite store."""
    rows = pq.read_table(place.folder / "card.parquet").slice(0, ROWS)
    pq.write_table(rows.select(["user_id", "transaction_id", *REQUEST_FEATURES]), place.folder / "rows.parquet")
    scored = place.folder / "scores.parquet"
    with pytest.MonkeyPatch.context() as patched:
        for name in place.environment.keys() - os.environ.keys():
            patched.setenv(name, place.environment[name])
        assert ray_app(["score", str(place.folder / "rows.parquet"), str(scored)]) == 0
    return pq.read_table(scored).column("probability").to_pylist()


def probabilities(place: Workplace, bodies: list[dict[str, Any]]) -> list[float]:
    """What the service of a place answers."""
    answers = http_client.post(f"{place.url}/predict", json=bodies, timeout=30).json()
    return [answer["probability"] for answer in answers]


@pytest.fixture
def served(place: Workplace, tmp_path: Path) -> Workplace:
    """Another folder and port, with the champion and the store of the first."""
    served = Workplace(tmp_path)
    served.var.symlink_to(place.var)
    served.environment |= PATIENT
    return served


def test_handles_answer_the_same(place: Workplace, served: Workplace, expected: list[float]) -> None:
    """By Serve's handles the probabilities are the same; Ctrl-C then leaves no process behind."""
    served.environment["RAYSCORE_DIRECT_LINKS"] = "false"
    with served.running(*serve_command("graph")) as child:
        served.wait_ready(child)
        found = probabilities(served, [request_body(row) for row in stored_rows(place, ROWS)])
        child.send_signal(signal.SIGINT)
        child.wait(180)

    assert found == expected
    wait_for(lambda: not served.processes(), "every process to be gone")


@pytest.fixture
def on_cluster(served: Workplace) -> Iterator[Workplace]:
    """The folder with a cluster of its own, which ends with the test."""
    port = free_port()
    served.environment |= {**serve_environment(), "RAY_ADDRESS": f"127.0.0.1:{port}"}
    command = (str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=2")
    options = ("--include-dashboard=false", "--object-store-memory=200000000", "--disable-usage-stats")
    log = served.folder / "head.log"
    with log.open("wb") as said:
        head = subprocess.Popen(
            [*command, *options, f"--ray-client-server-port={free_port()}"],
            env={**served.environment, "RAY_ADDRESS": ""},
            cwd=served.folder,
            stdout=said,
            stderr=said,
        )
    # It listens before its node is there, and refuses whoever comes meanwhile.
    wait_for(lambda: "Ray runtime started" in log.read_text(), "the cluster")
    yield served
    served.kill_all()
    head.wait()


def refusal(place: Workplace, **given: str) -> str:
    """What `serve run` says when it refuses to run with these variables too."""
    done = subprocess.run(
        serve_command("fused"),
        env={**place.environment, **given},
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    return done.stderr


def test_one_replica_in_a_running_cluster_answers_the_same(
    place: Workplace, on_cluster: Workplace, expected: list[float]
) -> None:
    """Fused, on the cluster that RAY_ADDRESS names, the probabilities are the same; Ctrl-C then leaves no replica.

    It listens where the settings say and on no other interface; what cannot act in that cluster is refused by name.
    """
    port = on_cluster.port
    with on_cluster.running(*serve_command("fused")) as child:
        on_cluster.wait_ready(child)
        found = probabilities(on_cluster, [request_body(row) for row in stored_rows(place, ROWS)])
        assert (bind_fault("127.0.0.2", port), bind_fault("127.0.0.1", port) is None) == (None, False)
        other_host = refusal(on_cluster, RAYSCORE_HTTP_HOST="0.0.0.0")
        other_variable = refusal(on_cluster, RAY_SERVE_HAPROXY_NBTHREAD="3")
        child.send_signal(signal.SIGINT)
        child.wait(180)
    assert found == expected
    assert f"already listens on 127.0.0.1:{port} in this cluster, so RAYSCORE_HTTP_HOST=0.0.0.0" in other_host
    assert "error: RAY_SERVE_HAPROXY_NBTHREAD=3 (there it is 1) cannot act in the running cluster at" in other_variable
    wait_for(lambda: bind_fault("127.0.0.1", port) is None, "the port to be free")
    wait_for(lambda: not on_cluster.processes("ServeReplica"), "every replica to be gone")


@pytest.fixture(scope="module")
def cassandra_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A Cassandra node of these tests' own: it ends with them."""
    node = Node(tmp_path_factory.mktemp("cassandra")).start()
    yield node
    node.kill()


@pytest.fixture(scope="module")
def on_cassandra(
    place: Workplace, cassandra_node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """The graph with only the settings changed, its store a Cassandra node."""
    served = Workplace(tmp_path_factory.mktemp("cassandra"))
    served.environment |= {
        "RAYSCORE_STORE": "cassandra",
        "RAYSCORE_CASSANDRA_HOSTS": cassandra_node.address,
        "RAYSCORE_CASSANDRA_READ_TIMEOUT_MS": "1000",
        "RAYSCORE_FEATURE_TIMEOUT_MS": "1500",
        "RAYSCORE_REQUEST_TIMEOUT_MS": "5000",
        "RAYSCORE_MLFLOW_TRACKING_URI": place.settings.tracking_uri,
    }
    done = served.run("data", "materialize", str(place.folder / "card.parquet"))
    assert done.returncode == 0, done.stderr
    with served.running(*serve_command("graph")) as child:
        served.wait_ready(child)
        yield served


@pytest.mark.cassandra
def test_the_graph_reads_cassandra(place: Workplace, expected: list[float], on_cassandra: Workplace) -> None:
    """From a Cassandra node come the values that were materialized, and the probabilities that come from SQLite."""
    rows = stored_rows(place, 600)
    # The store has the last row of an entity.
    last = rows[-1]
    answer: dict[str, Any] = {}

    def whole() -> bool:
        # A node that has just started is slow now and then.
        url = f"{on_cassandra.url}/predict?detail=1"
        answer.update(http_client.post(url, json=request_body(last), timeout=30).json())
        return answer["degraded"] is False

    wait_for(whole, "a whole answer")
    sources = {**dict.fromkeys(REQUEST_FEATURES, "request"), **dict.fromkeys(ONLINE_FEATURES, "online")}
    assert answer["features"] == {name: {"value": last[name], "source": sources[name]} for name in sources}
    assert probabilities(on_cassandra, [request_body(row) for row in rows[:ROWS]]) == expected


@pytest.mark.cassandra
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
