"""The HTTP server's ASGI application: routes requests, reads bodies and sends responses. It does not import Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from data.settings import Settings
from ray_app.http.bearer_token import BearerToken
from ray_app.http.content_coding import decompress, read_coding
from ray_app.http.cors import Cors
from ray_app.http.disconnect import DisconnectWatch
from ray_app.http.predict_handler import PredictHandler
from ray_app.http.request_options import SCRATCH, read_options, read_request_id
from ray_app.inference.model_versions import ModelVersions
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.protocol import json_body, responses
from ray_app.protocol.responses import HttpProblem
from ray_app.protocol.route import Route, RouteReply, RouteRequest

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Readiness = Callable[[], Awaitable[dict[str, str]]]
"""Returns what keeps the service from being ready, by component; empty when it is ready."""

PATH = "/predict"
"""Path of predictions."""

_CLIENT_CLOSED_REQUEST = 499
"""Status under which metrics count a request whose client disconnected; nginx and Serve use it too. Never sent."""

# `int` raises ValueError for thousands of digits, so a longer content-length is refused before it is parsed.
_LENGTH_DIGITS = 18


class PredictApp:
    """The ASGI application. Every error is sent as problem details (RFC 9457)."""

    def __init__(
        self,
        settings: Settings,
        versions: ModelVersions,
        handler: PredictHandler,
        metrics: GatewayMetrics,
        readiness: Readiness,
        routes: Mapping[str, Route],
        body_timeout_s: float = 10.0,
    ) -> None:
        """Connect the parts.

        Args:
            settings: request timeout, largest body, queue limit and the origins that CORS allows.
            versions: the loaded model versions; the champion's static pages are served too.
            handler: answers /predict.
            metrics: counts requests.
            readiness: answers /ready.
            routes: the other routes by path: events, admin API, console and metrics.
            body_timeout_s: longest time for a body to arrive, in seconds.
        """
        self._settings = settings
        self._timeout_s = settings.request_timeout_ms / 1000
        self._versions = versions
        self._handler = handler
        self._metrics = metrics
        self._readiness = readiness
        self._routes = routes
        self._body_timeout_s = body_timeout_s
        self._scratch_token = BearerToken(
            settings.events_token, f"The header {SCRATCH.decode()}", "RAYSCORE_EVENTS_TOKEN"
        )
        self._cors = Cors(settings.cors_allowed) if settings.cors_allowed else None
        self._known = {PATH, "/health", "/ready", *routes, *versions.view.champion.pages}
        metrics.watch_queue(lambda: versions.waiting, settings.queue_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self._versions.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == PATH and method == "POST":
            await self._predict(scope, receive, send)
            return
        route = self._routes.get(path)
        # The routes are the operator's: admin API, console and metrics. No page of another origin is to read them.
        cors = self._cors if route is None else None
        headers = dict(scope["headers"])
        if cors is not None:
            send = cors.allow(headers, send)
        try:
            if cors is not None and method == "OPTIONS" and path in self._known and b"origin" in headers:
                await cors.answer_preflight(headers, _methods(path), send)
                return
            reply = await self._get(path, method) if route is None else await self._call_route(route, scope, receive)
            if reply is not None:
                await _send(send, reply.status, reply.content_type, reply.body, reply.headers)
        except Exception as exc:  # noqa: BLE001  every error gets a response; _send_problem logs unexpected ones
            await _send_problem(send, exc, read_request_id(headers))

    async def _call_route(self, route: Route, scope: Scope, receive: Receive) -> RouteReply | None:
        _require_method(scope["path"], scope["method"], route.methods)
        headers = dict(scope["headers"])
        body = await self._body(headers, receive, route.body_limit) if scope["method"] == "POST" else b""
        if body is None:
            return None
        forwarded_for = headers.get(b"x-forwarded-for", b"").decode("latin-1")[:100]
        source = forwarded_for or (scope.get("client") or ("unknown",))[0]
        return await route.answer(
            RouteRequest(scope["method"], scope["path"], scope["query_string"], headers, body, source)
        )

    async def _get(self, path: str, method: str) -> RouteReply:
        if path not in self._known:
            raise HttpProblem(404, "No such page", f"{path[:200]}; there are: {', '.join(sorted(self._known))}")
        _require_method(path, method, _methods(path))
        if path == "/health":
            return RouteReply(200, responses.JSON, b'{"status":"ok"}')
        if path == "/ready":
            return await self._ready()
        page = self._versions.view.champion.pages[path]
        return RouteReply(200, page.content_type, page.body)

    async def _ready(self) -> RouteReply:
        problems = await self._readiness()
        status = 503 if problems else 200
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        return RouteReply(status, responses.JSON, responses.dumps(body))

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to /predict that bypasses Serve's request handling.

        The response then has the header x-request-id, which Serve's own handling would add.
        """
        await self._predict(scope, receive, send, id_header=True)

    async def _predict(self, scope: Scope, receive: Receive, send: Send, *, id_header: bool = False) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = read_request_id(headers)
        extra = {"x-request-id": request_id} if id_header else {}
        if self._cors is not None:
            send = self._cors.allow(headers, send)
        observation = self._handler.begin()
        try:
            options = read_options(headers, scope["query_string"], self._timeout_s, request_id)
            if options.scratch:
                observation = None
                self._scratch_token.require(headers.get(b"authorization", b""))
            body = await self._body(headers, receive, self._settings.max_body_bytes)
            if body is None:
                return
            reply = await self._unless_disconnected(
                self._handler.answer(json_body.decode(body), request_id, options, observation), receive
            )
            status = 200 if reply is not None else _CLIENT_CLOSED_REQUEST
            if reply is not None:
                await _send(send, status, responses.JSON, responses.dumps(reply), extra)
        except Exception as exc:  # noqa: BLE001  as in _http
            status = await _send_problem(send, exc, request_id, extra)
        took = time.perf_counter() - started
        self._metrics.request(status, took)
        if observation is not None:
            self._handler.notify(observation, request_id, took)

    async def _unless_disconnected(self, reply: Awaitable[Any], receive: Receive) -> Any:
        """Return the reply, or None when the client disconnected first."""
        watch = DisconnectWatch(receive)
        try:
            return await reply
        except asyncio.CancelledError:
            if not watch.happened:
                raise
            return None
        finally:
            watch.close()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes | None:
        """Read and decompress the body; None when the client disconnected."""
        coding = read_coding(headers)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > _LENGTH_DIGITS or int(length) > limit):
            raise _too_large(limit)
        task, late = asyncio.current_task(), False

        def give_up() -> None:
            nonlocal late
            late = True
            if task is not None:
                task.cancel()

        # Not `asyncio.wait_for`: it makes a task for every request, which costs 30 times the microsecond of a timer.
        timer = asyncio.get_running_loop().call_later(self._body_timeout_s, give_up)
        try:
            body = await _read(receive, limit)
        except asyncio.CancelledError as exc:
            if not late:
                raise
            detail = f"not whole after {self._body_timeout_s:g} s"
            raise HttpProblem(408, "The body did not arrive", detail) from exc
        finally:
            timer.cancel()
        return decompress(body, coding, limit) if body and coding is not None else body


def _methods(path: str) -> tuple[str, ...]:
    return ("POST",) if path == PATH else ("GET",)


def _require_method(path: str, method: str, allowed: tuple[str, ...]) -> None:
    if method not in allowed and not (method == "HEAD" and "GET" in allowed):
        listed = ", ".join(allowed)
        raise HttpProblem(405, "Wrong method", f"{path} takes {listed}, not {method[:20]}", {"allow": listed})


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, "The body is too large", f"at most {limit:,} bytes are taken; send fewer items")


async def _send_problem(send: Send, error: Exception, request_id: str, extra: dict[str, str] | None = None) -> int:
    status, body = responses.problem(error, request_id)
    if status == 500:
        logger.error("request %s failed", request_id, exc_info=error)
    headers = dict(extra or {})
    if isinstance(error, HttpProblem):
        headers |= error.headers
    if status == 503:
        headers["retry-after"] = "1"
    if status in (408, 413):
        # The rest of the body was not read, so the next request on this connection could not be told from it.
        headers["connection"] = "close"
    await _send(send, status, responses.PROBLEM, responses.dumps(body), headers)
    return status


async def _send(send: Send, status: int, kind: bytes, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    start = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
