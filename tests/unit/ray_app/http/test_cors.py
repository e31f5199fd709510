"""CORS: what a browser is told when a page of another origin asks for a prediction."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest

from tests.support.load.http_requests import JSON, ask, problem
from tests.support.serving.predict_app import ROW, ServedApp, build_app, run

OURS = "https://shop.example"
THEIRS = "https://evil.example"
TOKEN = "t" * 16


@pytest.fixture(scope="module")
def listed() -> ServedApp:
    """An application that allows two origins."""
    return build_app(cors_origins=f"http://localhost:3000, {OURS}", admin_token=TOKEN)


@pytest.fixture(scope="module")
def open_to_all() -> ServedApp:
    """An application that allows every origin."""
    return build_app(cors_origins="*")


def preflight(app: ServedApp, origin: str, path: str = "/predict") -> httpx.Response:
    """Ask as a browser does before a POST of JSON with a request id."""
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-request-id"}
    return run(ask(app, "OPTIONS", path, origin=origin, **wanted))


def test_preflight_of_an_allowed_origin(listed: ServedApp):
    """OPTIONS of an allowed origin is 204 without a body and names method, headers and how long that holds."""
    response = preflight(listed, OURS)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == OURS
    assert response.headers["access-control-allow-methods"] == "POST"
    assert response.headers["access-control-allow-headers"] == "content-type,x-request-id"
    assert response.headers["access-control-max-age"] == "600"
    assert response.headers["vary"] == "origin"
    assert "content-length" not in response.headers
    assert run(ask(listed, "OPTIONS", "/predict", origin=OURS)).status_code == 204
    assert preflight(listed, OURS, "/model/info").headers["access-control-allow-methods"] == "GET"


@pytest.mark.parametrize("origin", [THEIRS, "null", OURS + ":443", OURS.upper(), OURS + ".evil.example", ""])
def test_preflight_of_another_origin(listed: ServedApp, origin: str):
    """OPTIONS of any other origin is 403 and allows nothing, however alike it looks."""
    response = preflight(listed, origin)
    problem(response, 403, "RAYSCORE_CORS_ORIGINS does not name", origin)
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["vary"] == "origin"


def test_answers_can_be_read_by_an_allowed_origin(listed: ServedApp):
    """Answers and errors of each kind carry the allowed origin, and the headers that a page may read."""

    async def scenario() -> list[httpx.Response]:
        async with listed.client() as client:
            return [
                await client.post("/predict", json=ROW, headers={"origin": OURS}),
                await client.post("/predict", json={}, headers={"origin": OURS}),
                await client.post("/predict", content=b"{", headers={**JSON, "origin": OURS}),
                await client.get("/predict", headers={"origin": OURS}),
                await client.get("/model/info", headers={"origin": OURS}),
                await client.get("/nothing", headers={"origin": OURS}),
            ]

    responses = run(scenario())
    assert [response.status_code for response in responses] == [200, 422, 400, 405, 200, 404]
    for response in responses:
        assert response.headers["access-control-allow-origin"] == OURS
        assert response.headers["access-control-expose-headers"] == "x-request-id, retry-after"
        assert response.headers["vary"] == "origin"


def test_answers_to_other_origins(listed: ServedApp):
    """A request of another origin, or of none, is answered without permission, and marked for caches."""
    for headers in ({"origin": THEIRS}, {}):
        response = run(listed.post(ROW, **headers))
        assert response.status_code == 200
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"] == "origin"


def test_every_origin(open_to_all: ServedApp):
    """With * every origin is allowed, in the preflight and in the answer, which is the same for all."""
    assert preflight(open_to_all, THEIRS).status_code == 204
    response = run(open_to_all.post(ROW, origin=THEIRS))
    assert response.headers["access-control-allow-origin"] == "*"
    assert "vary" not in response.headers


@pytest.mark.parametrize("path", ["/admin/status", "/admin/rollback", "/console/data", "/console", "/metrics"])
def test_routes_of_the_operator_allow_no_origin(listed: ServedApp, path: str):
    """Admin API, console and metrics answer no preflight and permit no origin, the token notwithstanding."""
    problem(preflight(listed, OURS, path), 405)
    token = f"Bearer {TOKEN}"
    for method in ("GET", "POST", "OPTIONS"):
        response = run(ask(listed, method, path, origin=OURS, authorization=token))
        assert not any(name.startswith("access-control") for name in response.headers)


def test_without_the_setting_nothing_is_allowed(served: ServedApp):
    """By default OPTIONS is 405 as any other method, and no answer carries a header of CORS."""
    problem(preflight(served, OURS), 405, "/predict takes POST, not OPTIONS")
    response = run(served.post(ROW, origin=OURS))
    assert response.status_code == 200
    assert not any(name.startswith("access-control") or name == "vary" for name in response.headers)


def test_predictions_past_serve_carry_the_origin_too(listed: ServedApp):
    """A prediction that bypasses Serve has the same headers, and the request id among them."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        if sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"origin", OURS.encode()), (b"x-request-id", b"find-me")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    run(listed.app.predict(scope, receive, send))
    given = dict(sent[0]["headers"])
    assert (given[b"access-control-allow-origin"], given[b"vary"]) == (OURS.encode(), b"origin")
    assert given[b"x-request-id"] == b"find-me"
