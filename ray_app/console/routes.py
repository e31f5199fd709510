"""The console: a page for people at `/console`, and the open, read-only data that it asks for again and again.

Changes go by the admin API, with its token; nothing here needs or knows a token.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable, Mapping
from importlib import resources

from data.errors import ControlUnavailable
from ray_app.console.redaction import redacted
from ray_app.http.admin import Forward
from ray_app.http.asgi import Readiness
from ray_app.protocol import responses
from ray_app.protocol.route import Route, RouteReply, RouteRequest

PAGE = "console.html"
_TYPES = {"html": b"text/html; charset=utf-8", "css": b"text/css; charset=utf-8", "js": b"text/javascript"}
_HEADERS: Mapping[str, str] = {
    # Scripts and styles come from files of this service alone: injected text cannot run.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_CACHE_S = 1.0
"""How long an answer of Control is reused, so that many open pages ask it no more often than one."""
_TIMEOUT_S = 1.5


class ConsoleRoutes:
    """The routes of the console's page and of its data. Belongs to one event loop.

    Args:
        forward: sends an action to Control; returns HTTP status and JSON.
        readiness: returns the problems of store and model by stage.
        admin_open: a token is set, so the admin API is open; shown in the data.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        forward: Forward,
        readiness: Readiness,
        admin_open: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forward = forward
        self._readiness = readiness
        self._admin_open = admin_open
        self._clock = clock
        self._fetch: asyncio.Task[bytes] | None = None
        self._answered_at = clock()

    def routes(self) -> dict[str, Route]:
        """The console's routes by path."""
        paths = {"/console" if name == PAGE else f"/console/{name}": name for name in _files()}
        fixed = {path: Route(("GET",), functools.partial(_file, name)) for path, name in paths.items()}
        return {**fixed, "/console/data": Route(("GET",), self._data)}

    async def _data(self, request: RouteRequest) -> RouteReply:
        """Answer with the state of Control, at most a second old; raises ControlUnavailable."""
        fetch = self._fetch
        if fetch is None or (fetch.done() and self._clock() - self._answered_at >= _CACHE_S):
            # An empty context: others wait for it too, and Serve cancels the calls of a request whose client has left,
            # which it finds by the context that they were made in.
            fetch = self._fetch = contextvars.Context().run(asyncio.get_running_loop().create_task, self._load())
            # Retrieves the exception: when all clients have left, asyncio would log it as never retrieved.
            fetch.add_done_callback(lambda task: task.cancelled() or task.exception())
        return RouteReply(200, responses.JSON, await asyncio.shield(fetch), {"cache-control": "no-store"})

    async def _load(self) -> bytes:
        try:
            (_, state), problems = await asyncio.wait_for(
                asyncio.gather(self._forward("look/console", {}, ""), self._readiness()), _TIMEOUT_S
            )
        except (ControlUnavailable, asyncio.TimeoutError) as exc:
            # The error's own text may name machines, and this answer is public.
            raise ControlUnavailable("Control does not answer; what is served goes on") from exc
        finally:
            self._answered_at = self._clock()
        return responses.dumps({"problems": redacted(problems), "admin_open": self._admin_open, **state})


async def _file(name: str, request: RouteRequest) -> RouteReply:
    return RouteReply(200, _TYPES[name.rpartition(".")[2]], _files()[name], _HEADERS)


@functools.cache
def _files() -> dict[str, bytes]:
    folder = resources.files("ray_app.console") / "web"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES}
