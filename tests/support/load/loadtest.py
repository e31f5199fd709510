"""A small real HTTP server that behaves as a test needs: answers, refuses, keeps silent, closes or stalls."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray_app.loadtest.http_client.target import Target

ROW = {
    "properties": {
        "user_id": {"type": "string", "description": "Key of the online features"},
        "amount": {"type": "number"},
    },
    "required": ["user_id", "amount"],
    "example": {"user_id": "user_1", "amount": 1.5},
}
DOCUMENT: dict[str, Any] = {"components": {"schemas": {"Row": ROW}}}

Answer = Callable[[int, bytes], Awaitable[bytes]]
"""From a request's number and body to the bytes of its answer; none at all closes the connection."""


def answer(status: int = 200, body: bytes = b"{}") -> bytes:
    """One whole HTTP answer."""
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def always(content: bytes) -> Answer:
    """Answer every request with the same bytes."""

    async def give(number: int, body: bytes) -> bytes:
        return content

    return give


async def never(number: int, body: bytes) -> bytes:
    """Answer no request."""
    await asyncio.Event().wait()
    return b""


class _Server:
    """The server and the loop that it runs on, to be used by one thread."""

    def __init__(self, behave: Answer, document: dict[str, Any]) -> None:
        self._behave, self._document = behave, json.dumps(document).encode()
        self._count = iter(range(10**9))
        self.loop, self.ready = asyncio.new_event_loop(), threading.Event()
        self.port = 0

    def work(self) -> None:
        """Serve until the loop is stopped."""
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(self._start())
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        server.close()
        self.loop.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._connection, "127.0.0.1", 0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while given := await self._answer(await reader.readuntil(b"\r\n\r\n"), reader):
                writer.write(given)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        if head.startswith(b"GET"):
            return answer(200, self._document)
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return await self._behave(next(self._count), await reader.readexactly(length))


@contextmanager
def serving(behave: Answer, document: dict[str, Any] | None = None) -> Iterator[Target]:
    """Run the server in a thread until the block ends; GET is answered with the document."""
    server = _Server(behave, document or DOCUMENT)
    thread = threading.Thread(target=server.work)
    thread.start()
    server.ready.wait()
    try:
        yield Target("127.0.0.1", server.port)
    finally:
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join()


@contextmanager
def closing() -> Iterator[Target]:
    """Accept connections in a thread and close each at once, until the block ends."""

    def work() -> None:
        while not over.is_set():
            listener.accept()[0].close()

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield Target("127.0.0.1", port)
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
