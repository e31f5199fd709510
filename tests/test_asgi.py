"""The HTTP door as a client sees it, over a real model and store, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_app.stages import LocalFeatures
from tests.support_serving import (
    AGE_S,
    FULL,
    ROW,
    STORED,
    VERSION,
    Door,
    DownStage,
    door,
    local_store,
    manifest,
    run,
    until,
    write_store,
)

JSON = {"content-type": "application/json"}
MIB = 1_048_576


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFeatures]:
    """A SQLite store that knows `u1`."""
    file = write_store(tmp_path_factory.mktemp("store") / "online.db", {"u1": STORED})
    with closing(local_store(file)) as stage:
        yield stage


@pytest.fixture(scope="module")
def served(features: LocalFeatures) -> Door:
    """The door over that store."""
    return door(features)


def problem(response: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Assert that the answer is problem details (RFC 9457) of the status that mention the words."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"]
    assert body["type"] == "about:blank"
    for word in words:
        assert word in body["detail"] + body["title"]
    return body


class GatedModel:
    """A model that answers one half when the gate opens, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.entered = 0
        self._error = error

    async def score(self, matrix: np.ndarray) -> np.ndarray:
        """Wait, then answer or fail."""
        self.entered += 1
        if self._error is not None:
            raise self._error
        await self.gate.wait()
        return np.full(len(matrix), 0.5, np.float32)


def test_one_object(served: Door):
    """One object gets one answer with probability, label, model, entity and request id."""
    response = run(served.post(ROW))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert 0 <= body["probability"] <= 1
    assert body["label"] == int(body["probability"] >= manifest().threshold)
    assert body["model"] == {"name": "card_fraud", "version": VERSION}
    assert body["entity_found"] is True
    assert AGE_S <= body["online_age_s"] < AGE_S + 600
    assert body["degraded"] is False
    assert body["request_id"]
    assert "features" not in body
    assert "key" not in body


def test_key_comes_back(served: Door):
    """The row's key is in its answer."""
    assert run(served.post({**ROW, "transaction_id": "t-9"})).json()["key"] == "t-9"


def test_detail_says_where_each_value_came_from(served: Door):
    """With detail=1 each feature shows its value and whether request, store or default supplied it."""
    row = {**ROW, "cardholder_age": 0, "merchant_category": "zeppelins", "transaction_hour": 0}
    shown = run(served.post(row, "/predict?detail=1")).json()["features"]
    assert list(shown) == list(manifest().schema_.names)
    assert shown["cardholder_age"] == {"value": 0, "source": "request"}
    assert shown["transaction_hour"] == {"value": 0, "source": "request"}
    assert shown["device_trust_score"] == {"value": 10, "source": "online"}
    assert shown["merchant_category"] == {"value": "zeppelins", "source": "request", "unseen": True}


@pytest.mark.parametrize(
    ("query", "shown"),
    [("detail=1", True), ("detail=true", True), ("detail=0", False), ("detail=", False), ("%", False)],
)
def test_detail_switch(served: Door, query: str, shown: bool):
    """Detail is given when asked for, and a query that makes no sense is no error."""
    assert ("features" in run(served.post(ROW, f"/predict?{query}")).json()) is shown


def test_unknown_entity_is_said(served: Door):
    """An entity that the store does not know is answered from request and defaults, and the answer says so."""
    body = run(served.post({**ROW, "user_id": "stranger"}, "/predict?detail=1")).json()
    assert body["entity_found"] is False
    assert body["online_age_s"] is None
    assert body["degraded"] is False
    assert body["features"]["device_trust_score"] == {"value": None, "source": "default"}


def test_store_that_fails_degrades_the_answer():
    """Without the store the answer still comes, and is marked."""
    response = run(door(DownStage()).post(ROW))
    assert response.status_code == 200
    assert response.json()["degraded"] is True
    assert response.json()["entity_found"] is None


def test_bad_item_spoils_no_neighbour(served: Door):
    """In an array each item is answered in its place, a bad one by the problem it alone has."""
    good, bad, other = run(served.post([ROW, {**ROW, "amount": "1"}, {**ROW, "amount": 9}])).json()
    assert good["probability"] == run(served.post(ROW)).json()["probability"]
    assert other["probability"] == run(served.post({**ROW, "amount": 9})).json()["probability"]
    assert bad["error"]["status"] == 422
    assert bad["error"]["errors"] == [{"field": "amount", "reason": "expected a number, got a string"}]


