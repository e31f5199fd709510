"""Trials of the resilience benchmark: each starts a service, loads it, disturbs it and tabulates what happened."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.results.figures import short
from benchmarks.servers.replica_starts import phases, replace
from benchmarks.servers.service import Bench
from ray_app.loadtest.arrival_schedule import Profile
from ray_app.loadtest.percentiles import percentiles
from tests.support.load.paced_load import Outcome, Pace, paced, run_paced

HOST = "127.0.0.1"
_WAIT_S = 60.0
_POLL_S = 0.2
_STEP_SHARE = 1 / 3
_FIRST_RATE = 600.0
_CONNECTIONS = 2000
_ROWS = 50
_TARGET_BUSY = 0.25
_IDLE_AGAIN_S = 1.0
STAGES = ("Model", "FeatureFetch")
TWO = {f"RAYSCORE_{name}_MIN_REPLICAS": "2" for name in ("GATEWAY", "FEATURE", "MODEL")}

Row = list[str]


@dataclass(frozen=True)
class Asked:
    """Options of a trial: rate, service level objective, number of idle clients."""

    rps: float
    slo_ms: float
    idle: int
    seconds: float


@dataclass(frozen=True)
class Table:
    """Result of a trial: explanation, header and rows of a table."""

    text: str
    header: Row
    rows: list[Row]


def step(bench: Bench, asked: Asked) -> Table:
    """Trial: the rate jumps from a tenth to all of it."""
    seconds = 2 * asked.seconds
    pace = Pace(bench.bodies(), 2 * asked.rps, seconds, Profile.STEP)
    with bench.serving():
        outcome = run_paced(bench.port, pace)
    at = seconds * _STEP_SHARE
    row = [
        f"{pace.rps / 10:g} to {pace.rps:g}/s",
        short(outcome.p99_ms(until=at)),
        short(outcome.p99_ms(at, at + 1)),
        short(outcome.p99_ms(at + 1)),
        _seconds(outcome.back_after(at, asked.slo_ms)),
        str(outcome.failed),
    ]
    header = ["step", "p99 before", "p99 in the first second", "p99 after it", "back after s", "failed"]
    return Table("The rate is ten times higher from one moment to the next.", header, [row])


def kill(bench: Bench, asked: Asked) -> Table:
    """Trial: with two replicas of each deployment, one is killed, and the next one once it has been replaced."""
    rows = []
    pace = Pace(bench.bodies(), asked.rps, asked.seconds)
    with bench.serving(**TWO):
        for stage in ("Model", "Model", "FeatureFetch", "FeatureFetch", "Gateway", "Gateway"):
            rows.append(_killed(bench, stage, pace, asked.slo_ms))
            _until_whole(bench)
    header = ["killed", "p99 before", "p99 in the second after", "back after s", "under way", "failed", "replaced in s"]
    return Table(
        f"`kill -9` of one of two replicas at {asked.rps:g} requests/s. *Under way* are all requests without an answer "
        "at that moment, on either gateway; *replaced* is when two replicas take calls again.",
        header,
        rows,
    )


def idle(bench: Bench, asked: Asked) -> Table:
    """Trial: many connected clients send nothing."""
    pace = Pace(bench.bodies(), asked.rps, asked.seconds)
    rows = []
    with bench.serving():
        for _ in range(2):
            rows.append(["0", "0", *_latencies(run_paced(bench.port, pace))])
            with _crowd(bench, asked.idle) as (opened, left):
                outcome = run_paced(bench.port, pace)
                rows.append([f"{opened:,}", f"{left():,}", *_latencies(outcome)])
            # HAProxy takes the closes in.
            time.sleep(_IDLE_AGAIN_S)
    header = ["idle connections", "open at the end", "p50", "p99", "p99.9", "failed"]
    return Table(f"Idle clients beside {asked.rps:g} requests/s.", header, rows)


def overload(bench: Bench, asked: Asked) -> Table:
    """Trial: the load is five times what the service can answer."""
    rows = []
    with bench.serving():
        for count, bound_ms, first in ((1, asked.slo_ms, _FIRST_RATE), (_ROWS, 5 * asked.slo_ms, _FIRST_RATE / 10)):
            sent = bench.bodies(count)
            capacity = _capacity(bench, sent, bound_ms, first)
            for share in (0.1, 5.0):
                pace = Pace(sent, capacity * share, asked.seconds / 2, connections=_CONNECTIONS)
                rows.append([f"{count}", f"{capacity:,.0f}", f"{share:g} x", *_admitted(run_paced(bench.port, pace))])
                time.sleep(_IDLE_AGAIN_S)
    header = ["rows a request", "capacity/s", "asked", "sent/s", "answered/s", "p50", "p99", "refused/s"]
    header += ["refused p50", "refused p99", "other", "late p99"]
    return Table(
        "*Capacity* is the highest rate, doubled step by step, with a p99 within the objective (five times that for "
        f"requests of {_ROWS} rows) and nothing refused. Latencies of *answered* and *refused* (503) count from when a "
        "request left the generator; *late* is by how much it left late, because the service left the generator too "
        "little CPU on this machine.",
        header,
        rows,
    )


def scale(bench: Bench, asked: Asked) -> Table:
    """Trial: gateways get more load than one is meant for, so that they scale up, and then none."""
    variables = {
        "RAYSCORE_TARGET_BUSY": f"{_TARGET_BUSY:g}",
        "RAYSCORE_GATEWAY_MAX_REPLICAS": "3",
        "RAYSCORE_MODEL_MAX_REPLICAS": "1",
        "RAYSCORE_FEATURE_MAX_REPLICAS": "1",
        "RAYSCORE_DOWNSCALE_DELAY_S": "5",
    }
    pace = Pace(bench.bodies(), 4 * asked.rps, 4 * asked.seconds, Profile.SPIKE)
    with bench.serving(**variables), paced(bench.port, pace) as future:
        seen = list(_replicas(bench, "Gateway", future.done))
        outcome = future.result()
        calm = time.monotonic()
        seen += list(_replicas(bench, "Gateway", lambda: time.monotonic() > calm + 2 * asked.seconds))
    rows = []
    for at, count in _changes(seen):
        since = at - outcome.origin
        here = outcome.p99_ms(since, since + 1)
        rows.append([f"{since:.1f}", str(count), _rate(outcome, since), short(here)])
    rows.append(["in all", "", _failures(outcome), short(outcome.p99_ms())])
    return Table(
        f"{pace.rps / 10:g} requests/s, but {pace.rps:g}/s from 40 % to 60 % of {pace.seconds:g} s, then none, with "
        f"`RAYSCORE_TARGET_BUSY={_TARGET_BUSY:g}` so that a small machine shows it and `RAYSCORE_DOWNSCALE_DELAY_S=5`. "
        "One row for each change of the gateways, those that start or end included.",
        ["at s", "gateways", "requests/s", "p99"],
        rows,
    )


def start(bench: Bench, asked: Asked) -> Table:
    """Trial: a model replica is killed without load; how long until its replacement, and what takes the time."""
    with bench.serving(**TWO):
        found = [replace(bench) for _ in range(3)]
    alone = [phases(bench.bundle) for _ in range(3)]
    names = ("process started", "became the replica", "takes calls")
    rows = [[name, *(f"{seen[at]:.2f}" for seen in found)] for at, name in enumerate(names)]
    names = ("import ray", "import Serve's replica", "import ours", "", "load, check and warm up the model")
    parts = [[f"of which {name}", *(f"{seen[at]:.2f}" for seen in alone)] for at, name in enumerate(names) if name]
    text = "Seconds from `kill -9` of a model replica, three times; below, the same steps in a process by itself."
    return Table(
        f"{text} A process that started before the kill (negative) is one that Ray had in stock.",
        ["model replica", "first", "second", "third"],
        [*rows, *parts],
    )


TRIALS: dict[str, Callable[[Bench, Asked], Table]] = {
    "step": step,
    "overload": overload,
    "kill": kill,
    "idle": idle,
    "scale": scale,
    "start": start,
}


def _killed(bench: Bench, stage: str, pace: Pace, slo_ms: float) -> Row:
    with paced(bench.port, pace) as future:
        time.sleep(pace.seconds / 3)
        victim = bench.replicas(stage)[0]
        os.kill(victim, signal.SIGKILL)
        at = time.monotonic()
        back = _until_whole(bench, frozenset({victim})) - at
        outcome = future.result()
    at -= outcome.origin
    return [
        stage,
        short(outcome.p99_ms(until=at)),
        short(outcome.p99_ms(at, at + 1)),
        _seconds(outcome.back_after(at, slo_ms)),
        str(outcome.under_way(at)),
        str(outcome.failed),
        f"{back:.1f}",
    ]


def _until_whole(bench: Bench, without: frozenset[int] = frozenset()) -> float:
    """Wait until there are two replicas of each deployment again, and return when."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        there = [len(set(bench.replicas(stage)) - without) for stage in (*STAGES, "Gateway")]
        if there == [2, 2, 2] and all(bench.links().get(stage) == 2 for stage in STAGES):
            return time.monotonic()
        time.sleep(_POLL_S)
    raise TimeoutError(f"no new replica in {_WAIT_S:g} s")


