"""The servers that are compared: started as processes of their own, asked whether they are ready, and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks import processes
from benchmarks.workload import Workload
from data.errors import RayscoreError
from ray_app.environment import serve_environment

RAY_KINDS = ("graph", "fused")
KINDS = (*RAY_KINDS, "fastapi")
HOST = "127.0.0.1"
_MARK = "RAY_BENCHMARK_RUN"
_READY_S = 120.0
_END_S = 20.0
_PORTS = range(8710, 8790)
_REPLICA_PORTS = range(8800, 8900)


class ServerFailed(RayscoreError):
    """A server did not start, answered otherwise than the others, or failed under load."""


@dataclass
class Server:
    """A running server. `role` names the part of the server that a process is."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    role: Callable[[int], str]
    ready_s: float = 0.0

    @property
    def pids(self) -> set[int]:
        """All processes of the server."""
        return processes.descendants(self.process.pid, self.mark)

    def ask(self, bodies: list[dict[str, object]]) -> list[dict[str, object]]:
        """Post bodies one after the other; raises ServerFailed for any status but 200."""
        with httpx.Client(base_url=f"http://{HOST}:{self.port}", timeout=10) as client:
            replies = [client.post("/predict", json=body) for body in bodies]
        for reply in replies:
            if reply.status_code != 200:
                raise ServerFailed(f"{self.kind} answered {reply.status_code}: {reply.text[:500]}")
        return [reply.json() for reply in replies]


@contextmanager
def running(kind: str, workload: Workload) -> Iterator[Server]:
    """A ready server, ended with the block whatever happens in it.

    Raises:
        ServerFailed: it ended or was not ready in time; the text holds the end of its log.
    """
    server = _start(kind, workload)
    try:
        _wait_ready(server)
        yield server
    finally:
        _stop(server)


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, below those the kernel gives to outgoing connections."""
    found = []
    for port in _PORTS:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                found.append(port)
        if len(found) == count:
            return found
    raise ServerFailed(f"fewer than {count} free ports from {_PORTS.start} to {_PORTS.stop - 1}")


def _start(kind: str, workload: Workload) -> Server:
    (port, fallback_port, stats_port, metrics_port), mark = free_ports(4), uuid.uuid4().hex
    environment = {**os.environ, _MARK: mark}
    if kind in RAY_KINDS:
        command = ["benchmarks.ray_server", kind, str(workload.bundle)]
        environment = {
            **serve_environment(),
            **environment,
            "RAY_AUTH_MODE": "disabled",
            "RAYSCORE_VAR_DIR": str(workload.folder),
            "RAYSCORE_SQLITE_FILE": str(workload.store),
            "RAYSCORE_HTTP_PORT": str(port),
            # Fixed numbers otherwise. With another Serve on this machine HAProxy would not start, or would fall
            # back on the other's proxy while its own replicas start, and so answer with the other's model.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(_REPLICA_PORTS.start),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(_REPLICA_PORTS.stop),
        }
    else:
        command = ["benchmarks.peer_fastapi", str(workload.bundle), str(workload.store), "--port", str(port)]
    descriptor, log = tempfile.mkstemp(prefix=f"{kind}.", suffix=".log", dir=workload.folder)
    with os.fdopen(descriptor, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Its own session: Ctrl-C must reach the benchmark alone, which then ends the servers in order.
            start_new_session=True,
        )
    role = processes.ray_role if kind in RAY_KINDS else processes.only_role
    return Server(kind, port, process, mark, Path(log), role)


def _wait_ready(server: Server) -> None:
    started = time.monotonic()
    while time.monotonic() - started < _READY_S:
        if server.process.poll() is not None:
            raise ServerFailed(f"{server.kind} ended by itself:\n{_tail(server.log)}")
        try:
            if httpx.get(f"http://{HOST}:{server.port}/ready", timeout=2).status_code == 200:
                server.ready_s = time.monotonic() - started
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise ServerFailed(f"{server.kind} was not ready after {_READY_S:.0f} s:\n{_tail(server.log)}")


def _stop(server: Server) -> None:
    pids = server.pids
    assert server.process.stdin is not None
    server.process.stdin.close()
    if server.kind not in RAY_KINDS:
        server.process.terminate()
    try:
        server.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    processes.end(pids | processes.descendants(server.process.pid, server.mark), _END_S / 4)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
