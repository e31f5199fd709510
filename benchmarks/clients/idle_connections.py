"""Idle HTTP clients, in a process of their own: connections stay open and send no further request.

`python -m benchmarks.clients.idle_connections HOST PORT COUNT` opens the connections, sends one request on
each, prints how many are open, and keeps them until its standard input ends; then it prints how many are still open.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import Sequence

# Fewer than a gateway takes at once, or some would be refused.
_AT_ONCE = 50
_TIMEOUT_S = 10.0
_REQUEST = b"GET /health HTTP/1.1\r\nhost: crowd\r\n\r\n"


def main(argv: Sequence[str]) -> int:
    host, port, count = argv[0], int(argv[1]), int(argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened = asyncio.run(_open_all(host, port, count))
    print(len(opened), flush=True)
    sys.stdin.read()
    print(sum(_is_open(connection) for connection in opened), flush=True)
    return 0


async def _open_all(host: str, port: int, count: int) -> list[socket.socket]:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one() -> socket.socket | None:
        async with room:
            try:
                return await asyncio.wait_for(_connect(host, port), _TIMEOUT_S)
            except (OSError, asyncio.TimeoutError):
                return None

    found = await asyncio.gather(*(one() for _ in range(count)))
    return [connection for connection in found if connection is not None]


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, (host, port))
    await loop.sock_sendall(connection, _REQUEST)
    if not (await loop.sock_recv(connection, 4096)).startswith(b"HTTP/1.1 200"):
        raise ConnectionError("not answered")
    return connection


def _is_open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