def test_array_of_things_that_are_no_objects(served: Door):
    """Items of any JSON type are answered one by one."""
    answers = run(served.post([None, 1, "x", [], ROW])).json()
    assert [item["error"]["errors"][0]["field"] for item in answers[:4]] == [None] * 4
    assert "probability" in answers[4]


def test_array_as_large_as_allowed(served: Door):
    """1,000 items are answered in order."""
    response = run(served.post([{**ROW, "transaction_id": i} for i in range(1000)]))
    assert response.status_code == 200
    assert [item["key"] for item in response.json()] == list(range(1000))


@pytest.mark.parametrize(("items", "status", "word"), [(1001, 413, "1,001 items"), (0, 422, "at least one item")])
def test_array_of_wrong_size(served: Door, items: int, status: int, word: str):
    """More items than allowed, and none at all, are refused."""
    problem(run(served.post([ROW] * items)), status, word)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not JSON"),
        (b"amount=1", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"amount": NaN}', "NaN and Infinity are not JSON"),
        (b'{"amount": -Infinity}', "NaN and Infinity are not JSON"),
        (b'{"amount": 1e999}', "not JSON"),
        (b'{"user_id": "\\ud800"}', "not JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "not JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not JSON"),
    ],
)
def test_body_that_is_not_json(served: Door, body: bytes, word: str):
    """A body that is not JSON as RFC 8259 has it, or nests ten thousand deep, is refused as such."""
    problem(run(served.send(body)), 400, word)


@pytest.mark.parametrize("depth", [200, 300, 1000])
def test_deep_value_in_any_field(served: Door, depth: int):
    """A value that nests deeply is refused in every field it can be put in, the key included."""
    deep = b"[" * depth + b"]" * depth
    for name in ("transaction_id", "user_id", "amount", "merchant_category", "nonsense"):
        body = orjson.dumps({k: v for k, v in ROW.items() if k != name})[:-1] + b',"' + name.encode() + b'":' + deep
        found = problem(run(served.send(body + b"}")), 422)
        assert found["errors"][0]["field"] == name


@pytest.mark.parametrize(
    ("fields", "field", "word"),
    [
        ({"amout": 1}, "amout", "did you mean 'amount'?"),
        ({"transaction_hour": 24}, "transaction_hour", "above the largest accepted value 23"),
        ({"foreign_transaction": True}, "foreign_transaction", "expected an integer, got true"),
        ({"amount": "1"}, "amount", "expected a number, got a string"),
        ({"user_id": None}, "user_id", "is required"),
    ],
)
def test_bad_field_is_named(served: Door, fields: dict[str, Any], field: str, word: str):
    """A bad field is 422 with the field and the reason, in words and for machines."""
    found = problem(run(served.post({**ROW, **fields})), 422, field)
    (error,) = found["errors"]
    assert error["field"] == field
    assert word in error["reason"]


def test_body_of_the_largest_size_is_read(served: Door):
    """A body of exactly the limit is read; one byte more is refused, whatever it holds."""
    body = orjson.dumps(ROW)
    assert run(served.send(body + b" " * (MIB - len(body)))).status_code == 200
    response = run(served.send(body + b" " * (MIB - len(body) + 1)))
    problem(response, 413, "1,048,576 bytes")
    assert response.headers["connection"] == "close"


async def _chunks(sizes: list[int]) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b" " * size


@pytest.mark.parametrize("sizes", [[MIB + 1], [MIB, 1], [65_536] * 17])
def test_large_body_without_length(served: Door, sizes: list[int]):
    """A body sent in chunks, without a declared length, is counted while it comes."""

    async def scenario() -> httpx.Response:
        async with served.client() as client:
            return await client.post("/predict", content=_chunks(sizes), headers=JSON)

    problem(run(scenario()), 413)


@pytest.mark.parametrize("length", ["1048577", "9" * 30, "9" * 5000])
def test_large_declared_length_is_refused_unread(served: Door, length: str):
    """A declared length over the limit, however many digits it has, is refused without reading."""
    sent, asked = exchange(served, [], (b"content-length", length.encode()))
    assert sent[0]["status"] == 413
    assert asked == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_wrong_content_type(served: Door, kind: str):
    """Anything but application/json is refused."""
    problem(run(served.send(orjson.dumps(ROW), **{"content-type": kind})), 415, "application/json")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_content_type_in_any_spelling(served: Door, kind: str):
    """The content type is read as HTTP has it: any case, parameters ignored."""
    assert run(served.send(orjson.dumps(ROW), **{"content-type": kind})).status_code == 200


