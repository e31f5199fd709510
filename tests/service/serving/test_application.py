"""The application as a user runs it: `serve run`, real replicas, HTTP from outside."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal

import pyarrow.parquet as pq
import pytest

from tests.support.environment.waiting import wait_for
from tests.support.services import http_client
from tests.support.services.application import (
    ONLINE_FEATURES,
    REQUEST_FEATURES,
    Workplace,
    request_body,
    stored_rows,
)
from tests.support.services.model_swaps import Versions

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def graph(versions: Versions) -> Workplace:
    """The graph, version 1 answering alone."""
    versions.reset()
    return versions.place


def test_features_come_from_request_then_store_then_default(graph: Workplace) -> None:
    """A sent value wins over the store's, which wins over the default, and the answer says which it was."""
    row = stored_rows(graph, 1)[0]
    body = request_body(row) | {"device_trust_score": 0}

    answer = http_client.post(f"{graph.url}/predict?detail=1", json=body, timeout=30).json()
    stranger = http_client.post(f"{graph.url}/predict?detail=1", json=body | {"user_id": "nobody"}, timeout=30).json()

    assert answer["features"]["device_trust_score"] == {"value": 0, "source": "request"}
    assert answer["features"]["cardholder_age"]["source"] == "online"
    assert answer["entity_found"] is True
    assert answer["online_age_s"] > 0
    assert answer["key"] == row["transaction_id"]
    assert stranger["features"]["cardholder_age"] == {"value": None, "source": "default"}
    assert (stranger["entity_found"], stranger["degraded"]) == (False, False)


def test_batch_scores_equal_the_live_answers_bit_for_bit(graph: Workplace) -> None:
    """`rayscore score` gives each row the very probability that HTTP gives it, the key carried along."""
    rows = stored_rows(graph, 300)
    done = graph.run("ray_app", "score", str(graph.folder / "card.parquet"), str(graph.folder / "scores.parquet"))
    assert done.returncode == 0, done.stderr

    live = http_client.post(
        f"{graph.url}/predict", json=[request_body(row, *ONLINE_FEATURES) for row in rows], timeout=30
    ).json()
    scored = pq.read_table(graph.folder / "scores.parquet").slice(0, 300)

    assert [answer["probability"] for answer in live] == scored.column("probability").to_pylist()
    assert [answer["label"] for answer in live] == scored.column("label").to_pylist()
    assert [row["transaction_id"] for row in rows] == scored.column("transaction_id").to_pylist()


def test_batch_scoring_reads_the_store_for_absent_columns(graph: Workplace) -> None:
    """A table without the online columns is scored with what the store holds, as a request without them is."""
    whole = pq.read_table(graph.folder / "card.parquet").slice(0, 100)
    short = graph.folder / "short.parquet"
    pq.write_table(whole.select(["user_id", "transaction_id", *REQUEST_FEATURES]), short)
    out = graph.folder / "short_scores"
    done = graph.run("ray_app", "score", str(short), str(out))
    assert done.returncode == 0, done.stderr

    live = http_client.post(
        f"{graph.url}/predict", json=[request_body(row) for row in whole.to_pylist()], timeout=30
    ).json()

    assert [answer["probability"] for answer in live] == pq.read_table(out).column("probability").to_pylist()


