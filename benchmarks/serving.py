"""Benchmark of serving: latency, throughput, CPU and memory beside other servers with the same model.

One server runs at a time. Every round starts each of them anew, holds its answers against the expected
probabilities, and puts it under closed loops (each connection sends when its answer has come) and open loops (requests
leave at a constant rate whatever the server does). Medians over the rounds are compared. Other frameworks run in
environments of their own: make them with `python -m benchmarks.peers install`. About 18 minutes with the defaults.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.clients.open_loop import MEASURING
from benchmarks.peers import environments
from benchmarks.peers.environments import NotInstalled
from benchmarks.results import comparison_plot, serving_report
from benchmarks.results.figures import write_section
from benchmarks.results.serving_report import LOST, OTHERS, SATURATED, Load, Outcome, serving_cpu
from benchmarks.servers import processes
from benchmarks.servers.kinds import KINDS, Kind
from benchmarks.servers.running import HOST, Server, ServerFailed, running
from benchmarks.workloads.serving import Workload, prepare
from data.cli.terminal import EXIT_ERROR, err, run_cli

_TOLERANCE = 1e-6
_MOST_LOST = 0.01


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    outcome = Outcome(args, argv)
    kinds = [kind for name in args.servers if _is_installed(kind := KINDS[name], args.environments, outcome)]
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        workload = prepare(Path(folder), args.entities)
        for round_ in range(args.rounds):
            for kind in [kind for kind in kinds if kind.name not in outcome.failed]:
                try:
                    _measure_all(kind, workload, outcome, round_)
                except ServerFailed as exc:
                    err.print(f"error: {exc}", markup=False, style="red")
                    outcome.failed[kind.name] = str(exc).splitlines()[0]
    _write(args, outcome)
    return EXIT_ERROR if outcome.failed else 0


def _measure_all(kind: Kind, workload: Workload, outcome: Outcome, round_: int) -> None:
    """One round of one server. Rates above one that it could not follow are not tried."""
    args = outcome.args
    loads = [*(Load(False, n) for n in args.connections), *(Load(True, rate) for rate in sorted(args.rates))]
    with running(kind, workload, args.processes, args.environments) as server:
        check_answers(server, workload)
        saturated = False
        for load in loads:
            figures = {SATURATED: 1.0}
            if not saturated:
                figures = measure(server, workload, load, args.seconds, args.warm_up)
                saturated = bool(figures[SATURATED])
                _say(round_, kind, load, figures)
            outcome.samples.setdefault((kind.name, load), []).append(figures)


def measure(server: Server, workload: Workload, load: Load, seconds: float, warm_up: float) -> dict[str, float]:
    """Load a server once and return its figures.

    Returns latencies in ms, answers per second, CPU ms per answer by role (`cpu ROLE`), memory in MiB by role
    (`mib ROLE`), processes by role (`n ROLE`), the share of the machine that others used meanwhile, and whether the
    server was saturated: more than 1 % of the requests of an open loop had no answer in time.

    Raises:
        ServerFailed: in a closed loop an answer had another status than 200, or did not come.
    """
    capacity, busy, used, result = _run_load(server, workload, load, seconds, warm_up)
    closed_errors = result["errors"] and not load.is_open
    if closed_errors or not (result["answers"] or load.is_open):
        why = result["errors"] or "no answer"
        raise ServerFailed(f"{server.kind.name} failed under {load}: {why}\n{server.log_end}")
    answers = max(result["answers"], 1)
    others = max(busy - sum(used.values()) - result["cpu_s"], 0.0) / capacity
    figures = {**result["figures"], OTHERS: others, "ready_s": server.ready_s}
    figures[SATURATED] = float(figures.get(LOST, 0.0) > _MOST_LOST)
    figures["cpu load"] = result["cpu_s"] * 1000 / answers
    for role, cpu_s in processes.by_role(used, server.role).items():
        figures[f"cpu {role}"] = cpu_s * 1000 / answers
    for role, mib in processes.by_role(processes.pss_mib(used), server.role).items():
        figures[f"mib {role}"] = mib
    for role, count in processes.by_role(dict.fromkeys(used, 1.0), server.role).items():
        figures[f"n {role}"] = count
    return figures


def _run_load(
    server: Server, workload: Workload, load: Load, seconds: float, warm_up: float
) -> tuple[float, float, dict[int, float], dict[str, Any]]:
    """CPU seconds there were, those the machine used, those of each process of the server, and the generator's reply.

    All of them until the last answer, which comes after the asked time when the server is behind.
    """
    command = [sys.executable, "-m", "benchmarks.clients.load_process", HOST, str(server.port), str(workload.bodies)]
    command += ["--rate" if load.is_open else "--connections", str(load.size), "--dialect", server.kind.dialect]
    command += ["--seconds", str(seconds), "--warm-up", str(warm_up)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != MEASURING:
            raise ServerFailed(f"no load on {server.kind.name}: the load generator ended with {process.wait()}")
        busy, before = processes.machine_busy_seconds(), processes.cpu_seconds(server.pids)
        started = time.perf_counter()
        reply = process.stdout.readline()
        capacity = (time.perf_counter() - started) * len(os.sched_getaffinity(0))
        after, busy = processes.cpu_seconds(server.pids), processes.machine_busy_seconds() - busy
    used = {pid: cpu_s - before.get(pid, 0.0) for pid, cpu_s in after.items()}
    return capacity, busy, used, json.loads(reply)


def check_answers(server: Server, workload: Workload) -> None:
    """Compare a server's answers with the expected probabilities; raises ServerFailed when they differ."""
    tolerance = 0.0 if server.kind.exact else _TOLERANCE
    answers = server.ask(workload.checked)
    wrong = [
        (answer["probability"], expected)
        for answer, expected in zip(answers, workload.expected, strict=True)
        if abs(answer["probability"] - expected) > tolerance or not answer["entity_found"] or answer["degraded"]
    ]
    if wrong:
        raise ServerFailed(
            f"{server.kind.name}: {len(wrong)} of {len(answers)} answers differ from the expected, "
            f"the first: {wrong[0]}\n{server.log_end}"
        )


