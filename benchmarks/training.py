"""Benchmark of the final fit on a large table, against plain XGBoost and Ray Train's XGBoostTrainer.

Every fit is a process of its own, on the same encoded rows, in turns. What it needs of memory is the sum over all
of its processes, Ray's included, of the proportional set size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from benchmarks.servers.processes import descendants, pss_mib
from benchmarks.workloads import training_table
from data.cli.terminal import err, run_cli
from data.errors import RayscoreError
from tune.dataset.shards import shard_bytes

_PACKAGES = ("ray", "xgboost", "xgboost_ray", "pyarrow", "numpy")
_KINDS = {
    "alone": "XGBoost alone, rows in memory",
    "external": "XGBoost alone, external memory",
    "actors-1": "rayscore, 1 actor",
    "actors-2": "rayscore, 2 actors",
    "ray-train": "Ray Train's XGBoostTrainer",
}
_SAMPLE_S = 0.2
_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
"""Ray's workers give way to every other process unless told not to, which XGBoost alone does not."""
_TABLE_BYTES_A_ROW = 150
_BINS = 256
_BYTES_A_BIN = 16
_ACTORS = (1, 2, 4, 8, 16)
_LINK_BYTES_S = 1.25e9
_LINK_DELAY_S = 1e-4
_LEVELS = 7

Samples = dict[str, list[dict[str, float]]]


class RunFailed(RayscoreError):
    """A measured process failed."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.", dir=args.folder) as name:
        folder = Path(name)
        if shutil.disk_usage(folder).free < args.rows * _TABLE_BYTES_A_ROW * 2:
            raise RunFailed(f"{folder}: {args.rows * _TABLE_BYTES_A_ROW * 2 / 1e9:.0f} GB are needed; see --folder")
        table = training_table.write(folder / "table", args.rows)
        prepared = run(["benchmarks.workloads.training_fits", "prepare", str(table), str(folder / "shards")], folder)
        _say("streamed into shards", prepared)
        samples: Samples = {}
        for _ in range(args.repeat):
            for kind in args.kinds:
                fit = ["benchmarks.workloads.training_fits", kind, str(folder / "shards"), str(args.rounds)]
                samples.setdefault(kind, []).append(run(fit, folder))
                _say(_KINDS[kind], samples[kind][-1])
        whole = _whole(folder, table, args.trials) if args.trials else None
    report = _report(args, argv, prepared, samples, whole)
    print(report)
    if args.out:
        write_section(args.out, f"benchmarks.training {args.rows}", report)
    return 0


def run(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Run `python -m COMMAND` and return the figures that it prints, and its peak memory in MiB.

    Raises:
        RunFailed: the exit code was not 0.
    """
    environment = {**os.environ, **_ENVIRONMENT, "RAYSCORE_VAR_DIR": str(folder / "var")}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=said, stderr=errors)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, sum(pss_mib(descendants(process.pid, folder.name)).values()))
            time.sleep(_SAMPLE_S)
        took = time.perf_counter() - started
        said.seek(0)
        errors.seek(0)
        lines = said.read().decode().splitlines()
        if process.returncode:
            raise RunFailed(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-2000:].decode()}")
    figures = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {**figures, "command s": took, "peak MiB": peak}


def _whole(folder: Path, table: Path, trials: int) -> dict[str, float]:
    use_case = folder / "large.toml"
    use_case.write_text(training_table.USE_CASE)
    command = ["tune", "--data", str(table), "--use-case", str(use_case), "--trials", str(trials)]
    figures = run(command, folder)
    _say("the whole command", figures)
    return figures


def _say(title: str, figures: Mapping[str, float]) -> None:
    seconds = figures.get("seconds", figures["command s"])
    err.print(f"{title}: {seconds:.1f} s, {figures['peak MiB']:,.0f} MiB at most", markup=False)


