"""The replica's end of links: a TCP server in the replica's own event loop."""

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
"""Answers the payload of a call: returns bytes, or a coroutine of bytes when it has to wait for something."""

REFUSALS = ("bad frame", "unexpected frame", "no hello", "no hello in time", "garbled", "secret", "protocol", "schema")
"""Reasons for which a connection is closed; a replica's metrics have a series for each."""
UNANSWERED = ("overloaded", "late", "failed")
"""Reasons for which a call is not answered; a replica's metrics have a series for each."""
OVERLOADED = b"overloaded"
"""Payload of FAILED when the handler was not called because too many calls were under way."""
TOO_LATE = b"too late"
"""Payload of FAILED when the call's time was spent before its coroutine was started."""


class LinkServer:
    """Accepts links and answers their calls with `handler`. Belongs to the event loop that starts it.

    Args:
        handler: answers a call.
        handshake: checks the HELLO frame of each connection.
        max_in_flight: most calls under way at once, over all connections; further ones fail immediately.
        hello_timeout_s: seconds that a peer has to send HELLO.
    """

    def __init__(
        self, handler: Handler, handshake: Handshake, *, max_in_flight: int = 256, hello_timeout_s: float = 5.0
    ) -> None:
        self.handler = handler
        self.handshake = handshake
        self.max_in_flight = max_in_flight
        self.hello_timeout_s = hello_timeout_s
        self.in_flight = 0
        self.refusals: Counter[str] = Counter()
        """Connections closed because of what the peer did, by reason (`REFUSALS`)."""
        self.unanswered: Counter[str] = Counter()
        """Calls that were not answered, by reason (`UNANSWERED`)."""
        self.connections: set[_Connection] = set()
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int = 0) -> int:
        """Start listening and return the port; port 0 selects a free one."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), host, port)
        return self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and close every connection at once; pending calls raise LinkLost in their gateways."""
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self.connections):
            connection.abort()

    def count_refusal(self, reason: str) -> None:
        """Count a connection that is closed for `reason`, and log the first of each reason."""
        self.refusals[reason] += 1
        if self.refusals[reason] == 1:
            logger.warning("a link was refused: %s (further ones are counted, not logged)", reason)


class _Connection(asyncio.Protocol):
    def __init__(self, server: LinkServer) -> None:
        self._server = server
        # Until the handshake is accepted, a peer may not make this process buffer more than a HELLO needs.
        self._reader = FrameReader(MAX_HELLO)
        self._loop = asyncio.get_running_loop()
        self._accepted = False
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)
        self._timer = self._loop.call_later(self._server.hello_timeout_s, self._hello_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._server.connections.discard(self)
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except BadFrame:
            self._close_for("bad frame")
            return
        for frame in frames:
            # A refused peer may have sent calls, or another HELLO, in the same chunk as its HELLO: those frames are
            # still in this loop after the connection is closed.
            if self._transport.is_closing():
                return
            if not self._accepted:
                self._check_hello(frame)
            elif frame.kind == FrameKind.CALL:
                self._start_call(frame)
            else:
                self._close_for("unexpected frame")

    def pause_writing(self) -> None:
        # A peer that does not read its answers would fill this process's memory with them.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def abort(self) -> None:
        self._transport.abort()

    def _check_hello(self, frame: Frame) -> None:
        problem = self._server.handshake.problem(frame.payload) if frame.kind == FrameKind.HELLO else "no hello"
        if problem is None:
            self._timer.cancel()
            self._accepted = True
            self._reader.max_payload = MAX_PAYLOAD
            self._transport.write(encode(FrameKind.WELCOME, 0, b""))
            return
        self._transport.write(encode(FrameKind.REFUSED, 0, problem.encode()))
        self._close_for(problem)

    def _start_call(self, frame: Frame) -> None:
        server = self._server
        if server.in_flight >= server.max_in_flight:
            server.unanswered["overloaded"] += 1
            self._send_failure(frame, OVERLOADED)
            return
        try:
            answer = server.handler(frame.payload)
        except Exception as exc:  # noqa: BLE001  any error of the handler is sent to the caller
            self._send_exception(frame, exc)
            return
        if isinstance(answer, bytes):
            self._transport.write(encode(FrameKind.ANSWER, frame.call_id, answer))
            return
        server.in_flight += 1
        # A task costs as much as a small answer, so only a handler that has to wait gets one.
        task = self._loop.create_task(self._answer(frame, answer, self._loop.time() + frame.budget_ms / 1000))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    async def _answer(self, frame: Frame, answer: Coroutine[Any, Any, bytes], deadline: float) -> None:
        if self._loop.time() > deadline:
            self._server.unanswered["late"] += 1
            answer.close()
            # The caller has given up already, but without any reply it would keep this replica suspect.
            self._send_failure(frame, TOO_LATE)
            return
        try:
            reply = encode(FrameKind.ANSWER, frame.call_id, await answer)
        except Exception as exc:  # noqa: BLE001  as above
            self._send_exception(frame, exc)
            return
        if not self._transport.is_closing():
            self._transport.write(reply)

    def _send_exception(self, frame: Frame, exc: Exception) -> None:
        logger.error("a call failed", exc_info=exc)
        self._server.unanswered["failed"] += 1
        self._send_failure(frame, repr(exc)[:1000].encode(errors="replace"))

    def _send_failure(self, frame: Frame, reason: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(encode(FrameKind.FAILED, frame.call_id, reason))

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._server.in_flight -= 1
        self._tasks.discard(task)

    def _hello_timed_out(self) -> None:
        self._close_for("no hello in time")

    def _close_for(self, reason: str) -> None:
        if not self._transport.is_closing():
            self._server.count_refusal(reason)
            self._transport.close()
