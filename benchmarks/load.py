"""Closed-loop HTTP load generator, a process of its own: N connections, each sends when its answer has come.

`python -m benchmarks.load HOST PORT BODIES.json --connections 64 --seconds 5` prints the line `measuring`
when warm-up ends and one JSON object when all ends. No pipelining, no client library: on a small machine the
generator's own cost would be most of what is measured.
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

from benchmarks.figures import percentiles_ms

try:
    import uvloop
except ImportError:
    uvloop = None

MEASURING = "measuring"
_STUCK_S = 2.0


class Tally:
    """What the connections saw while `counting`."""

    def __init__(self) -> None:
        self.counting = False
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()

    def answered(self, status: bytes, seconds: float) -> None:
        """Count one answer; only those with status 200 have a latency."""
        if not self.counting:
            return
        if status == b"200":
            self.latencies.append(seconds)
        else:
            self.errors[status.decode("latin-1")] += 1

    def failed(self, why: str) -> None:
        """Count a request without an answer."""
        if self.counting:
            self.errors[why] += 1


class Connection(asyncio.Protocol):
    """One persistent connection, one request at a time."""

    def __init__(self, requests: list[bytes], first: int, tally: Tally) -> None:
        self._requests = cycle(requests[first:] + requests[:first])
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._expected = 0
        self.sent_at = 0.0
        self.stopped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._expected:
            self._expected = _length(self._received)
        if not self._expected or len(self._received) < self._expected:
            return
        self._tally.answered(self._received[9:12], time.perf_counter() - self.sent_at)
        self._received, self._expected = b"", 0
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopped:
            self._tally.failed("connection lost")

    def stop(self) -> None:
        """Close; a request that has waited for long counts as unanswered."""
        if time.perf_counter() - self.sent_at > _STUCK_S:
            self._tally.failed("unanswered")
        self.stopped = True
        if self._transport:
            self._transport.abort()

    def _send(self) -> None:
        if self._transport and not self.stopped:
            self.sent_at = time.perf_counter()
            self._transport.write(next(self._requests))


def _length(received: bytes) -> int:
    """Length of head and body; 0 while the head is not whole."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return 0
    lines = received[:head].lower().split(b"\r\n")
    lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    if not lengths:
        raise RuntimeError(f"an answer without content-length: {received[:head]!r}")
    return head + 4 + lengths[0]


def post(path: str, host: str, body: object) -> bytes:
    """One whole HTTP/1.1 request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def run(
    host: str, port: int, requests: list[bytes], connections: int, seconds: float, warm_up: float
) -> dict[str, object]:
    """Load the server and return the figures: percentiles in ms, answers/s, errors by status, own CPU seconds."""
    loop = asyncio.get_running_loop()
    tally = Tally()
    step = max(len(requests) // connections, 1)
    opened = [Connection(requests, i * step % len(requests), tally) for i in range(connections)]
    for connection in opened:
        await loop.create_connection(lambda one=connection: one, host, port)
    await asyncio.sleep(warm_up)
    print(MEASURING, flush=True)
    started, cpu, tally.counting = time.perf_counter(), time.process_time(), True
    await asyncio.sleep(seconds)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    for connection in opened:
        connection.stop()
    tally.counting = False
    return {
        "figures": {**percentiles_ms(tally.latencies), "req/s": len(tally.latencies) / took},
        "answers": len(tally.latencies),
        "errors": dict(tally.errors),
        "cpu_s": cpu,
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=Path, help="JSON file: a list of bodies, sent round and round")
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    args = parser.parse_args(argv)
    requests = [post(args.path, args.host, body) for body in json.loads(args.bodies.read_bytes())]
    if uvloop is not None:
        uvloop.install()
    print(json.dumps(asyncio.run(run(args.host, args.port, requests, args.connections, args.seconds, args.warm_up))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
