"""The answering end of links: a listener in a replica's own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast

from ray_app.transport.framing import MAX_HELLO, MAX_PAYLOAD, BadFrame, Frame, FrameKind, FrameReader, encode
from ray_app.transport.handshake import Handshake

logger = logging.getLogger(__name__)

Handler = Callable[[bytes], "bytes | Coroutine[Any, Any, bytes]"]
"""Bytes of a call in, bytes of its answer out: at once, or from a coroutine when there is something to wait for."""

REFUSALS = ("bad frame", "unexpected frame", "no hello", "no hello in time", "garbled", "secret", "protocol", "schema")
"""Why a connection may be closed."""
UNANSWERED = ("overloaded", "late", "failed")
"""Why a call may not be answered."""
OVERLOADED = b"overloaded"
"""Payload of FAILED when a call was not begun because too many were under way."""
TOO_LATE = b"too late"
"""Payload of FAILED when a call was not begun because its time was spent."""


class LinkServer:
    """Answers calls with `handler`. Belongs to the event loop that starts it.

    Args:
        handler: answers a call.
        hello: what a peer must say first.
        max_in_flight: calls under way at once, over all connections; more are failed at once.
        hello_timeout_s: how long a peer may take to say hello.
    """

    def __init__(
        self, handler: Handler, hello: Handshake, *, max_in_flight: int = 256, hello_timeout_s: float = 5.0
    ) -> None:
        self.handler = handler
        self.hello = hello
        self.max_in_flight = max_in_flight
        self.hello_timeout_s = hello_timeout_s
        self.in_flight = 0
        self.cut_off: Counter[str] = Counter()
        """Connections that were closed because of what the peer did, by reason."""
        self.unanswered: Counter[str] = Counter()
        """Calls that were not answered: "overloaded" (too many under way), "late" (its time was over) or "failed"."""
        self.connections: set[_Connection] = set()
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int = 0) -> int:
        """Listen and return the port; 0 takes a free one."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), host, port)
        return self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and close every connection; callers see their calls lost and go elsewhere."""
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.connections):
            connection.abort()

    def cut(self, reason: str) -> None:
        """Count a connection that is closed for `reason`; the first of each reason is logged."""
        self.cut_off[reason] += 1
        if self.cut_off[reason] == 1:
            logger.warning("a link was refused: %s (further ones are counted, not logged)", reason)


class _Connection(asyncio.Protocol):
    def __init__(self, server: LinkServer) -> None:
        self._server = server
        # Whoever has not said hello may not make this process hold much.
        self._reader = FrameReader(MAX_HELLO)
        self._loop = asyncio.get_running_loop()
        self._welcome = False
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._timer = self._loop.call_later(self._server.hello_timeout_s, self._silent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._server.connections.discard(self)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except BadFrame:
            self._cut("bad frame")
            return
        for frame in frames:
            # Closing does not take back what is in this chunk: a refused peer may have sent its calls along with
            # its hello, or another hello.
            if self._transport.is_closing():
                return
            if not self._welcome:
                self._greet(frame)
            elif frame.kind == FrameKind.CALL:
                self._begin(frame)
            else:
                self._cut("unexpected frame")

    def pause_writing(self) -> None:
        """A peer that does not read its answers gets no further calls taken."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def abort(self) -> None:
        self._transport.abort()

    def _greet(self, frame: Frame) -> None:
        problem = self._server.hello.problem(frame.payload) if frame.kind == FrameKind.HELLO else "no hello"
        if problem is None:
            self._timer.cancel()
            self._welcome = True
            self._reader.max_payload = MAX_PAYLOAD
            self._transport.write(encode(FrameKind.WELCOME, 0, b""))
            return
        self._transport.write(encode(FrameKind.REFUSED, 0, problem.encode()))
        self._cut(problem)

    def _begin(self, frame: Frame) -> None:
        server = self._server
        if server.in_flight >= server.max_in_flight:
            server.unanswered["overloaded"] += 1
            self._refuse(frame, OVERLOADED)
            return
        try:
            answer = server.handler(frame.payload)
        except Exception as exc:  # noqa: BLE001  whatever the handler raised belongs to the caller
            self._fail(frame, exc)
            return
        if isinstance(answer, bytes):
            self._transport.write(encode(FrameKind.ANSWER, frame.call_id, answer))
            return
        server.in_flight += 1
        # A task costs as much as a small answer: only what has to wait is given one.
        task = self._loop.create_task(self._answer(frame, answer, self._loop.time() + frame.budget_ms / 1000))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _answer(self, frame: Frame, answer: Coroutine[Any, Any, bytes], deadline: float) -> None:
        if self._loop.time() > deadline:
            self._server.unanswered["late"] += 1
            answer.close()
            # Nobody waits for it any more, but silence would make this replica suspect.
            self._refuse(frame, TOO_LATE)
            return
        try:
            reply = encode(FrameKind.ANSWER, frame.call_id, await answer)
        except Exception as exc:  # noqa: BLE001  as above
            self._fail(frame, exc)
            return
        if not self._transport.is_closing():
            self._transport.write(reply)

    def _fail(self, frame: Frame, exc: Exception) -> None:
        logger.error("a call failed", exc_info=exc)
        self._server.unanswered["failed"] += 1
        self._refuse(frame, repr(exc)[:1000].encode(errors="replace"))

    def _refuse(self, frame: Frame, reason: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode(FrameKind.FAILED, frame.call_id, reason))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._server.in_flight -= 1
        self._tasks.discard(task)

    def _silent(self) -> None:
        self._cut("no hello in time")

    def _cut(self, reason: str) -> None:
        if not self._transport.is_closing():
            self._server.cut(reason)
            self._transport.close()