def _is_installed(kind: Kind, folder: Path, outcome: Outcome) -> bool:
    try:
        kind.python(folder)
    except NotInstalled as exc:
        outcome.absent[kind.name] = str(exc)
        err.print(f"{kind.name} is left out: {exc}", markup=False, style="yellow")
        return False
    return True


def _write(args: argparse.Namespace, outcome: Outcome) -> None:
    if not outcome.samples:
        return
    apart = [name for name in args.servers if KINDS[name].apart and name not in outcome.absent]
    drawing = args.out.with_name(args.plot) if args.out else None
    text = serving_report.section(outcome, environments.versions(apart, args.environments), drawing)
    print(text)
    if drawing:
        comparison_plot.draw(drawing, outcome)
        write_section(args.out, serving_report.section_name(args.processes), text)


def _say(round_: int, kind: Kind, load: Load, figures: dict[str, float]) -> None:
    saturated = ", saturated" if figures[SATURATED] else ""
    err.print(
        f"round {round_ + 1}: {kind.name} at {load}: p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms, "
        f"{figures['req/s']:,.0f} req/s{saturated}, CPU {serving_cpu(figures):.3f} ms, others {figures[OTHERS]:.0%}",
        markup=False,
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each load")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds of load before that")
    parser.add_argument("--connections", type=_numbers, default=[1, 8, 64], help="closed loops, e.g. 1,64; none: ''")
    parser.add_argument("--rates", type=_numbers, default=[300, 600, 1200], help="open loops, requests/s; none: ''")
    parser.add_argument("--servers", type=_kinds, default=list(KINDS), help=f"of {','.join(KINDS)}")
    parser.add_argument("--processes", type=int, default=1, help="processes of each peer, replicas of each deployment")
    parser.add_argument("--entities", type=int, default=20_000, help="rows in the online store")
    parser.add_argument("--environments", type=Path, default=environments.FOLDER, help="folder of the peers'")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/performance.md")
    parser.add_argument("--plot", default="peers.svg", help="name of the picture, which goes beside that file")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"no server {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return kinds


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
