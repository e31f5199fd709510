"""Load at a fixed rate from a process of its own, while things are done to the server."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.generator import LoadPlan, generate
from ray_app.loadtest.http_client.event_loop import run_on_time
from ray_app.loadtest.http_client.target import Target
from ray_app.loadtest.percentiles import percentiles
from ray_app.loadtest.samples import Samples

_TIMEOUT_S = 5.0
_WINDOW_S = 1.0
_STEP_S = 0.1
WARM_UP_S = 3.0


@dataclass(frozen=True)
class Pace:
    """What is sent: bodies round and round at `rps`, or as the profile has it, after a warm-up."""

    bodies: Sequence[bytes]
    rps: float
    seconds: float
    profile: Profile = Profile.CONSTANT
    connections: int = 256
    warm_up: float = WARM_UP_S


@dataclass(frozen=True)
class Outcome:
    """What became of the requests; times in s from the start of measuring, which was at `origin` (time.monotonic)."""

    origin: float
    due: np.ndarray
    lateness: np.ndarray
    latency: np.ndarray
    outcome: np.ndarray
    cpu_share: float

    @property
    def good(self) -> np.ndarray:
        """True for each request answered with 2xx."""
        return self.outcome // 100 == 2

    @property
    def failed(self) -> int:
        """Requests that were not answered with 2xx."""
        return int((~self.good).sum())

    def p99_ms(self, since: float = 0.0, until: float = float("inf")) -> float:
        """The 99th percentile of the 2xx answers to requests that were due in this time, in ms."""
        chosen = self.good & (self.due >= since) & (self.due < until)
        return percentiles(self.latency[chosen])["p99"] * 1000

    def back_after(self, at: float, bound_ms: float) -> float:
        """Seconds from `at` to the first whole second with a p99 within the bound and no failure; infinite if none."""
        last = float(self.due[-1]) - _WINDOW_S
        for start in np.arange(at, last, _STEP_S):
            here = (self.due >= start) & (self.due < start + _WINDOW_S)
            whole = here.any() and self.good[here].all()
            if whole and percentiles(self.latency[here])["p99"] * 1000 <= bound_ms:
                return float(start - at)
        return float("inf")

    def under_way(self, at: float) -> int:
        """Requests that had been sent and not been answered at a time."""
        return int(((self.due + self.lateness <= at) & (self.due + self.latency > at)).sum())


@contextmanager
def paced(port: int, pace: Pace) -> Iterator[Future[Outcome]]:
    """Send while the block runs, and on until the schedule is over; the outcome is the future's.

    The block is entered when measuring has begun, or a moment before.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(_ready).result()
        future = pool.submit(_send, port, pace)
        time.sleep(pace.warm_up)
        yield future


def run_paced(port: int, pace: Pace) -> Outcome:
    """Send the whole schedule with nothing done meanwhile."""
    with paced(port, pace) as future:
        return future.result()


def _ready() -> None:
    """Nothing: by its answer the process has started and imported."""


def _send(port: int, pace: Pace) -> Outcome:
    samples = Samples(arrivals(pace.profile, pace.rps, pace.seconds, pace.warm_up))
    origin: list[float] = []

    def tick(now: float, samples: Samples, ended: Sequence[int]) -> None:
        if not origin:
            origin.append(time.monotonic() - now)

    run = run_on_time(
        generate(LoadPlan(Target("127.0.0.1", port), pace.bodies, pace.connections, _TIMEOUT_S), samples, tick)
    )
    if run.interrupted:
        raise KeyboardInterrupt
    seen = samples.measured()
    return Outcome(origin[0], seen.due, seen.lateness, seen.latency, seen.outcome, run.cpu_share)
