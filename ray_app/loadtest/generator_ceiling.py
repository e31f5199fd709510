"""Calibration of the load generator: the highest rate at which its requests leave on time on this machine."""

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
    """Result of trying one rate; rates in requests/s, times in s, `kept` when the rate was reached on time."""

    rps: float
    achieved_rps: float
    lateness_p99: float
    latency_p99: float
    cpu_share: float
    kept: bool


def calibrate(body: bytes, connections: int, show: Callable[[Level], None]) -> float:
    """Find the highest rate that the generator keeps against an echo server, in requests/s; 0 when it keeps none.

    Rates double until one is missed, then a bisection narrows the gap to 20 %. A rate is kept when 98 % of it is
    achieved without an error and 99 % of its requests leave within 1 ms, in two of three tries.

    Args:
        body: request body to send.
        connections: most connections at once.
        show: called with the result of each try.

    Raises:
        Unreachable: the echo server did not start.
        KeyboardInterrupt: Ctrl-C during a try.
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
    """Result of two tries that agree, out of up to three: a burst of another program can spoil one."""
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
    summary = figures(run, _SECONDS)
    late = summary.lateness["p99"]
    kept = summary.achieved_rps >= _KEPT * rps and not summary.errors and late < ON_TIME_S
    return Level(rps, summary.achieved_rps, late, summary.latency["p99"], summary.cpu_share, kept)
