"""The gateways of a running service one by one, past HAProxy: their ports, and one connection to one of them."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clients.open_loop import Route
from benchmarks.servers.kinds import REPLICA_PORTS
from benchmarks.servers.running import HOST, Server, ServerFailed
from ray_app.loadtest.http_client.http_response import parse

_ROLE = "Gateway"
_TIMEOUT_S = 10.0
_SECOND_S = 60.0
_LISTENS = "0A"


class Connection:
    """One connection to a server that asks one request at a time."""

    def __init__(self, port: int) -> None:
        self._route = Route(HOST, port, path="/predict?detail=1")
        self._socket = socket.create_connection((HOST, port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Post one row to /predict and return the answer with its details; raises ServerFailed for any but 200."""
        self._socket.sendall(self._route.post(json.dumps(body).encode()))
        received = b""
        while (response := parse(received, closed=False)) is None:
            part = self._socket.recv(65_536)
            if not part:
                raise ServerFailed("a gateway closed the connection")
            received += part
        text = received[response.start : response.end]
        if response.status != 200:
            raise ServerFailed(f"a gateway answered {response.status}: {text[:500]!r}")
        return json.loads(text)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


@contextmanager
def connected(server: Server, count: int = 2) -> Iterator[list[Connection]]:
    """Open so many connections to a service's gateways, in turn to the one and the other.

    Raises:
        ServerFailed: it has not two gateways.
    """
    # Ready means that one gateway answers; the other may still be on its way.
    deadline = time.monotonic() + _SECOND_S
    while len(ports := _gateway_ports(server)) != 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    if len(ports) != 2:
        raise ServerFailed(f"expected two gateways, each on a port of its own; found {ports}\n{server.log_end}")
    with ExitStack() as stack:
        opened = [Connection(ports[number % 2]) for number in range(count)]
        for each in opened:
            stack.callback(each.close)
        yield opened


def _gateway_ports(server: Server) -> list[int]:
    return [port for pid in sorted(server.pids) if server.role(pid) == _ROLE for port in _ports(pid)]


def _ports(pid: int) -> list[int]:
    """The ports of replicas that a process listens on."""
    sockets = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    own = [line for line in lines if line[3] == _LISTENS and f"socket:[{line[9]}]" in sockets]
    ports = {int(line[1].rpartition(":")[2], 16) for line in own}
    return sorted(ports & set(REPLICA_PORTS))
