"""The answering end of a link for tests, on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ray_app.transport.handshake import Handshake
from ray_app.transport.server import Handler, LinkServer

HELLO = Handshake(b"secret", "Model", "f1")
HOST = "127.0.0.1"


async def echo(payload: bytes) -> bytes:
    """Answer with the payload backwards."""
    return payload[::-1]


@asynccontextmanager
async def serving(handler: Handler = echo, **options) -> AsyncIterator[tuple]:
    """A link server and its port; it is closed with the block."""
    server = LinkServer(handler, HELLO, **options)
    port = await server.start(HOST)
    try:
        yield server, port
    finally:
        await server.close()


async def no_fallback(payload: bytes, timeout_s: float) -> bytes:
    """Fail the test: the call should have gone by a link."""
    raise AssertionError("the fallback was asked")
