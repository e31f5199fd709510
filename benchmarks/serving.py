"""Latency, throughput, CPU and memory of the serving graph beside a hand-written FastAPI service.

One server runs at a time. Every round starts each of them anew, holds its answers against the expected
probabilities, and loads it with each number of connections; medians over the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import load, machine, processes
from benchmarks.figures import markdown_table, medians, short, spread, write_section
from benchmarks.servers import HOST, KINDS, Server, ServerFailed, running
from benchmarks.workload import Workload, prepare
from data.console import err, run_cli

_LATENCY = ("p50", "p95", "p99", "p99.9")
_OTHERS = "others"
_PACKAGES = ("ray", "onnxruntime", "numpy", "fastapi", "uvicorn", "uvloop", "httptools", "pydantic")
Samples = dict[tuple[str, int], list[dict[str, float]]]
"""Figures of every round by server and number of connections."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        workload = prepare(Path(folder), args.entities)
        samples: Samples = {}
        for round_ in range(args.rounds):
            for kind in args.servers:
                with running(kind, workload) as server:
                    _check_answers(server, workload)
                    for connections in args.connections:
                        figures = measure(server, workload, connections, args.seconds, args.warm_up)
                        samples.setdefault((kind, connections), []).append(figures)
                        _say(round_, kind, connections, figures)
    report = _report(args, argv, samples)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.serving", report)
    return 0


