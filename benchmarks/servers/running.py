"""Starts a compared server as processes of its own, waits until it is ready, and stops it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.peers.given import Given
from benchmarks.servers import kinds, processes
from benchmarks.servers.kinds import Kind
from benchmarks.workloads.serving import Workload
from data.errors import RayscoreError
from ray_app.environment.ports import free_port

HOST = "127.0.0.1"
_MARK = "BENCHMARK_RUN"
_READY_S = 300.0
_END_S = 20.0
_LOG_LINES = 30


class ServerFailed(RayscoreError):
    """A server did not start, gave other answers than expected, or failed under load."""


@dataclass
class Server:
    """A running server."""

    kind: Kind
    port: int
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    ready_s: float = 0.0

    @property
    def role(self) -> Callable[[int], str]:
        """Function that names a process's part in the server."""
        return self.kind.role

    @property
    def pids(self) -> set[int]:
        """Process ids of the server."""
        return processes.descendants(self.process.pid, self.mark)

    @property
    def log_end(self) -> str:
        """The last lines of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def ask(self, bodies: list[dict[str, object]]) -> list[dict[str, Any]]:
        """Post requests one after the other; raises ServerFailed for any status but 200."""
        asked = self.kind.asked
        with httpx.Client(base_url=f"http://{HOST}:{self.port}", timeout=10, trust_env=False) as client:
            replies = [client.post(asked.path, json=asked.wrap(body)) for body in bodies]
        for reply in replies:
            if reply.status_code != 200:
                raise ServerFailed(f"{self.kind.name} answered {reply.status_code}: {reply.text[:500]}\n{self.log_end}")
        return [asked.unwrap(reply.json()) for reply in replies]


@contextmanager
def running(kind: Kind, workload: Workload, count: int, environments: Path) -> Iterator[Server]:
    """Run a server with `count` processes or replicas, ready, until the block ends.

    Raises:
        ServerFailed: it ended or was not ready in time; the message has the end of its log.
        NotInstalled: its environment is not in the folder `environments`.
    """
    server = _start(kind, workload, count, kind.python(environments))
    try:
        _wait_ready(server, workload)
        yield server
    finally:
        _stop(server)


def _start(kind: Kind, workload: Workload, count: int, python: str) -> Server:
    (port, *ports), mark = [free_port() for _ in range(4)], uuid.uuid4().hex
    told = Given(workload.bundle, workload.store, port, count)
    home = Path(tempfile.mkdtemp(prefix=f"{kind.name}.", dir=workload.folder))
    environment = kinds.environment(kind, told, workload.folder, ports, dict(os.environ))
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, *kind.command(told, ports)],
            env={**environment, _MARK: mark},
            # Some frameworks write files of their own into the folder where they start.
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Its own session: Ctrl-C must reach the benchmark alone, which then ends the servers in order.
            start_new_session=True,
        )
    return Server(kind, port, process, mark, log)


def _wait_ready(server: Server, workload: Workload) -> None:
    started, name = time.monotonic(), server.kind.name
    while time.monotonic() - started < _READY_S:
        if server.process.poll() is not None:
            raise ServerFailed(f"{name} ended by itself:\n{server.log_end}")
        if _is_ready(server, workload.checked[0]):
            server.ready_s = time.monotonic() - started
            return
        time.sleep(0.2)
    raise ServerFailed(f"{name} was not ready after {_READY_S:.0f} s:\n{server.log_end}")


def _is_ready(server: Server, request: dict[str, object]) -> bool:
    asked, url = server.kind.asked, f"http://{HOST}:{server.port}"
    with httpx.Client(base_url=url, timeout=2, trust_env=False) as client:
        try:
            reply = client.get(asked.ready) if asked.ready else client.post(asked.path, json=asked.wrap(request))
        except httpx.TransportError:
            return False
    return reply.status_code == 200


def _stop(server: Server) -> None:
    pids = server.pids
    assert server.process.stdin is not None
    server.process.stdin.close()
    if not server.kind.on_ray:
        server.process.terminate()
    try:
        server.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    processes.end(pids | processes.descendants(server.process.pid, server.mark), _END_S / 4)
