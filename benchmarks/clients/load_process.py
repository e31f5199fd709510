"""HTTP load generator of the serving benchmark, in a process of its own, so that its CPU is not the servers'.

`python -m benchmarks.clients.load_process HOST PORT BODIES.json --connections 64` is a closed loop: N
connections, each sends when its answer has come.
With `--rate 300` it is open: requests leave on a fixed schedule, and latency counts from when each
was due. Prints the line `measuring` when warm-up ends and one JSON object when all ends. No client library: on a
small machine the generator's own cost would be most of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import cast

from benchmarks.clients.open_loop import MEASURING, Route, run_at_rate
from benchmarks.peers.dialects import DIALECTS
from benchmarks.results.figures import percentiles_ms
from ray_app.loadtest.http_client.event_loop import run_on_time
from ray_app.loadtest.http_client.http_response import parse

try:
    import uvloop
except ImportError:
    uvloop = None

_STUCK_S = 10.0


class LoadCounts:
    """Latencies, errors and statuses of all connections, recorded while `counting` is True."""

    def __init__(self) -> None:
        self.counting = False
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer; only those with status 200 have a latency."""
        if not self.counting:
            return
        if status == 200:
            self.latencies.append(seconds)
        else:
            self.errors[str(status)] += 1

    def failed(self, why: str) -> None:
        """Count a request without an answer."""
        if self.counting:
            self.errors[why] += 1


class Connection(asyncio.Protocol):
    """One persistent connection with one request at a time; replaced by another when the server closes it."""

    def __init__(self, address: tuple[str, int], requests: list[bytes], first: int, counts: LoadCounts) -> None:
        self._address = address
        self._opening: asyncio.Task[object] | None = None
        self._waiting = False
        self._requests = cycle(requests[first:] + requests[:first])
        self._counts = counts
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.sent_at = 0.0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        response = parse(self._received)
        if response is None:
            return
        self._counts.answered(response.status, time.perf_counter() - self.sent_at)
        self._received, self._waiting = b"", False
        if response.keep_alive:
            self._send()
        elif self._transport:
            # HAProxy says so when it reloads, which it does for each gateway that comes or goes.
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.stopped:
            return
        if self._waiting:
            self._counts.failed("connection lost")
        self._received, self._waiting = b"", False
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(loop.create_connection(lambda: self, *self._address))

    def stop(self) -> None:
        """Close the connection; a request that has waited for long counts as unanswered."""
        if self._waiting and time.perf_counter() - self.sent_at > _STUCK_S:
            self._counts.failed("unanswered")
        self.stopped = True
        if self._transport:
            self._transport.abort()

    def _send(self) -> None:
        if self._transport and not self.stopped:
            self.sent_at, self._waiting = time.perf_counter(), True
            self._transport.write(next(self._requests))


async def run(
    host: str, port: int, requests: list[bytes], connections: int, seconds: float, warm_up: float
) -> dict[str, object]:
    """Load the server and return the figures: percentiles in ms, answers/s, errors by status, own CPU seconds."""
    loop = asyncio.get_running_loop()
    counts = LoadCounts()
    step = max(len(requests) // connections, 1)
    opened = [Connection((host, port), requests, i * step % len(requests), counts) for i in range(connections)]
    for connection in opened:
        await loop.create_connection(lambda one=connection: one, host, port)
    await asyncio.sleep(warm_up)
    print(MEASURING, flush=True)
    started, cpu, counts.counting = time.perf_counter(), time.process_time(), True
    await asyncio.sleep(seconds)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    for connection in opened:
        connection.stop()
    counts.counting = False
    return {
        "figures": {**percentiles_ms(counts.latencies), "req/s": len(counts.latencies) / took},
        "answers": len(counts.latencies),
        "errors": dict(counts.errors),
        "cpu_s": cpu,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients.load_process", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=Path, help="JSON file: a list of requests, sent round and round")
    parser.add_argument("--dialect", choices=DIALECTS, default="plain", help="how the server wants to be asked")
    load = parser.add_mutually_exclusive_group(required=True)
    load.add_argument("--connections", type=int, help="closed loop over so many connections")
    load.add_argument("--rate", type=float, help="open loop at so many requests a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    args = parser.parse_args(argv)
    dialect = DIALECTS[args.dialect]
    bodies = [json.dumps(dialect.wrap(body)).encode() for body in json.loads(args.bodies.read_bytes())]
    target = Route(args.host, args.port, path=dialect.path)
    if args.rate:
        figures = run_on_time(run_at_rate(target, bodies, args.rate, args.seconds, args.warm_up))
    else:
        if uvloop is not None:
            uvloop.install()
        requests = [target.post(body) for body in bodies]
        figures = asyncio.run(run(args.host, args.port, requests, args.connections, args.seconds, args.warm_up))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
