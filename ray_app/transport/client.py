"""The gateway's end of a link: one persistent connection to a replica, with pipelined calls."""

from __future__ import annotations

import asyncio
from typing import cast

from data.errors import Overloaded, RayscoreError
from ray_app.transport.framing import BadFrame, Frame, FrameKind, FrameReader, encode
from ray_app.transport.server import OVERLOADED, TOO_LATE


class LinkLost(RayscoreError):
    """The connection ended or could not be made; the replica may or may not have processed a pending call."""


class LinkRefused(RayscoreError):
    """The replica refused the handshake; the message is its reason."""


class CallFailed(RayscoreError):
    """The replica's handler raised; the message is the replica's."""


class Link(asyncio.Protocol):
    """One connection to one replica, made by `open_link`. Belongs to one event loop."""

    def __init__(self, hello: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._hello = hello
        self._reader = FrameReader()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self.welcomed: asyncio.Future[None] = self._loop.create_future()
        """Done when the replica has accepted the handshake; an exception when it refused, or the connection ended."""
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection has ended."""
        self.suspect = False
        """True after a call timed out, until any bytes arrive from the replica."""

    @property
    def usable(self) -> bool:
        """True while the connection is open and the handshake has been accepted."""
        return self.welcomed.done() and not self.lost.done()

    @property
    def in_flight(self) -> int:
        """Number of calls waiting for their answer."""
        return len(self._pending)

    async def call(self, payload: bytes, timeout_s: float) -> bytes:
        """Send one call and return its answer.

        Raises:
            LinkLost: the connection ended before the answer.
            asyncio.TimeoutError: no answer within `timeout_s` seconds; a late answer is dropped.
            Overloaded: the replica has too many calls under way.
            BadFrame: the payload is larger than MAX_PAYLOAD.
            CallFailed: the replica's handler raised.
        """
        if self._transport is None or self.lost.done():
            raise LinkLost("the connection has ended")
        call_id = self._next_id = (self._next_id + 1) & 0xFFFFFFFF
        # Encoded before the call is registered: a payload that is too large leaves nothing behind.
        frame = encode(FrameKind.CALL, call_id, payload, max(1, int(timeout_s * 1000)))
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._pending[call_id] = future
        timer = self._loop.call_later(timeout_s, self._expire, future)
        self._transport.write(frame)
        try:
            return await future
        finally:
            timer.cancel()
            self._pending.pop(call_id, None)

    def close(self) -> None:
        """Close the connection at once; pending calls raise LinkLost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # A cast, because uvloop's transports are not subclasses of asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(encode(FrameKind.HELLO, 0, self._hello))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        error = LinkLost(f"the connection ended: {exc or 'closed by the replica'}")
        for future in (self.welcomed, *self._pending.values()):
            if not future.done():
                future.set_exception(error)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.suspect = False
        try:
            for frame in self._reader.feed(data):
                self._handle(frame)
        except BadFrame:
            self.close()

    def _handle(self, frame: Frame) -> None:
        if frame.kind == FrameKind.ANSWER or frame.kind == FrameKind.FAILED:
            self._resolve(frame)
        elif frame.kind == FrameKind.WELCOME and not self.welcomed.done():
            self.welcomed.set_result(None)
        elif frame.kind == FrameKind.REFUSED and not self.welcomed.done():
            self.welcomed.set_exception(LinkRefused(frame.payload.decode(errors="replace")))
        else:
            self.close()

    def _resolve(self, frame: Frame) -> None:
        # A call that timed out is no longer pending.
        future = self._pending.get(frame.call_id)
        if future is None or future.done():
            return
        if frame.kind == FrameKind.ANSWER:
            future.set_result(frame.payload)
        elif frame.payload == OVERLOADED:
            future.set_exception(Overloaded("the replica has too many calls under way; try again"))
        elif frame.payload == TOO_LATE:
            future.set_exception(asyncio.TimeoutError())
        else:
            future.set_exception(CallFailed(frame.payload.decode(errors="replace")))

    def _expire(self, future: asyncio.Future[bytes]) -> None:
        if not future.done():
            self.suspect = True
            future.set_exception(asyncio.TimeoutError())


async def open_link(host: str, port: int, hello: bytes, timeout_s: float) -> Link:
    """Connect, perform the handshake, and return the usable link.

    Args:
        host: address of the replica.
        port: its port for links.
        hello: payload of the HELLO frame, from `Handshake.encode`.
        timeout_s: seconds allowed for the connection, and again for the handshake.

    Raises:
        LinkLost: there was no connection, or no reply to the handshake, in time.
        LinkRefused: the replica refused the handshake.
    """
    loop = asyncio.get_running_loop()
    link: Link | None = None
    try:
        _, link = await asyncio.wait_for(loop.create_connection(lambda: Link(hello), host, port), timeout_s)
        await asyncio.wait_for(asyncio.shield(link.welcomed), timeout_s)
    except BaseException as exc:
        if link is not None:
            link.close()
        if isinstance(exc, (OSError, asyncio.TimeoutError)):
            raise LinkLost(f"no link to {host}:{port}: {exc or 'no answer in time'}") from exc
        raise
    return link
