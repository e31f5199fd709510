"""The asking end of one link: a persistent connection with pipelined calls."""

from __future__ import annotations

import asyncio
from typing import cast

from data.errors import Overloaded, RayscoreError
from ray_app.transport.framing import BadFrame, Frame, FrameKind, FrameReader, encode
from ray_app.transport.server import OVERLOADED, TOO_LATE


class LinkLost(RayscoreError):
    """The connection ended, or could not be made; a call on it may or may not have been answered."""


class LinkRefused(RayscoreError):
    """The peer does not accept this side's hello; its text is the reason."""


class CallFailed(RayscoreError):
    """The replica answered that the call failed; its text is the replica's."""


class Link(asyncio.Protocol):
    """One open connection to one replica. Made by `open_link`; belongs to its event loop."""

    def __init__(self, hello: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._hello = hello
        self._reader = FrameReader()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection has ended."""
        self.suspect = False
        """True from a call that ran out of time until the peer is heard of again."""

    @property
    def usable(self) -> bool:
        """True while the connection is open and was welcomed."""
        return self.greeted.done() and not self.lost.done()

    @property
    def in_flight(self) -> int:
        """Calls waiting for their answer."""
        return len(self._pending)

    async def call(self, payload: bytes, timeout_s: float) -> bytes:
        """Return the answer to one call.

        Raises:
            LinkLost: the connection ended first.
            asyncio.TimeoutError: no answer in `timeout_s` seconds; a late one is dropped.
            Overloaded: the replica did not take the call.
            BadFrame: the payload is larger than a frame may be.
            CallFailed: the replica's handler raised.
        """
        if self._transport is None or self.lost.done():
            raise LinkLost("the connection has ended")
        call_id = self._next_id = (self._next_id + 1) & 0xFFFFFFFF
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
        """End the connection; calls under way are lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(encode(FrameKind.HELLO, 0, self._hello))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        error = LinkLost(f"the connection ended: {exc or 'closed by the replica'}")
        for future in (self.greeted, *self._pending.values()):
            if not future.done():
                future.set_exception(error)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.suspect = False
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except BadFrame:
            self.close()

    def _take(self, frame: Frame) -> None:
        if frame.kind == FrameKind.ANSWER or frame.kind == FrameKind.FAILED:
            self._settle(frame)
        elif frame.kind == FrameKind.WELCOME and not self.greeted.done():
            self.greeted.set_result(None)
        elif frame.kind == FrameKind.REFUSED and not self.greeted.done():
            self.greeted.set_exception(LinkRefused(frame.payload.decode(errors="replace")))
        else:
            self.close()

    def _settle(self, frame: Frame) -> None:
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
    """Connect, say hello, and return the welcomed link.

    Raises:
        LinkLost: no connection, or no welcome in `timeout_s` seconds.
        LinkRefused: the peer does not accept the hello.
    """
    loop = asyncio.get_running_loop()
    link: Link | None = None
    try:
        _, link = await asyncio.wait_for(loop.create_connection(lambda: Link(hello), host, port), timeout_s)
        await asyncio.wait_for(asyncio.shield(link.greeted), timeout_s)
    except BaseException as exc:
        if link is not None:
            link.close()
        if isinstance(exc, (OSError, asyncio.TimeoutError)):
            raise LinkLost(f"no link to {host}:{port}: {exc or 'no answer in time'}") from exc
        raise
    return link
