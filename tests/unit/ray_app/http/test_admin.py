"""The admin API: disabled without a token, open to whoever sends it, and limited against guessing."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from data.errors import ConfigError
from data.settings import Settings, load_settings
from ray_app.environment.haproxy import ATTEMPT
from ray_app.http.admin import AdminRoutes
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.route import RouteRequest
from tests.support.load.http_requests import problem
from tests.support.serving.predict_app import ServedApp, build_app, run

TOKEN = "sixteen characters"
RIGHT = {"authorization": f"Bearer {TOKEN}"}


async def ask(served: ServedApp, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    """One request."""
    async with served.client() as client:
        return await client.request(method, path, content=content, headers=headers)


@pytest.fixture
def served() -> ServedApp:
    """An application with a token, whose Control returns what it was sent."""
    return build_app(admin_token=TOKEN)


@pytest.mark.parametrize(("method", "path"), [("GET", "/admin/status"), ("POST", "/admin/rollback")])
def test_without_a_token_the_admin_api_is_disabled(method, path):
    """Whatever is sent: 403, and how to open it."""
    problem(run(ask(build_app(), method, path, **RIGHT)), 403, "RAYSCORE_ADMIN_TOKEN")


@pytest.mark.parametrize(
    "given", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}]
)
def test_another_token_is_refused(served, given):
    """No token, another, or another scheme: 401, and nothing of the right one in it."""
    refused = run(ask(served, "GET", "/admin/status", **given))
    problem(refused, 401, "Bearer")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in refused.text


def test_the_token_opens_it(served):
    """What was asked for goes to Control with the address it came from."""
    looked = run(ask(served, "GET", "/admin/status", **RIGHT))
    acted = run(ask(served, "POST", "/admin/weight", b'{"version":"2"}', **RIGHT, **{"x-forwarded-for": "10.1.2.3"}))
    assert looked.json()["action"] == "look/status"
    assert acted.json() == {"action": "weight", "told": {"version": "2"}, "source": "10.1.2.3"}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/admin/rollback", b"", 405),
        ("POST", "/admin/status", b"", 405),
        ("POST", "/admin/weight", b"[1]", 422),
        ("POST", "/admin/weight", b'{"version":', 400),
        ("POST", "/admin/rules", b" " * 70_000, 413),
        ("GET", "/admin/nothing", b"", 404),
    ],
)
def test_what_is_sent_wrongly_is_a_4xx(served, method, path, content, status):
    """Wrong method, no object, half a body, too large a body, no such page."""
    problem(run(ask(served, method, path, content, **RIGHT)), status)


def test_guessing_is_slowed_down(served):
    """After a handful of wrong tokens the admin API answers 429 for a while."""

    async def guess() -> list[int]:
        return [(await ask(served, "GET", "/admin/status", authorization=f"Bearer {i}")).status_code for i in range(20)]

    statuses = run(guess())
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert statuses.count(401) < 10


def test_guessing_does_not_keep_out_who_has_the_token(served):
    """While wrong tokens are answered 429 the right one is let in."""

    async def both() -> list[int]:
        for i in range(20):
            await ask(served, "GET", "/admin/status", authorization=f"Bearer {i}")
        return [(await ask(served, "POST", "/admin/rollback", **RIGHT)).status_code for _ in range(10)]

    assert set(run(both())) == {200}


def test_who_has_the_token_is_limited_too():
    """At one moment the admin API takes forty requests with the token, and more when time has passed."""
    now = [0.0]

    async def forward(action: str, told: dict, source: str) -> tuple[int, dict]:
        return 200, {}

    admin = AdminRoutes(SecretStr(TOKEN), forward, lambda: now[0])
    route = admin.routes()["/admin/status"]
    told = RouteRequest("GET", "/admin/status", b"", {b"authorization": f"Bearer {TOKEN}".encode()}, b"", "")

    def taken() -> int:
        count = 0
        while True:
            try:
                run(route.answer(told))
            except HttpProblem as refused:
                assert refused.status == 429
                return count
            count += 1

    assert taken() == 40
    now[0] = 1.0
    assert taken() == 20


def test_a_request_that_arrives_twice_is_known_by_its_attempt(served):
    """HAProxy's header goes to Control with the change, unless the body names an attempt of its own."""
    header = {ATTEMPT: "10.0.0.1:99-1-7"}
    by_header = run(ask(served, "POST", "/admin/rollback", **RIGHT, **header))
    by_body = run(ask(served, "POST", "/admin/rollback", b'{"attempt":"mine"}', **RIGHT, **header))
    assert by_header.json()["told"] == {"attempt": "10.0.0.1:99-1-7"}
    assert by_body.json()["told"] == {"attempt": "mine"}


def test_the_token_is_never_printed(monkeypatch: pytest.MonkeyPatch):
    """Not by the settings, and not by the error about one that is too short."""
    assert TOKEN not in repr(Settings(admin_token=TOKEN)) + str(Settings(admin_token=TOKEN).model_dump())
    monkeypatch.setenv("RAYSCORE_ADMIN_TOKEN", "short-secret")
    with pytest.raises(ConfigError, match="RAYSCORE_ADMIN_TOKEN") as refused:
        load_settings()
    assert "short-secret" not in str(refused.value)
