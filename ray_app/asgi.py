"""The HTTP door: a plain ASGI application over the one inference path. It knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from data.errors import RayscoreError
from data.settings import Settings
from ray_app import answer
from ray_app.answer import Answers, HttpProblem
from ray_app.batching import MicroBatcher
from ray_app.departure import Departure
from ray_app.envelope import Envelope, read_envelope, request_id
from ray_app.metrics import CONTENT_TYPE, Metrics
from ray_app.pages import Page
from ray_app.prediction import Prediction
from ray_app.request import RefusedItem, Row, RowParser

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Readiness = Callable[[], Awaitable[dict[str, str]]]
"""Returns the problems by component; empty when ready."""

PATH = "/predict"
"""Where predictions are asked for."""

_CALLER_LEFT = 499
"""The code under which a request is counted whose caller did not wait; nginx' and Serve's, no caller sees it."""

_LENGTH_DIGITS = 18  # more would not be a length, and Python refuses to read thousands of them


class PredictApp:
    """Routes, reads bodies, answers. Every error leaves as problem details (RFC 9457)."""

    def __init__(
        self,
        settings: Settings,
        parser: RowParser,
        batcher: MicroBatcher[Row, Prediction],
        answers: Answers,
        metrics: Metrics,
        pages: dict[str, Page],
        readiness: Readiness,
        body_timeout_s: float = 10.0,
    ) -> None:
        """Wire the door; `pages` are the fixed GET answers by path."""
        self._settings = settings
        self._timeout_s = settings.request_timeout_ms / 1000
        self._parser = parser
        self._batcher = batcher
        self._answers = answers
        self._metrics = metrics
        self._pages = pages
        self._readiness = readiness
        self._body_timeout_s = body_timeout_s
        self._known = {PATH, "/health", "/ready", "/metrics", *pages}
        metrics.watch_queue(lambda: batcher.waiting)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self._batcher.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == PATH and method == "POST":
            await self._predict(scope, receive, send)
            return
        try:
            status, kind, body = await self._get(path, method)
            await _send(send, status, kind, body)
        except Exception as exc:
            asked = request_id(dict(scope["headers"]))
            if not isinstance(exc, RayscoreError):
                logger.exception("request %s failed", asked)
            await _send_problem(send, exc, asked)

    async def _get(self, path: str, method: str) -> tuple[int, bytes, bytes]:
        if path not in self._known:
            raise HttpProblem(404, "No such page", f"{path[:200]}; there are: {', '.join(sorted(self._known))}")
        allowed = "POST" if path == PATH else "GET"
        if method != allowed and not (allowed == "GET" and method == "HEAD"):
            raise HttpProblem(405, "Wrong method", f"{path} takes {allowed}, not {method[:20]}", {"allow": allowed})
        if path == "/health":
            return 200, answer.JSON, b'{"status":"ok"}'
        if path == "/ready":
            return await self._ready()
        if path == "/metrics":
            return 200, CONTENT_TYPE.encode(), self._metrics.exposition()
        page = self._pages[path]
        return 200, page.content_type, page.body

    async def _ready(self) -> tuple[int, bytes, bytes]:
        problems = await self._readiness()
        status = 503 if problems else 200
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        return status, answer.JSON, answer.dumps(body)

    async def predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST to /predict that nothing stands before; the answer then carries the request id as a header."""
        await self._predict(scope, receive, send, named=True)

    async def _predict(self, scope: Scope, receive: Receive, send: Send, *, named: bool = False) -> None:
        started = time.perf_counter()
        headers = dict(scope["headers"])
        asked = request_id(headers)
        extra = {"x-request-id": asked} if named else {}
        try:
            envelope = read_envelope(headers, scope["query_string"], self._timeout_s)
            body = await self._body(headers, receive)
            if body is None:
                return
            reply = await self._unless_left(self._answer(answer.loads(body), asked, envelope), receive)
            status = 200 if reply is not None else _CALLER_LEFT
            if reply is not None:
                await _send(send, status, answer.JSON, answer.dumps(reply), extra)
        except RayscoreError as exc:
            status = await _send_problem(send, exc, asked, extra)
        except Exception as exc:
            logger.exception("request %s failed", asked)
            status = await _send_problem(send, exc, asked, extra)
        self._metrics.request(status, time.perf_counter() - started)

    async def _unless_left(self, reply: Awaitable[Any], receive: Receive) -> Any:
        """Return the reply, or None when the caller has left meanwhile."""
        departure = Departure(receive)
        try:
            return await reply
        except asyncio.CancelledError:
            if not departure.happened:
                raise
            return None
        finally:
            departure.close()

    async def _answer(self, decoded: Any, asked: str, envelope: Envelope) -> Any:
        if not isinstance(decoded, list):
            try:
                row = self._parser.parse(decoded)
            except RefusedItem:
                self._metrics.refused(1)
                raise
            (prediction,) = await self._predictions([row], envelope)
            return self._answers.render(prediction, asked, envelope.detail)
        return await self._answer_many(decoded, asked, envelope)

    async def _answer_many(self, items: list[Any], asked: str, envelope: Envelope) -> list[Any]:
        if not items:
            raise HttpProblem(422, "The array is empty", "send at least one item")
        if len(items) > self._settings.max_items:
            limit = self._settings.max_items
            raise HttpProblem(
                413, "Too many items", f"{len(items):,} items in one request, at most {limit:,} are taken"
            )
        # To check each row costs more than all else: a full service refuses before.
        self._batcher.require_room(len(items))
        parsed = [self._parse(item) for item in items]
        accepted = [row for row in parsed if isinstance(row, Row)]
        self._metrics.refused(len(items) - len(accepted))
        predictions = iter(await self._predictions(accepted, envelope))
        return [
            self._answers.render(next(predictions), asked, envelope.detail)
            if isinstance(row, Row)
            else {"error": answer.problem(row, asked)[1]}
            for row in parsed
        ]

    def _parse(self, item: Any) -> Row | RefusedItem:
        try:
            return self._parser.parse(item)
        except RefusedItem as exc:
            return exc

    async def _predictions(self, rows: Sequence[Row], envelope: Envelope) -> list[Prediction]:
        predictions = await self._batcher.submit(rows, envelope.timeout_s) if rows else []
        self._metrics.predictions(predictions)
        return predictions

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Read the body; None when the client has left."""
        limit = self._settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > _LENGTH_DIGITS or int(length) > limit):
            raise _too_large(limit)
        task, late = asyncio.current_task(), False

        def give_up() -> None:
            nonlocal late
            late = True
            if task is not None:
                task.cancel()

        # A timer costs a microsecond; `asyncio.wait_for` makes a task, 30 times that, in every request.
        timer = asyncio.get_running_loop().call_later(self._body_timeout_s, give_up)
        try:
            return await _read(receive, limit)
        except asyncio.CancelledError as exc:
            if not late:
                raise
            detail = f"not whole after {self._body_timeout_s:g} s"
            raise HttpProblem(408, "The body did not arrive", detail) from exc
        finally:
            timer.cancel()


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
    status, body = answer.problem(error, request_id)
    headers = dict(extra or {})
    if isinstance(error, HttpProblem):
        headers |= error.headers
    if status == 503:
        headers["retry-after"] = "1"
    if status in (408, 413):
        # The rest of the body is still on the wire: this connection cannot be used again.
        headers["connection"] = "close"
    await _send(send, status, answer.PROBLEM, answer.dumps(body), headers)
    return status


async def _send(send: Send, status: int, kind: bytes, body: bytes, headers: dict[str, str] | None = None) -> None:
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    start = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
