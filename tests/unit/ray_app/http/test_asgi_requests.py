"""What a request may be: sizes, content types, methods, paths, ids, and bodies that never arrive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import orjson
import pytest

from ray_app.inference.features.feature_fetch import LocalFeatures
from tests.support.load.http_requests import JSON, MIB, ask, exchange, problem
from tests.support.serving.predict_app import (
    ROW,
    ServedApp,
    build_app,
    run,
)


def test_body_of_the_largest_size_is_read(served: ServedApp):
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
def test_large_body_without_length(served: ServedApp, sizes: list[int]):
    """A body sent in chunks, without a declared length, is counted while it comes."""

    async def scenario() -> httpx.Response:
        async with served.client() as client:
            return await client.post("/predict", content=_chunks(sizes), headers=JSON)

    problem(run(scenario()), 413)


@pytest.mark.parametrize("length", ["1048577", "9" * 30, "9" * 5000])
def test_large_declared_length_is_refused_unread(served: ServedApp, length: str):
    """A declared length over the limit, however many digits it has, is refused without reading."""
    sent, asked = exchange(served, [], (b"content-length", length.encode()))
    assert sent[0]["status"] == 413
    assert asked == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_wrong_content_type(served: ServedApp, kind: str):
    """Anything but application/json is refused."""
    problem(run(served.send(orjson.dumps(ROW), **{"content-type": kind})), 415, "application/json")


@pytest.mark.parametrize("charset", ["iso-8859-1", "Windows-1252", '"utf-16"', "latin1", ""])
def test_other_charset(served: ServedApp, charset: str):
    """A body that is declared to be of another encoding than UTF-8 is refused: read as UTF-8 it could be other text."""
    kind = f"application/json; charset={charset}"
    problem(run(served.send(orjson.dumps(ROW), **{"content-type": kind})), 415, "JSON is read as UTF-8", charset)


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        'application/json;v=1; Charset="UTF-8"',
        "application/json;",
    ],
)
def test_content_type_in_any_spelling(served: ServedApp, kind: str):
    """The content type is read as HTTP has it: any case, parameters but the charset ignored."""
    assert run(served.send(orjson.dumps(ROW), **{"content-type": kind})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("DELETE", "/predict", "POST"),
        ("PUT", "/predict", "POST"),
        ("OPTIONS", "/predict", "POST"),
        ("POST", "/health", "GET"),
    ],
)
def test_wrong_method(served: ServedApp, method: str, path: str, allowed: str):
    """A method that a path does not take is 405 and names the one it takes."""
    response = run(ask(served, method, path))
    problem(response, 405, allowed)
    assert response.headers["allow"] == allowed


def test_unknown_path(served: ServedApp):
    """A path that does not exist is 404 and lists those that do."""
    problem(run(ask(served, "GET", "/predcit")), 404, "/predcit", "/predict")


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/docs", "/openapi.json", "/model/info"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_page_answers(served: ServedApp, method: str, path: str):
    """Every page answers GET and HEAD."""
    assert run(ask(served, method, path)).status_code == 200


def test_readiness_names_what_is_missing():
    """Not ready is 503 with the component and its problem."""
    response = run(ask(build_app(problems=lambda: {"model": "no replica answers"}), "GET", "/ready"))
    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "problems": {"model": "no replica answers"}}


def test_fault_in_readiness_is_a_problem():
    """A fault of the service on any page is problem details without the fault's text."""

    def broken() -> dict[str, str]:
        raise ZeroDivisionError("secret")

    response = run(ask(build_app(problems=broken), "GET", "/ready"))
    problem(response, 500)
    assert "secret" not in response.text


@pytest.mark.parametrize("given_id", ["abc-123", "x" * 128])
def test_request_id_is_echoed(served: ServedApp, given_id: str):
    """The client's request id comes back in answers and in problems."""
    assert run(served.post(ROW, **{"x-request-id": given_id})).json()["request_id"] == given_id
    assert problem(run(served.post({}, **{"x-request-id": given_id})), 422)["request_id"] == given_id


@pytest.mark.parametrize("given_id", [b"", b"x" * 129, b"a\nb", b"a\tb", b"\xff\xfe", "ä".encode(), b"\x00"])
def test_hostile_request_id_is_replaced(served: ServedApp, given_id: bytes):
    """An id that is too long or not printable ASCII is replaced by one of ours."""
    messages = [{"type": "http.request", "body": orjson.dumps(ROW), "more_body": False}]
    sent, _ = exchange(served, messages, (b"x-request-id", given_id))
    answered = orjson.loads(sent[1]["body"])["request_id"]
    assert len(answered) == 16
    assert answered.isalnum()


def test_client_that_leaves_mid_body(served: ServedApp):
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
    sent, _ = exchange(build_app(features, body_timeout_s=0.02), first)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"not whole after 0.02 s" in sent[1]["body"]


def test_cancelled_request_stays_cancelled(served: ServedApp):
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
