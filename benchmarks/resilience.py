"""Benchmark of resilience: load steps, overload, idle clients, killed replicas and autoscaling, measured by latency.

Each trial starts a service of its own and loads it at a fixed rate, whether or not answers come. Latencies count
from when a request was due. A trial takes one to two minutes.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, write_section
from benchmarks.servers.service import Bench
from benchmarks.workloads.fault_trials import TRIALS, Asked, Table
from data.cli.terminal import err, run_cli

_PACKAGES = ("ray", "onnxruntime", "numpy", "uvicorn")


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    asked = Asked(args.rate, args.slo_ms, args.idle, args.seconds)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.") as folder:
        bench = Bench(Path(folder), args.entities)
        for name in args.trials:
            err.print(f"{name} ...", markup=False)
            report = _report(name, TRIALS[name](bench, asked), args, argv)
            print(report + "\n", flush=True)
            if args.out:
                write_section(args.out, f"benchmarks.resilience.{name}", report)
    return 0


def _report(name: str, table: Table, args: argparse.Namespace, argv: Sequence[str]) -> str:
    return "\n\n".join(
        (
            f"## Resilience: {name}",
            table.text + f" Latencies in ms; *back* is the first whole second without a failure and with a p99 of at "
            f"most {args.slo_ms:g} ms.",
            machine.describe("benchmarks.resilience", argv, _PACKAGES),
            markdown_table(table.header, table.rows),
        )
    )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resilience", description=__doc__)
    parser.add_argument("--trials", type=_trials, default=list(TRIALS), help=f"of {','.join(TRIALS)}")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second (default: %(default)g)")
    parser.add_argument("--seconds", type=float, default=12.0, help="of load at a time (default: %(default)g)")
    parser.add_argument("--slo-ms", type=float, default=5.0, help="p99 to come back to (default: %(default)g)")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections (default: %(default)s)")
    parser.add_argument("--entities", type=int, default=20_000, help="rows in the online store")
    parser.add_argument("--out", type=Path, help="Markdown file to write sections into, e.g. docs/performance.md")
    return parser.parse_args(argv)


def _trials(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(TRIALS):
        raise argparse.ArgumentTypeError(f"no trial {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    return names


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