def _report(
    args: argparse.Namespace,
    argv: Sequence[str],
    prepared: Mapping[str, float],
    samples: Samples,
    whole: Mapping[str, float] | None,
) -> str:
    rows = int(prepared["train rows"])
    encoded = shard_bytes(rows, training_table.FEATURES) / 2**20
    middle = {kind: medians(rounds) for kind, rounds in samples.items()}
    alone = middle["alone"]["seconds"] if "alone" in middle else float("nan")
    lines = []
    for kind, figures in middle.items():
        wobble = spread([each["seconds"] for each in samples[kind]])
        lines.append(
            [
                _KINDS[kind],
                short(figures["seconds"]),
                f"{wobble:.0%}",
                short(figures["seconds"] / alone),
                short(figures["seconds a round"] * 1000),
                short(figures["peak MiB"]),
                f"{figures['peak MiB'] / encoded:.1f}",
            ]
        )
    head = ["fit", "s", "spread", "of alone", "ms a round", "peak MiB", "of the rows"]
    parts = [
        f"### {args.rows:,} rows",
        f"{args.rows:,} rows, {training_table.FEATURES} features, {args.rounds} rounds of depth 6 on the "
        f"{rows:,} train rows ({encoded:,.0f} MiB as float32). *s* is the fit with the start of its "
        "processes, without that of Ray; *of alone* is that beside XGBoost alone; *peak* is the memory of all "
        "processes, Ray's own and its object store included, and *of the rows* how often the "
        "float32 rows would fit into it.",
        machine.describe("benchmarks.training", argv, _PACKAGES) + f"\n- medians of {args.repeat} rounds",
        markdown_table(head, lines),
        f"Streaming the table into shards took {short(prepared['seconds'])} s and {short(prepared['peak MiB'])} MiB.",
    ]
    if whole:
        parts.append(
            f"`rayscore tune` with {args.trials} trials, from the table to the registered model: "
            f"{short(whole['command s'])} s, {short(whole['peak MiB'])} MiB at most."
        )
    if {"actors-1", "actors-2"} <= set(middle):
        parts += _scaling(middle["actors-1"], middle["actors-2"])
    return "\n\n".join(parts)


def _scaling(one: Mapping[str, float], two: Mapping[str, float]) -> list[str]:
    """What is known of a round with one and two actors, and what follows from it for more."""
    reduced = two["histograms a round"] * training_table.FEATURES * _BINS * _BYTES_A_BIN
    rows = []
    for actors in _ACTORS:
        share = one["seconds a round"] / actors
        sent = 2 * (actors - 1) / actors * reduced / _LINK_BYTES_S
        waited = 2 * (actors - 1) * _LEVELS * _LINK_DELAY_S
        whole = share + sent + waited
        speed = one["seconds a round"] / whole
        rows.append([str(actors), *(short(s * 1000) for s in (share, sent, waited, whole)), f"{speed:.1f}"])
    return [
        f"A round of two actors with one thread each took {short(two['seconds a round'] * 1000)} ms, of one actor "
        f"with two threads {short(one['seconds a round'] * 1000)} ms. A round reduces "
        f"{two['histograms a round']:.1f} histograms of {training_table.FEATURES} features, {_BINS} bins and "
        f"{_BYTES_A_BIN} bytes: {reduced / 1e6:.2f} MB; {two['bytes a round'] / 1e6:.2f} MB went over the loopback "
        "interface. "
        "On paper, for actors of two cores each on machines of their own with 10 Gbit/s and 0.1 ms between them "
        "(ring all-reduce, one a level of the trees):",
        markdown_table(["actors", "boosting ms", "sending ms", "waiting ms", "round ms", "times faster"], rows),
    ]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=100, help="boosting rounds (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="times that each fit is measured (default %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=list(_KINDS), default=list(_KINDS), help="default: all")
    parser.add_argument("--trials", type=int, default=0, help="also run rayscore tune with so many trials")
    parser.add_argument("--folder", type=Path, help="where tables go while it runs (default: the temporary folder)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/training.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