def measure(server: Server, workload: Workload, connections: int, seconds: float, warm_up: float) -> dict[str, float]:
    """Load a server once.

    Returns latencies in ms, answers per second, CPU ms per answer by role (`cpu ROLE`), memory in MiB by role
    (`mib ROLE`), processes by role (`n ROLE`) and the share of the machine that others used meanwhile.

    Raises:
        ServerFailed: an answer had another status than 200, or did not come.
    """
    command = [sys.executable, "-m", "benchmarks.load", HOST, str(server.port), str(workload.bodies)]
    command += ["--connections", str(connections), "--seconds", str(seconds), "--warm-up", str(warm_up)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != load.MEASURING:
            raise ServerFailed(f"no load on {server.kind}: the load generator ended with {process.wait()}")
        busy, before = processes.machine_busy_seconds(), processes.cpu_seconds(server.pids)
        reply = process.stdout.readline()
        after, busy = processes.cpu_seconds(server.pids), processes.machine_busy_seconds() - busy
    result = json.loads(reply)
    if result["errors"] or not result["answers"]:
        raise ServerFailed(f"{server.kind} failed under {connections} connections: {result['errors'] or 'no answer'}")
    used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
    others = max(busy - sum(used.values()) - result["cpu_s"], 0.0) / (seconds * len(os.sched_getaffinity(0)))
    figures = {**result["figures"], _OTHERS: others, "ready_s": server.ready_s}
    figures["cpu load"] = result["cpu_s"] * 1000 / result["answers"]
    for role, cpu_s in processes.by_role(used, server.role).items():
        figures[f"cpu {role}"] = cpu_s * 1000 / result["answers"]
    for role, mib in processes.by_role(processes.pss_mib(after), server.role).items():
        figures[f"mib {role}"] = mib
    for role, count in processes.by_role(dict.fromkeys(after, 1.0), server.role).items():
        figures[f"n {role}"] = count
    return figures


def _check_answers(server: Server, workload: Workload) -> None:
    answers = server.ask(workload.checked)
    wrong = [
        (answer["probability"], expected)
        for answer, expected in zip(answers, workload.expected, strict=True)
        if answer["probability"] != expected or not answer["entity_found"] or answer["degraded"]
    ]
    if wrong:
        raise ServerFailed(
            f"{server.kind}: {len(wrong)} of {len(answers)} answers differ from the expected, the first: {wrong[0]}"
        )


def _report(args: argparse.Namespace, argv: Sequence[str], samples: Samples) -> str:
    result = {key: medians(rounds) for key, rounds in samples.items()}
    others = [figures[_OTHERS] for rounds in samples.values() for figures in rounds]
    wobble = max(spread([figures["req/s"] for figures in rounds]) for rounds in samples.values())
    return "\n\n".join(
        (
            "## Serving",
            "Closed loop: each connection sends its next request when its answer has come. Every request reads one "
            f"of {args.entities:,} rows of a SQLite store, and every answer equals the expected probability bit for "
            "bit. Latencies in ms. *CPU* is CPU ms a request of what serves (replicas and HAProxy; all of the "
            "FastAPI service), *rest* that of the other processes of Ray, *load* that of the load generator. *x* "
            "columns are ratios to FastAPI.",
            "\n".join(
                (
                    machine.describe("benchmarks.serving", argv, _PACKAGES),
                    f"- {args.rounds} rounds of {args.seconds:g} s after {args.warm_up:g} s of warm-up, servers one "
                    "after the other in every round; no answer had an error",
                    f"- other programs used {min(others):.0%} to {max(others):.0%} of the machine meanwhile; "
                    f"req/s differed by up to {wobble:.0%} between the rounds",
                )
            ),
            _main_table(result),
            "By part, at the most connections: CPU ms a request, memory (PSS) in MiB, processes.",
            _parts_table(result),
        )
    )


def _main_table(result: dict[tuple[str, int], dict[str, float]]) -> str:
    header = ["server", "connections", *_LATENCY, "req/s", "CPU", "rest", "load", "p50 x", "req/s x", "CPU x"]
    rows = []
    for (kind, connections), figures in sorted(result.items(), key=lambda item: item[0][1]):
        peer = result.get(("fastapi", connections))
        served, rest = serving_cpu(figures), figures.get(f"cpu {processes.OTHER}", 0.0)
        shown = [*(figures[name] for name in (*_LATENCY, "req/s")), served, rest, figures["cpu load"]]
        ratios = (
            [figures["p50"] / peer["p50"], figures["req/s"] / peer["req/s"], served / serving_cpu(peer)]
            if peer
            else [float("nan")] * 3
        )
        rows.append([kind, str(connections), *map(short, shown), *map(short, ratios)])
    return markdown_table(header, rows)


def serving_cpu(figures: dict[str, float]) -> float:
    """CPU ms a request of the processes that a request passes through."""
    apart = (f"cpu {processes.OTHER}", "cpu load")
    return sum(value for name, value in figures.items() if name.startswith("cpu ") and name not in apart)


def _parts_table(result: dict[tuple[str, int], dict[str, float]]) -> str:
    most = max(connections for _, connections in result)
    rows = []
    for (kind, connections), figures in result.items():
        if connections != most:
            continue
        parts = [name.removeprefix("mib ") for name in figures if name.startswith("mib ")]
        for part in sorted(parts, key=lambda part: part == processes.OTHER):
            shown = (figures.get(f"cpu {part}", 0.0), figures[f"mib {part}"], figures[f"n {part}"])
            rows.append([f"{kind}: {part}", *map(short, shown)])
        rows.append([f"{kind}: ready after, s", short(figures["ready_s"]), "", ""])
    return markdown_table(["part", "CPU", "MiB", "processes"], rows)


def _say(round_: int, kind: str, connections: int, figures: dict[str, float]) -> None:
    err.print(
        f"round {round_ + 1}: {kind} at {connections}: p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms, "
        f"{figures['req/s']:,.0f} req/s, CPU {serving_cpu(figures):.3f} ms, others {figures[_OTHERS]:.0%}",
        markup=False,
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each load")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds of load before that")
    parser.add_argument("--connections", type=_numbers, default=[1, 64], help="e.g. 1,64")
    parser.add_argument("--servers", type=_kinds, default=list(KINDS), help=f"of {','.join(KINDS)}")
    parser.add_argument("--entities", type=int, default=20_000, help="rows in the online store")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/performance.md")
    return parser.parse_args(argv)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"no server {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return kinds


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