def _latencies(outcome: Outcome) -> Row:
    found = percentiles(outcome.latency[outcome.good])
    return [*(short(found[name] * 1000) for name in ("p50", "p99", "p99.9")), str(outcome.failed)]


def _admitted(outcome: Outcome) -> Row:
    refused = outcome.outcome == 503
    took = outcome.latency - outcome.lateness
    seconds = max(float(outcome.due[-1]), float((outcome.due + outcome.latency).max()))
    good, bad = percentiles(took[outcome.good]), percentiles(took[refused])
    return [
        f"{len(outcome.due) / seconds:,.0f}",
        f"{outcome.good.sum() / seconds:,.0f}",
        short(good["p50"] * 1000),
        short(good["p99"] * 1000),
        f"{refused.sum() / seconds:,.0f}",
        short(bad["p50"] * 1000),
        short(bad["p99"] * 1000),
        str(outcome.failed - int(refused.sum())),
        short(percentiles(outcome.lateness)["p99"] * 1000),
    ]


def _capacity(bench: Bench, sent: Sequence[bytes], bound_ms: float, rate: float) -> float:
    """The highest rate, doubled step by step, that is answered whole and with a p99 within the objective."""
    held = 0.0
    while True:
        outcome = run_paced(bench.port, Pace(sent, rate, 2.0, connections=_CONNECTIONS, warm_up=1.0))
        if outcome.failed or outcome.p99_ms() > bound_ms:
            return held or rate
        held, rate = rate, rate * 2


@contextmanager
def _crowd(bench: Bench, count: int) -> Iterator[tuple[int, Callable[[], int]]]:
    """Idle connections: how many were opened, and what tells at the end how many still are, and closes them."""
    command = [sys.executable, "-m", "benchmarks.clients.idle_connections", HOST, str(bench.port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        opened = int(process.stdout.readline())
        yield opened, lambda: int(process.communicate()[0])


def _replicas(bench: Bench, stage: str, over: Callable[[], bool]) -> Iterator[tuple[float, int]]:
    while not over():
        yield time.monotonic(), len(bench.replicas(stage))
        time.sleep(_POLL_S)


def _changes(seen: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    before = [(0.0, -1), *seen]
    return [now for last, now in zip(before, seen, strict=False) if now[1] != last[1]]


def _rate(outcome: Outcome, since: float) -> str:
    return str(int(((outcome.due >= since) & (outcome.due < since + 1)).sum()))


def _failures(outcome: Outcome) -> str:
    refused = int((outcome.outcome == 503).sum())
    return f"{refused} refused, {outcome.failed - refused} failed"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.1f}"
