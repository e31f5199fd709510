"""Benchmark of batch scoring, Parquet to Parquet, against plain ONNX Runtime on a float32 matrix, per core.

Four ways take turns in every round: ONNX Runtime in one process a core, ONNX Runtime with a thread a core, our
scoring of chunks in one process a core without Ray, and the command `rayscore score` on a running cluster.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, medians, short, spread, write_section
from benchmarks.servers import processes
from benchmarks.workloads.card_files import write_cards
from data.cli.terminal import err, run_cli
from data.distributed.pieces import each_block_here, parquet_pieces
from data.distributed.ray_cluster import cluster
from data.settings import Settings
from data.sources.parquet import open_source, read_table
from data.transform.encoding import Transform
from ray_app.__main__ import main as ray_app
from ray_app.batch.scoring import ScoringJob, plan, score_rows
from tests.support.training.models import train_bundle
from tests.support.training.scored_tables import scored_here
from tests.support.training.stored_cards import stored_cards
from tune.registry.bundle import INPUT_NAME, OUTPUT_NAME, Bundle

_PACKAGES = ("ray", "pyarrow", "numpy", "onnxruntime")
_RAW = "ONNX Runtime, a process a core"
_RAW_THREADS = "ONNX Runtime, a thread a core"
_PLAIN = "chunks, a process a core, no Ray"
_SCORE = "ray_app score"
_RAW_ROWS = 1_000_000
_TRAIN_ROWS = 500_000
_MARK = "BENCHMARK_OF"
"""Variable that Ray's processes inherit: by it they are found and their CPU time is counted."""
_HWM = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
Figures = dict[str, float]
Work = Callable[[int], int]
"""Scores something as worker number i and returns how many rows that were."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    os.environ[_MARK] = str(os.getpid())
    with tempfile.TemporaryDirectory(prefix="rayscore-benchmark.", dir=args.scratch) as name:
        folder = Path(name)
        source = args.data or write_cards(folder / "table", args.rows, 8)
        bundle = args.bundle or _trained(folder / "bundle", source, args.trees, args.depth)
        samples: dict[str, list[Figures]] = {}
        started = time.perf_counter()
        with cluster():
            start_s = time.perf_counter() - started
            _score(source, bundle, folder)
            for round_ in range(args.rounds):
                for title, measure in _ways(source, bundle, folder).items():
                    figures = measure()
                    samples.setdefault(title, []).append(figures)
                    err.print(f"round {round_ + 1}: {title}: {_said(figures)}", markup=False)
        report = _report(argv, source, bundle, samples, start_s)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.scoring", report)
    return 0


def _ways(source: Path, bundle: Path, folder: Path) -> dict[str, Callable[[], Figures]]:
    cores = len(os.sched_getaffinity(0))
    return {
        _RAW: partial(_side_by_side, cores, partial(_Raw, bundle, source, 1)),
        _RAW_THREADS: partial(_side_by_side, 1, partial(_Raw, bundle, source, cores)),
        _PLAIN: partial(_side_by_side, cores, partial(_Chunks, bundle, source, folder / "plain", cores)),
        _SCORE: partial(_score, source, bundle, folder),
    }


class _Raw:
    """A session with the options of serving, but for its threads, over a matrix that is there before the clock."""

    def __init__(self, bundle: Path, source: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = Bundle.load(bundle)
        self._session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
        table = read_table(source, model.manifest.schema_.names, _RAW_ROWS)
        self._matrix = Transform(model.manifest.schema_).matrix(table)
        self(0)

    def __call__(self, worker: int) -> int:
        self._session.run([OUTPUT_NAME], {INPUT_NAME: self._matrix})
        return len(self._matrix)


class _Chunks:
    """Every n-th chunk of the table, from Parquet to Parquet."""

    def __init__(self, bundle: Path, source: Path, folder: Path, workers: int) -> None:
        # What Ray sets in a worker that has one CPU.
        pa.set_cpu_count(1)
        folder.mkdir(exist_ok=True)
        self._workers = workers
        opened = open_source(source)
        self._job: ScoringJob = plan(Settings(), Bundle.load(bundle), "file", scored_here(opened, folder), folder)
        self._pieces = parquet_pieces(opened, self._job.columns)

    def __call__(self, worker: int) -> int:
        own = replace(self._pieces, pieces=self._pieces.pieces[worker :: self._workers])
        return sum(counts.rows for _, counts in each_block_here(own, partial(score_rows, job=self._job)))


def _side_by_side(workers: int, make: Callable[[], Work]) -> Figures:
    """Run the work in processes of their own, started together; rows/s are of all, a row's CPU is their mean."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers), context.Queue()
    started = [context.Process(target=_timed, args=(i, make, barrier, results)) for i in range(workers)]
    for process in started:
        process.start()
    found = np.array([results.get(timeout=600) for _ in started])
    for process in started:
        process.join()
    rows, wall, cpu = found[:, 0].sum(), found[:, 1].max(), found[:, 2].sum()
    return {"rows/s": rows / wall, "rows/cpu s": rows / cpu}


