"""The console's routes: a page that loads nothing from elsewhere, and data for everybody that costs Control little."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
from typing import Any

import httpx
import pytest

from data.errors import ControlUnavailable, RayscoreError
from ray_app.console.routes import ConsoleRoutes
from ray_app.protocol.route import RouteReply, RouteRequest
from tests.support.load.http_requests import ask, problem
from tests.support.serving.predict_app import build_app, run, until

GET_DATA = RouteRequest("GET", "/console/data", b"", {}, b"", "10.0.0.1")


class Watched:
    """A console over a Control that says how often it was asked; `gate` holds its answers back, `error` fails them."""

    def __init__(self, problems: dict[str, str] | None = None) -> None:
        self.now = 100.0
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.problems = problems or {}
        self.console = ConsoleRoutes(self.forward, self.readiness, True, lambda: self.now)

    async def forward(self, action: str, body: dict[str, Any], source: str) -> tuple[int, Any]:
        """Control."""
        self.asked.append((action, body, source))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return 200, {"times": len(self.asked)}

    async def readiness(self) -> dict[str, str]:
        """The stages."""
        return self.problems

    async def reply(self) -> RouteReply:
        """One look."""
        return await self.console.routes()["/console/data"].answer(GET_DATA)

    async def data(self) -> Any:
        """What it showed."""
        return json.loads((await self.reply()).body)


def get(path: str, **settings: Any) -> httpx.Response:
    """One GET request to the application."""
    return run(ask(build_app(**settings), "GET", path))


def test_the_page_loads_only_what_is_here():
    """Every link and import of the page leads to this service, and each file has the type of its kind."""
    page = get("/console")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert "console/main.js" in links
    for link in set(links) - {"data:,", "./"}:
        assert get(f"/{link}").status_code == 200, link
    for script in re.findall(r'from "\./([\w.]+)"', get("/console/main.js").text):
        assert get(f"/console/{script}").headers["content-type"] == "text/javascript"
    assert get("/console/console.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize("path", ["/console", "/console/main.js"])
def test_nothing_from_elsewhere_may_run(path: str):
    """The page's policy allows scripts, styles and requests of this service alone, and no text as script or style."""
    headers = get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"


def test_no_file_makes_markup_of_data():
    """No script writes markup or runs text, and no style or handler is written into the page."""
    for path in build_app().app._known:
        if path.startswith("/console") and path != "/console/data":
            text = get(path).text
            for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://www.g"):
                assert word not in text, path
            assert not re.search(r"\son\w+=\"|style=\"", text), path


def test_data_is_for_everybody_and_for_reading():
    """No token is needed, GET is all there is, and it says whether the admin API is enabled; never by which token."""
    token = "sixteen characters"
    for given, is_open in (({}, False), ({"admin_token": token}, True)):
        answer = get("/console/data", **given)
        assert answer.json()["action"] == "look/console"
        assert answer.json()["admin_open"] is is_open
        assert answer.headers["cache-control"] == "no-store"
        assert token not in answer.text
    problem(run(ask(build_app(), "POST", "/console/data")), 405)


def test_many_pages_ask_control_once():
    """Whoever asks within a second, or while an answer is on its way, gets the same one; after it a new one."""

    async def look() -> list[int]:
        watched = Watched()
        watched.gate.clear()
        waiting = [asyncio.ensure_future(watched.data()) for _ in range(20)]
        await asyncio.sleep(0)
        watched.now += 5
        late = asyncio.ensure_future(watched.data())
        await asyncio.sleep(0)
        watched.gate.set()
        seen = [answer["times"] for answer in await asyncio.gather(*waiting, late)]
        watched.now += 0.9
        seen.append((await watched.data())["times"])
        watched.now += 0.2
        seen.append((await watched.data())["times"])
        assert watched.asked == [("look/console", {}, "")] * 2
        return seen

    assert run(look()) == [1] * 22 + [2]


def test_one_who_leaves_takes_the_answer_from_nobody():
    """A page that is closed while Control is asked does not fail the others."""

    async def look() -> Any:
        watched = Watched()
        watched.gate.clear()
        first, second = (asyncio.ensure_future(watched.data()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        watched.gate.set()
        return await second

    assert run(look())["times"] == 1


def test_what_serve_cancels_for_one_who_leaves_is_nobody_elses():
    """Serve cancels the calls made in the context of a request whose client is gone: not the shared one."""
    calls_of_request = contextvars.ContextVar[list[asyncio.Future[bool]]]("calls_of_request")

    class AsServe(Watched):
        begun = False

        async def forward(self, action: str, body: dict[str, Any], source: str) -> tuple[int, Any]:
            call = asyncio.ensure_future(self.gate.wait())
            self.begun = True
            calls_of_request.get([]).append(call)
            await call
            return await super().forward(action, body, source)

    async def viewer(watched: Watched, calls: list[asyncio.Future[bool]]) -> Any:
        calls_of_request.set(calls)
        return await watched.data()

    async def look() -> Any:
        watched, calls = AsServe(), []
        watched.gate.clear()
        first, second = (asyncio.ensure_future(viewer(watched, each)) for each in (calls, []))
        await until(lambda: watched.begun)
        for each in (first, *calls):
            each.cancel()
        await asyncio.wait([first])
        watched.gate.set()
        return await second

    assert run(look())["times"] == 1


def test_control_that_does_not_answer_is_said_without_its_words():
    """503 for a second, without addresses, and then it is asked again."""

    async def look() -> list[str]:
        watched = Watched()
        watched.error = ControlUnavailable("RayActorError: 10.0.0.9:6379 /tmp/ray")
        said = []
        for _ in range(2):
            with pytest.raises(ControlUnavailable) as failed:
                await watched.data()
            said.append(str(failed.value))
        assert len(watched.asked) == 1
        watched.error, watched.now = None, watched.now + 1
        assert (await watched.data())["times"] == 2
        return said

    assert run(look()) == ["Control does not answer; what is served goes on"] * 2


def test_control_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """The page hears soon that there is no answer."""
    monkeypatch.setattr("ray_app.console.routes._TIMEOUT_S", 0.05)

    async def look() -> None:
        watched = Watched()
        watched.gate.clear()
        with pytest.raises(RayscoreError):
            await watched.data()

    run(look())


def test_problems_of_the_service_are_shown_without_places():
    """What /ready says is there too, for the head of the page."""
    watched = Watched({"feature_fetch": "/srv/online.db: cannot be read"})
    assert run(watched.data())["problems"] == {"feature_fetch": "[…]: cannot be read"}
