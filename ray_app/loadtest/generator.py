"""One run of a load test: requests leave when they are due, whatever the service does."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ray_app.loadtest.http_client.connection_pool import ConnectionPool
from ray_app.loadtest.http_client.target import Target
from ray_app.loadtest.replica_watch import ReplicaWatch
from ray_app.loadtest.samples import Samples

_LEAD_S = 0.1
_BURST = 32
_SWEEP_S = 0.05
_SECOND = 1.0

Tick = Callable[[float, Samples, Sequence[int]], None]
"""Shown once a second: time in s from the start of measuring, the samples, the requests that ended since."""


@dataclass(frozen=True)
class LoadPlan:
    """What a run needs beside its schedule."""

    target: Target
    bodies: Sequence[bytes]
    connections: int
    timeout_s: float
    dashboard: Target | None = None


@dataclass
class Run:
    """What a run has left."""

    samples: Samples
    seconds: float = 0.0
    """From the start of measuring to the end of the last request, or to the interruption."""
    cpu_share: float = 0.0
    """Share of one CPU that the generator used."""
    under_way: list[int] = field(default_factory=list)
    """Requests under way, looked at every 50 ms."""
    replicas: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """Running replicas by deployment, with the time in s from the start of measuring."""
    interrupted: bool = False


async def generate(plan: LoadPlan, samples: Samples, tick: Tick) -> Run:
    """Send every request of the samples when it is due and wait for the answers; Ctrl-C ends it early.

    Raises:
        Unreachable: the target's name is not known.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    origin = loop.time() + _LEAD_S - min(float(samples.due[0]), 0.0)
    pool = ConnectionPool(plan.target, plan.bodies, samples, origin, plan.connections, plan.timeout_s)
    run = Run(samples)
    samples.limit_s = plan.timeout_s
    sender = _Sender(pool, samples, origin)
    cpu = _Cpu(origin)
    work = loop.create_task(_until_over(sender, pool, run, origin))
    beside = [loop.create_task(_progress(pool, samples, origin, tick)), loop.create_task(stopped.wait())]
    if plan.dashboard:
        beside.append(loop.create_task(ReplicaWatch(plan.dashboard, run.replicas).follow(origin)))
    try:
        await asyncio.wait([work, beside[1]], return_when=asyncio.FIRST_COMPLETED)
        run.interrupted = not work.done()
        if work.done():
            work.result()
        run.seconds, run.cpu_share = loop.time() - origin, cpu.share()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        sender.stop()
        for task in (work, *beside):
            task.cancel()
        await asyncio.gather(work, *beside, return_exceptions=True)
        await pool.close()
    return run


class _Sender:
    """Hands requests to the pool at their times."""

    def __init__(self, pool: ConnectionPool, samples: Samples, origin: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool, self._lateness = pool, samples.lateness
        self._due = (samples.due + origin).tolist()
        self._next = 0
        self._timer = self._loop.call_at(self._due[0], self._tick)

    @property
    def done(self) -> bool:
        """True when the last request has left."""
        return self._next == len(self._due)

    def stop(self) -> None:
        """Send no more."""
        self._timer.cancel()

    def _tick(self) -> None:
        # Bounded, so that answers are read in between when the generator is behind.
        for _ in range(_BURST):
            late = self._loop.time() - self._due[self._next]
            if late < 0:
                break
            self._lateness[self._next] = late
            self._pool.submit(self._next)
            self._next += 1
            if self.done:
                return
        self._timer = self._loop.call_at(self._due[self._next], self._tick)


class _Cpu:
    """CPU use of this process from the start of measuring on."""

    def __init__(self, origin: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = (self._loop.time(), time.process_time())
        self._loop.call_at(origin, self._begin)

    def share(self) -> float:
        """CPU seconds a second."""
        began, used = self._begun
        return (time.process_time() - used) / max(self._loop.time() - began, 1e-9)

    def _begin(self) -> None:
        self._begun = (self._loop.time(), time.process_time())


async def _until_over(sender: _Sender, pool: ConnectionPool, run: Run, origin: float) -> None:
    """Return when the last request is over; the pool's time limit bounds that."""
    loop = asyncio.get_running_loop()
    while not sender.done or pool.under_way:
        await asyncio.sleep(_SWEEP_S)
        pool.expire()
        if loop.time() >= origin:
            run.under_way.append(pool.under_way)


async def _progress(pool: ConnectionPool, samples: Samples, origin: float, tick: Tick) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SECOND)
        ended, pool.finished = pool.finished, []
        tick(loop.time() - origin, samples, ended)