def _timed(worker: int, make: Callable[[], Work], barrier: Any, results: Any) -> None:
    work = make()
    barrier.wait()
    wall, cpu = time.perf_counter(), time.process_time()
    rows = work(worker)
    results.put((rows, time.perf_counter() - wall, time.process_time() - cpu))


def _score(source: Path, bundle: Path, folder: Path) -> Figures:
    """The command in this process, which holds the cluster: CPU is of this process and all of Ray's."""
    out = folder / "scores"
    rows = open_source(source).rows
    pids = processes.descendants(os.getpid(), f"{_MARK}={os.getpid()}")
    before, wall = processes.cpu_seconds(pids), time.perf_counter()
    ray_app(["score", "--bundle", str(bundle), str(source), str(out)])
    wall = time.perf_counter() - wall
    pids |= processes.descendants(os.getpid(), f"{_MARK}={os.getpid()}")
    used = {pid: seconds - before.get(pid, 0.0) for pid, seconds in processes.cpu_seconds(pids).items()}
    peaks = [_peak_mib(pid) for pid in pids if _is_worker(pid)]
    shutil.rmtree(out)
    return {"rows/s": rows / wall, "rows/cpu s": rows / sum(used.values()), "worker MiB": max(peaks, default=0.0)}


def _is_worker(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


def _peak_mib(pid: int) -> float:
    found = _HWM.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _trained(folder: Path, source: Path, trees: int, depth: int) -> Path:
    table, use_case = read_table(source, limit=_TRAIN_ROWS), stored_cards()
    bundle = train_bundle(table, use_case, trees, max_depth=depth, learning_rate=0.1)
    bundle.save(folder)
    return folder


def _said(figures: Figures) -> str:
    return ", ".join(f"{figure:,.0f} {name}" for name, figure in figures.items())


def _report(argv: Sequence[str], source: Path, bundle: Path, samples: dict[str, list[Figures]], start_s: float) -> str:
    result = {title: medians(rounds) for title, rounds in samples.items()}
    cores = len(os.sched_getaffinity(0))
    best = {name: max(result[raw][name] for raw in (_RAW, _RAW_THREADS)) for name in ("rows/s", "rows/cpu s")}
    rows = [
        [
            title,
            short(figures["rows/s"]),
            f"{spread([each['rows/s'] for each in samples[title]]):.0%}",
            short(figures["rows/cpu s"]),
            f"{spread([each['rows/cpu s'] for each in samples[title]]):.0%}",
            short(figures["rows/s"] / best["rows/s"]),
            short(figures["rows/cpu s"] / best["rows/cpu s"]),
        ]
        for title, figures in result.items()
    ]
    onnx = len(Bundle.load(bundle).onnx)
    return "\n\n".join(
        (
            "## Batch scoring",
            f"{open_source(source).rows:,} generated card transactions, from Parquet to Parquet, scored by a model of "
            f"{onnx / 1024:,.0f} KiB, beside ONNX Runtime on a matrix of {_RAW_ROWS:,} rows that is in memory before "
            f"the clock starts. *rows/s* is of all {cores} cores by the clock; *rows/CPU s* counts the CPU time of "
            "every process that takes part, Ray's own included, and is what a core does that nobody else uses. *x* "
            "columns are ratios to the better of the two ONNX Runtimes.",
            "\n".join(
                (
                    machine.describe("benchmarks.scoring", argv, _PACKAGES),
                    f"- medians of {len(samples[_SCORE])} rounds, the ways one after the other in every round, on a "
                    f"cluster that has scored the table once; starting it took {start_s:.1f} s",
                    f"- largest worker: {result[_SCORE]['worker MiB']:,.0f} MiB at its peak",
                )
            ),
            markdown_table(["way", "rows/s", "spread", "rows/CPU s", "spread", "rows/s x", "rows/CPU s x"], rows),
        )
    )


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows to generate (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trees", type=int, default=100, help="boosting rounds at most (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=6, help="depth of a tree (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="score this table of card transactions instead of a generated one")
    parser.add_argument("--bundle", type=Path, help="score with this bundle instead of one trained here")
    parser.add_argument("--scratch", type=Path, help="folder for the scratch files (default: the system's)")
    parser.add_argument("--out", type=Path, help="Markdown file to write the section into, e.g. docs/performance.md")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