async def _ask(served: Door, method: str, path: str, **headers: str) -> httpx.Response:
    async with served.client() as client:
        return await client.request(method, path, headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("DELETE", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_wrong_method(served: Door, method: str, path: str, allowed: str):
    """A method that a path does not take is 405 and names the one it takes."""
    response = run(_ask(served, method, path))
    problem(response, 405, allowed)
    assert response.headers["allow"] == allowed


def test_unknown_path(served: Door):
    """A path that does not exist is 404 and lists those that do."""
    problem(run(_ask(served, "GET", "/predcit")), 404, "/predcit", "/predict")


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/docs", "/openapi.json", "/model/info"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_page_answers(served: Door, method: str, path: str):
    """Every page answers GET and HEAD."""
    assert run(_ask(served, method, path)).status_code == 200


def test_readiness_names_what_is_missing():
    """Not ready is 503 with the component and its problem."""
    response = run(_ask(door(problems=lambda: {"model": "no replica answers"}), "GET", "/ready"))
    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "problems": {"model": "no replica answers"}}


def test_fault_in_readiness_is_a_problem():
    """A fault of the service on any page is problem details without the fault's text."""

    def broken() -> dict[str, str]:
        raise ZeroDivisionError("secret")

    response = run(_ask(door(problems=broken), "GET", "/ready"))
    problem(response, 500)
    assert "secret" not in response.text


@pytest.mark.parametrize("given_id", ["abc-123", "x" * 128])
def test_request_id_is_echoed(served: Door, given_id: str):
    """The client's request id comes back in answers and in problems."""
    assert run(served.post(ROW, **{"x-request-id": given_id})).json()["request_id"] == given_id
    assert problem(run(served.post({}, **{"x-request-id": given_id})), 422)["request_id"] == given_id


@pytest.mark.parametrize("given_id", [b"", b"x" * 129, b"a\nb", b"a\tb", b"\xff\xfe", "ä".encode(), b"\x00"])
def test_hostile_request_id_is_replaced(served: Door, given_id: bytes):
    """An id that is too long or not printable ASCII is replaced by one of ours."""
    messages = [{"type": "http.request", "body": orjson.dumps(ROW), "more_body": False}]
    sent, _ = exchange(served, messages, (b"x-request-id", given_id))
    answered = orjson.loads(sent[1]["body"])["request_id"]
    assert len(answered) == 16
    assert answered.isalnum()


def exchange(
    served: Door, messages: list[MutableMapping[str, Any]], *headers: tuple[bytes, bytes]
) -> tuple[list[MutableMapping[str, Any]], int]:
    """Speak ASGI directly: give these messages, then nothing more; return what was sent and how often it read."""
    sent: list[MutableMapping[str, Any]] = []
    waiting = list(messages)
    asked = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked
        asked += 1
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    head = [(b"content-type", b"application/json"), *headers]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": head}
    run(served.app(scope, receive, send))
    return sent, asked


def test_client_that_leaves_mid_body(served: Door):
    """A client that disconnects in the middle of its body is answered nothing."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": b'{"user', "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert exchange(served, messages)[0] == []
    assert exchange(served, [{"type": "http.disconnect"}])[0] == []


@pytest.mark.parametrize("first", [[], [{"type": "http.request", "body": b'{"user', "more_body": True}]])
def test_body_that_never_arrives(features: LocalFeatures, first: list[MutableMapping[str, Any]]):
    """A body that does not begin, or stops half way, is given up with 408 and the connection closed."""
    sent, _ = exchange(door(features, body_timeout_s=0.02), first)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"not whole after 0.02 s" in sent[1]["body"]


def test_cancelled_request_stays_cancelled(served: Door):
    """A server that cancels a request while its body is awaited sees the cancellation, not a 408."""

    async def scenario() -> None:
        sent: list[Any] = []
        asked = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            asked.set()
            await asyncio.Event().wait()
            return {}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
        head = [(b"content-type", b"application/json")]
        task = asyncio.create_task(served.app({**scope, "headers": head}, receive, send))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sent == []

    run(scenario())


def test_full_service_refuses():
    """Beyond the queue's limit the answer is 503 with Retry-After, and those that wait are answered."""

    async def scenario() -> None:
        model = GatedModel()
        full = door(model=model, queue_limit=2, batch_slots=1, max_items=2)
        waiting = [asyncio.create_task(full.post(FULL)) for _ in range(3)]
        await until(lambda: model.entered == 1 and full.batcher.waiting == 2)
        refused = await full.post(FULL)
        problem(refused, 503, "try again later")
        assert refused.headers["retry-after"] == "1"
        model.gate.set()
        assert [response.status_code for response in await asyncio.gather(*waiting)] == [200] * 3

    run(scenario())


def test_request_past_its_time():
    """A request that takes longer than allowed is 504."""

    async def scenario() -> None:
        problem(await door(model=GatedModel(), request_timeout_ms=20).post(FULL), 504, "time allowed")

    run(scenario())


def test_client_sets_the_time_its_answer_may_take():
    """The header shortens the time allowed; a value that is no number of milliseconds is named, with 400."""

    async def scenario() -> None:
        served = door(model=GatedModel())
        short = await served.post(FULL, **{"x-request-timeout-ms": "20"})
        problem(short, 504, "time allowed")
        for wrong in ("0", "-5", "1.5", "soon", "9" * 40):
            problem(await served.post(FULL, **{"x-request-timeout-ms": wrong}), 400, "x-request-timeout-ms", wrong)

    run(scenario())


def test_a_longer_time_than_the_service_allows_does_not_count():
    """The service's own limit ends a request that asked for more time."""

    async def scenario() -> None:
        served = door(model=GatedModel(), request_timeout_ms=20)
        problem(await served.post(FULL, **{"x-request-timeout-ms": "60000"}), 504, "time allowed")

    run(scenario())


def test_internal_fault_is_not_shown(caplog: pytest.LogCaptureFixture):
    """A fault in the service is 500 without its text, which is in the log under the request id."""

    async def scenario() -> None:
        broken = door(model=GatedModel(ZeroDivisionError("secret of /etc")))
        response = await broken.post(FULL, **{"x-request-id": "find-me"})
        problem(response, 500, "under this request id")
        assert "secret" not in response.text
        many = await broken.post([FULL, FULL])
        problem(many, 500)

    run(scenario())
    assert "find-me" in caplog.text
    assert "secret of /etc" in caplog.text


def test_metrics_count_what_happened(features: LocalFeatures):
    """Requests, items, sources and entities are counted as answered."""
    fresh = door(features)

    async def scenario() -> str:
        await fresh.post(ROW)
        await fresh.post([ROW, {**ROW, "user_id": "stranger"}, {}])
        await fresh.post({})
        return (await _ask(fresh, "GET", "/metrics")).text

    text = run(scenario())
    for line in (
        'rayscore_requests_total{code="200",replica="replica-1"} 2.0',
        'rayscore_requests_total{code="422",replica="replica-1"} 1.0',
        'rayscore_items_total{outcome="ok",replica="replica-1"} 3.0',
        'rayscore_items_total{outcome="refused",replica="replica-1"} 2.0',
        'rayscore_entities_total{found="true",replica="replica-1"} 2.0',
        'rayscore_entities_total{found="false",replica="replica-1"} 1.0',
        'rayscore_feature_source_total{replica="replica-1",source="online"} 6.0',
        'rayscore_feature_source_total{replica="replica-1",source="default"} 3.0',
        'rayscore_batch_rows_count{replica="replica-1"} 2.0',
        'rayscore_request_seconds_count{replica="replica-1"} 3.0',
    ):
        assert line in text.splitlines()


def test_lifespan():
    """The application takes part in a server's startup and shutdown."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def scenario() -> None:
        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message["type"])

        await door().app({"type": "lifespan"}, receive, send)

    run(scenario())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


_NAMES = st.sampled_from([*FULL, "transaction_id", "is_fraud"]) | st.text(max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)
_CHANGES = st.dictionaries(_NAMES, _VALUES, max_size=4)
_BODIES = _VALUES | _CHANGES.map(lambda change: {**FULL, **change}) | st.lists(_CHANGES, max_size=4)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_BODIES, st.booleans())
def test_no_body_makes_a_server_error(served: Door, body: object, detail: bool):
    """Whatever JSON a client sends, the answer is JSON and never a 5xx."""

    async def scenario() -> httpx.Response:
        async with served.client() as client:
            return await client.post(f"/predict?detail={detail}", content=json.dumps(body), headers=JSON)

    response = run(scenario())
    assert response.status_code < 500
    assert response.json() is not None


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_server_error(served: Door, body: bytes):
    """Whatever bytes a client sends, the answer is never a 5xx."""
    assert run(served.send(body)).status_code < 500
