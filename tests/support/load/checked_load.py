"""Load at a fixed rate whose every answer is checked: the version that it names must be the one whose score it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context

import numpy as np

from ray_app.loadtest.percentiles import percentiles

_CONNECTIONS = 32


@dataclass
class Checked:
    """What came back; `latency` in seconds from when a request was due."""

    latency: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    """By status, or by what broke."""
    versions: Counter[str] = field(default_factory=Counter)
    epochs: set[int] = field(default_factory=set)
    mixed: int = 0
    """Answers with a probability that is not the one of the version they name."""

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(self.failures.values())

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the latency, in ms."""
        return percentiles(np.array(self.latency))["p99"] * 1000


@dataclass(frozen=True)
class Asked:
    """What is sent: bodies round and round, and by version the probability that each body's answer must have.

    One that takes longer than `timeout_s` is a failure.
    """

    port: int
    bodies: Sequence[bytes]
    expected: Mapping[str, Sequence[float]]
    rps: float
    seconds: float
    timeout_s: float = 5.0


@contextmanager
def checking(asked: Asked) -> Iterator[Future[Checked]]:
    """Send from a process of its own while the block runs, and on until the seconds are over."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_ready).result()
        yield pool.submit(_send, asked)


def _ready() -> None:
    """Nothing: by its answer the process has started and imported."""


def _send(asked: Asked) -> Checked:
    return asyncio.run(_load(asked))


async def _load(asked: Asked) -> Checked:
    seen, queue = Checked(), asyncio.Queue[int]()
    started = time.perf_counter()
    clients = [asyncio.create_task(_client(asked, queue, seen, started)) for _ in range(_CONNECTIONS)]
    for number in range(int(asked.rps * asked.seconds)):
        await asyncio.sleep(max(started + number / asked.rps - time.perf_counter(), 0))
        queue.put_nowait(number)
    await queue.join()
    for client in clients:
        client.cancel()
    return seen


async def _client(asked: Asked, queue: asyncio.Queue[int], seen: Checked, started: float) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while True:
        number = await queue.get()
        at = number % len(asked.bodies)
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", asked.port)
            status, said, keep = await asyncio.wait_for(_ask(*streams, asked.bodies[at]), asked.timeout_s)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as exc:
            seen.failures[type(exc).__name__] += 1
            streams = None
        else:
            seen.latency.append(time.perf_counter() - started - number / asked.rps)
            if not keep:
                streams[1].close()
                streams = None
            _check(asked, at, status, said, seen)
        queue.task_done()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection is kept: HAProxy ends it when it makes place for its successor."""
    head = b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length), b"connection: close" not in lines


def _check(asked: Asked, at: int, status: int, said: bytes, seen: Checked) -> None:
    if status != 200:
        seen.failures[str(status)] += 1
        return
    answer = json.loads(said)
    version = answer["model"]["version"]
    seen.versions[version] += 1
    seen.epochs.add(answer["model"]["epoch"])
    if answer["probability"] != asked.expected[version][at]:
        seen.mixed += 1