@pytest.mark.parametrize(
    ("content", "headers", "status", "word"),
    [
        (b'{"amount":', {}, 400, "not JSON"),
        (b'{"amount": NaN}', {}, 400, "NaN"),
        (b"[" * 100_000, {}, 400, "not JSON"),
        (b"[]", {}, 422, "empty"),
        (json.dumps([{}] * 1001).encode(), {}, 413, "1,001"),
        (b" " * 2_000_000, {}, 413, "1,048,576"),
        (b"amount=1", {"content-type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        (b'{"amonut": 1}', {}, 422, "did you mean 'amount'"),
    ],
    ids=["cut", "nan", "deep", "empty", "many", "large", "form", "typo"],
)
def test_what_a_client_does_wrong_is_a_4xx(
    graph: Workplace, content: bytes, headers: dict[str, str], status: int, word: str
) -> None:
    """A bad request passes the whole HTTP stack and comes back as problem details that name what is wrong."""
    given = {"content-type": "application/json"} | headers

    answer = http_client.post(f"{graph.url}/predict", content=content, headers=given, timeout=30)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.text
    assert answer.json()["request_id"]


def test_wrong_method_and_path_are_named(graph: Workplace) -> None:
    """A wrong method is 405 with Allow, an unknown path 404 with those there are."""
    wrong = http_client.get(f"{graph.url}/predict", timeout=30)
    unknown = http_client.get(f"{graph.url}/nothing", timeout=30)

    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert unknown.status_code == 404
    assert "/predict" in unknown.json()["detail"]


def test_a_page_of_another_origin_sends_a_compressed_body(graph: Workplace) -> None:
    """Preflight and answer pass HAProxy, and Serve on the preflight's way, with the headers that a browser needs."""
    row = stored_rows(graph, 1)[0]
    origin = {"origin": "https://shop.example"}
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    before = http_client.request("OPTIONS", f"{graph.url}/predict", headers=origin | wanted, timeout=30)
    headers = origin | {"content-type": "application/json", "content-encoding": "gzip"}
    content = gzip.compress(json.dumps(request_body(row)).encode(), mtime=0)
    answer = http_client.post(f"{graph.url}/predict", content=content, headers=headers, timeout=30)

    assert (before.status_code, before.headers["access-control-allow-headers"]) == (204, "content-type")
    assert (answer.status_code, answer.json()["key"]) == (200, row["transaction_id"])
    for response in (before, answer):
        assert response.headers.get_list("access-control-allow-origin") == ["https://shop.example"]


def test_pages_are_there(graph: Workplace) -> None:
    """Front page, documentation, OpenAPI, model description, health and metrics answer."""
    for path in ("/", "/docs", "/docs/swagger-ui-bundle.js", "/openapi.json", "/model/info", "/health", "/metrics"):
        assert http_client.get(graph.url + path, timeout=30).status_code == 200, path
    assert "rayscore_requests_total" in http_client.get(f"{graph.url}/metrics", timeout=30).text


def test_replicas_run_on_the_fast_settings(graph: Workplace) -> None:
    """A plain `serve run` gets HAProxy and the fast settings without the user knowing: no warning on the front page."""
    assert graph.processes("haproxy")
    assert 'class="slow"' not in http_client.get(graph.url, timeout=30).text


def test_a_lost_store_degrades_answers_and_comes_back(graph: Workplace) -> None:
    """Without the store's file answers still come, marked degraded, and /ready says why; with it back all is well."""
    body = request_body(stored_rows(graph, 1)[0])
    store = graph.settings.sqlite_path
    hidden = store.with_suffix(".hidden")

    def degraded() -> bool:
        answer = http_client.post(f"{graph.url}/predict", json=body, timeout=30)
        assert answer.status_code == 200
        return answer.json()["degraded"]

    os.rename(store, hidden)
    try:
        wait_for(degraded, "answers to be degraded")
        assert "materialize" in http_client.get(f"{graph.url}/ready", timeout=30).json()["problems"]["feature_fetch"]
    finally:
        os.rename(hidden, store)
    wait_for(lambda: not degraded(), "answers to be whole again")


def _calls(place: Workplace, way: str) -> float:
    text = http_client.get(f"{place.url}/metrics", timeout=30).text
    found = re.findall(rf'^rayscore_stage_calls_total{{.*way="{way}".*}} (.+)$', text, re.M)
    return sum(map(float, found))


def test_calls_go_by_links(graph: Workplace) -> None:
    """Gateway and stages talk over links: none of the calls of a request goes by Serve's handle."""
    by_handle, by_link = _calls(graph, "handle"), _calls(graph, "link")

    body = request_body(stored_rows(graph, 1)[0])
    assert http_client.post(f"{graph.url}/predict", json=body, timeout=30).status_code == 200

    # The other gateway's counters reach the page that answers with its next report.
    wait_for(lambda: _calls(graph, "link") == by_link + 2, "a call of each stage by a link")
    assert _calls(graph, "handle") == by_handle


@pytest.mark.parametrize("stage", ["FeatureFetch", "Model"])
def test_a_killed_replica_fails_no_request(graph: Workplace, stage: str) -> None:
    """kill -9 of one of two replicas under load: every request is answered whole, and a new replica takes its place."""
    body = request_body(stored_rows(graph, 1)[0])
    wait_for(lambda: graph.shown(f'rayscore_open_links{{deployment="{stage}"') == 2, f"two {stage} replicas")
    before = graph.processes(f"ServeReplica:default:{stage}")
    assert len(before) == 2

    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        answer = http_client.post(f"{graph.url}/predict", json=body, timeout=30)
        assert answer.status_code == 200, answer.text
        assert not answer.json()["degraded"]
        return len(set(graph.processes(f"ServeReplica:default:{stage}")) - {before[0]}) == 2

    wait_for(replaced, f"a new {stage} replica")


@pytest.mark.parametrize("stage", ["FeatureFetch", "Model"])
def test_a_frozen_replica_fails_no_request(graph: Workplace, stage: str) -> None:
    """kill -STOP of one of two replicas: its calls go to the other in time, and it is left out until it wakes."""
    body = request_body(stored_rows(graph, 1)[0])
    wait_for(lambda: graph.shown(f'rayscore_open_links{{deployment="{stage}"') == 2, f"two {stage} replicas")
    replica = graph.processes(f"ServeReplica:default:{stage}")[0]

    os.kill(replica, signal.SIGSTOP)
    try:
        answers = [http_client.post(f"{graph.url}/predict", json=body, timeout=30) for _ in range(50)]
    finally:
        os.kill(replica, signal.SIGCONT)

    assert {answer.status_code for answer in answers} == {200}
    assert not any(answer.json()["degraded"] for answer in answers)
