"""A minimal HTTP server, so cheap that the load generator is the limit when its own ceiling is measured."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from data.distributed.child_process import start_child
from ray_app.loadtest.http_client.target import Target, Unreachable

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_STOP_TIMEOUT_S = 5.0


class _Echo(asyncio.Protocol):
    """Answers `{}` to each piece of data received: the generator's requests are small enough to arrive as one piece."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


@contextmanager
def echo_server() -> Iterator[Target]:
    """Run the server in a process of its own, which shares no interpreter lock with the generator; yields its address.

    Raises:
        Unreachable: the process did not start.
    """
    with start_child("ray_app.loadtest.echo_server") as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else b""
            if not port:
                raise Unreachable("the echo server of the calibration did not start; its message is above")
            yield Target("127.0.0.1", int(port))
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_S)


def serve() -> None:
    """Serve on a free port, which is printed, until the parent is gone."""
    asyncio.run(_serve())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Echo, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # The parent holds the other end of stdin: it is closed when the parent ends, even by SIGKILL, and ends the server.
    await loop.run_in_executor(None, sys.stdin.read)
