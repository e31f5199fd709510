"""Benchmark of the prediction log: latency of the graph with every answer logged beside the graph without a log.

Both run at once, so that a load on the one is followed by the same load on the other, in turn the one and the other
first; one idles meanwhile. They are started anew a few times, because two processes that do the same differ by where
they lie in memory. A ratio is the median of those of neighbouring measurements; the aim is that no caller waits more
than 3 % longer. About 15 minutes with the defaults.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks.peers.environments import FOLDER
from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, short, write_section
from benchmarks.results.serving_report import OTHERS, SATURATED, Load, serving_cpu
from benchmarks.servers.kinds import GRAPH, KINDS
from benchmarks.servers.running import Server, ServerFailed, running
from benchmarks.serving import check_answers, measure
from benchmarks.workloads.serving import Workload, prepare
from data.cli.terminal import err, run_cli
from data.prediction_log.files import read_log

OFF, ON = "off", "on"
_KINDS = {OFF: KINDS[GRAPH], ON: replace(KINDS[GRAPH], variables={"RAYSCORE_PREDICTION_LOG_SHARE": "1"})}
_CROWD = 64
_LOADS = (Load(False, 1), Load(True, 300), Load(True, 600), Load(False, _CROWD))
_PACKAGES = ("ray", "onnxruntime", "pyarrow", "numpy")
_AIM = 1.03
Samples = dict[tuple[str, Load], list[dict[str, float]]]


class Logged(NamedTuple):
    """Number of rows in the log, and of those missing, by the gaps in their sequence numbers."""

    rows: int
    missing: int


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    # Ended by SIGTERM, it ends the service that it has started, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    samples: Samples = {}
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        workload = prepare(Path(folder), args.entities)
        for start in range(args.starts):
            with ExitStack() as stack:
                servers = {
                    name: stack.enter_context(running(kind, workload, 1, FOLDER)) for name, kind in _KINDS.items()
                }
                for server in servers.values():
                    check_answers(server, workload)
                for number in range(args.rounds):
                    for load in _LOADS:
                        for name in (OFF, ON) if (start + number) % 2 == 0 else (ON, OFF):
                            _measure(name, servers[name], workload, load, args, samples)
        logged = count_logged(Path(folder) / "predictions")
    text = report(args, argv, samples, logged)
    print(text, flush=True)
    if args.out:
        write_section(args.out, "benchmarks.prediction_log", text)
    return 0


def _measure(
    name: str, server: Server, workload: Workload, load: Load, args: argparse.Namespace, samples: Samples
) -> None:
    figures = measure(server, workload, load, args.seconds, args.warm_up)
    samples.setdefault((name, load), []).append({**figures, "CPU": serving_cpu(figures)})
    err.print(
        f"log {name} at {load}: p50 {figures['p50']:.3f} ms, p99 {figures['p99']:.2f} ms, "
        f"{figures['req/s']:,.0f} req/s, CPU {serving_cpu(figures):.3f} ms, others {figures[OTHERS]:.0%}",
        markup=False,
    )


def count_logged(folder: Path) -> Logged:
    """Count logged and missing rows over all gateways; raises ServerFailed when the log is empty."""
    newest: dict[str, int] = {}
    rows = 0
    for table in (file.table for file in read_log(folder) if file.table.num_rows):
        rows += table.num_rows
        replica = table.column("replica")[0].as_py()
        newest[replica] = max(newest.get(replica, 0), *table.column("sequence").to_pylist())
    if not rows:
        raise ServerFailed(f"{folder}: nothing was logged, so nothing was compared")
    return Logged(rows, sum(newest.values()) - rows)


def report(args: argparse.Namespace, argv: Sequence[str], samples: Samples, logged: Logged) -> str:
    """Render the section of `docs/performance.md`."""
    rows, worst = [], 0.0
    for load in _LOADS:
        off, on = samples[OFF, load], samples[ON, load]
        for figure, unit in (("p50", "ms"), ("p99", "ms"), ("req/s", ""), ("CPU", "ms")):
            ratios = sorted(with_log[figure] / without[figure] for without, with_log in zip(off, on, strict=True))
            low, ratio, high = np.quantile(ratios, (0.25, 0.5, 0.75))
            values = (short(median(each[figure] for each in found)) for found in (off, on))
            rows.append([str(load), f"{figure} {unit}".strip(), *values, f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"])
            # At 64 connections latency is throughput by another name.
            worst = max(worst, ratio) if figure == "p50" and load.size != _CROWD else worst
    others = max(round_[OTHERS] for rounds in samples.values() for round_ in rounds)
    saturated = sum(round_[SATURATED] for rounds in samples.values() for round_ in rounds)
    text = (
        f"Every answer logged (share 1.0) against no log: both services at once, started {args.starts} times, "
        f"{args.rounds} rounds of {args.seconds:g} s a load each, in turn the one and the other first. A number of "
        "connections is a closed loop, a rate an open one. *CPU*: of what serves, the log's writer included, ms a "
        "request. *Ratio*: median of those of neighbouring measurements, then their quartiles. Highest ratio of a p50 "
        f"at one connection or a fixed rate: {worst:.3f}; the aim is at most {_AIM:g}. Other programs, the idle "
        f"service among them, used up to {others:.0%} of the machine, {saturated:.0f} loads were saturated. "
        f"{logged.rows:,} rows were logged, {logged.missing:,} are missing."
    )
    return "\n\n".join(
        (
            "## The prediction log",
            text,
            machine.describe("benchmarks.prediction_log", argv, _PACKAGES),
            markdown_table(["load", "figure", "log off", "log on", "ratio", "quartiles"], rows),
        )
    )


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction_log", description=__doc__)
    parser.add_argument("--starts", type=int, default=3, help="times that both are started (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="rounds after each start (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each load (default: %(default)g)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds of load before that (default: %(default)g)")
    parser.add_argument("--entities", type=int, default=20_000, help="rows in the online store (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown file to write a section into")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
