"""The load generator: sends every request when it is due, however slow the service answers."""

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
"""Called once a second with the s since the start of measuring, all samples, and the indices that ended since."""


@dataclass(frozen=True)
class LoadPlan:
    """Inputs of a run beside its schedule; `dashboard` is Ray's, for watching the number of replicas."""

    target: Target
    bodies: Sequence[bytes]
    connections: int
    timeout_s: float
    dashboard: Target | None = None


@dataclass
class Run:
    """Raw results of a run."""

    samples: Samples
    seconds: float = 0.0
    """Time from the start of measuring to the end of the last request, or to the interruption, in s."""
    cpu_share: float = 0.0
    """CPU time of the generator per s; 1 is one full core."""
    under_way: list[int] = field(default_factory=list)
    """Number of requests queued or waiting for their answer, sampled every 50 ms."""
    replicas: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """Samples of (s from the start of measuring, running replicas by deployment)."""
    interrupted: bool = False


async def generate(plan: LoadPlan, samples: Samples, tick: Tick) -> Run:
    """Send every request of `samples` when it is due, wait for the answers, and record both in `samples`.

    Ctrl-C ends the run early; `Run.interrupted` is then True, and requests without an answer stay PENDING.

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
    helpers = [loop.create_task(_progress(pool, samples, origin, tick)), loop.create_task(stopped.wait())]
    if plan.dashboard:
        helpers.append(loop.create_task(ReplicaWatch(plan.dashboard, run.replicas).follow(origin)))
    try:
        await asyncio.wait([work, helpers[1]], return_when=asyncio.FIRST_COMPLETED)
        run.interrupted = not work.done()
        if work.done():
            work.result()
        run.seconds, run.cpu_share = loop.time() - origin, cpu.share()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        sender.stop()
        for task in (work, *helpers):
            task.cancel()
        await asyncio.gather(work, *helpers, return_exceptions=True)
        await pool.close()
    return run


class _Sender:
    """Submits requests to the pool at their due times, by one timer at a time."""

    def __init__(self, pool: ConnectionPool, samples: Samples, origin: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool, self._lateness = pool, samples.lateness
        self._due = (samples.due + origin).tolist()
        self._next = 0
        self._timer = self._loop.call_at(self._due[0], self._tick)

    @property
    def done(self) -> bool:
        """True when all requests were submitted."""
        return self._next == len(self._due)

    def stop(self) -> None:
        """Submit no further request."""
        self._timer.cancel()

    def _tick(self) -> None:
        # At most a burst per turn of the event loop: a generator that is behind must still read answers in between.
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
    """CPU use of this process, counted from the start of measuring: warm-up is left out."""

    def __init__(self, origin: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = (self._loop.time(), time.process_time())
        self._loop.call_at(origin, self._begin)

    def share(self) -> float:
        """CPU s used per s of wall time."""
        began, used = self._begun
        return (time.process_time() - used) / max(self._loop.time() - began, 1e-9)

    def _begin(self) -> None:
        self._begun = (self._loop.time(), time.process_time())


async def _until_over(sender: _Sender, pool: ConnectionPool, run: Run, origin: float) -> None:
    """Return when every request has ended, which the pool's time limit guarantees."""
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
