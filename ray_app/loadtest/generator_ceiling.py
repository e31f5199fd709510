"""The ceiling of the generator: the highest rate at which its requests leave on time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ray_app.loadtest.arrival_schedule import Profile, arrivals
from ray_app.loadtest.echo_server import echo_server
from ray_app.loadtest.generator import LoadPlan, generate
from ray_app.loadtest.http_client.event_loop import run_on_time
from ray_app.loadtest.samples import Samples
from ray_app.loadtest.summary import figures

ON_TIME_S = 0.001
_FIRST_RPS, _MAX_RPS = 1_000.0, 128_000.0
_KEPT = 0.98
_SECONDS, _WARMUP = 2.0, 0.3
_CLOSE_ENOUGH = 1.2


class Level(NamedTuple):
    """One rate that was tried; times in s."""

    rps: float
    achieved_rps: float
    lateness_p99: float
    latency_p99: float
    cpu_share: float
    kept: bool


def calibrate(body: bytes, connections: int, show: Callable[[Level], None]) -> float:
    """Try rates against an echo server, doubling, then halving the gap; the highest that was kept, 0 for none.

    A rate is kept when 98 % of it is achieved without an error and 99 % of its requests leave within 1 ms,
    in two of three tries.
    """
    kept, missed = 0.0, 0.0
    with echo_server() as target:
        plan = LoadPlan(target, [body], connections, timeout_s=5.0)
        while not missed or (kept and missed / kept > _CLOSE_ENOUGH):
            level = _tried(plan, (kept * missed) ** 0.5 if missed else kept * 2 or _FIRST_RPS, show)
            if level.kept:
                kept = level.rps
            else:
                missed = level.rps
            if kept >= _MAX_RPS:
                break
    return kept


def _tried(plan: LoadPlan, rps: float, show: Callable[[Level], None]) -> Level:
    """Two tries that agree, of three: another program's burst can spoil one."""
    first = _shown(plan, rps, show)
    second = _shown(plan, rps, show)
    return first if first.kept == second.kept else _shown(plan, rps, show)


def _shown(plan: LoadPlan, rps: float, show: Callable[[Level], None]) -> Level:
    level = _level(plan, rps)
    show(level)
    return level


def _level(plan: LoadPlan, rps: float) -> Level:
    samples = Samples(arrivals(Profile.CONSTANT, rps, _SECONDS, _WARMUP))
    run = run_on_time(generate(plan, samples, lambda *_: None))
    if run.interrupted:
        raise KeyboardInterrupt
    found = figures(run, _SECONDS)
    late = found.lateness["p99"]
    kept = found.achieved_rps >= _KEPT * rps and not found.errors and late < ON_TIME_S
    return Level(rps, found.achieved_rps, late, found.latency["p99"], found.cpu_share, kept)
