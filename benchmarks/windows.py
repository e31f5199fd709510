"""Benchmark of window features over a table: the offline kernel beside DuckDB, the same 12 windows in one run.

Card transactions with their card, terminal, amount and label lie in memory: as arrays for the kernel, as an Arrow table
for DuckDB. Counts and means over 1, 7 and 30 days of the card with the row itself, and of the terminal with a week's
delay, as the fraud-detection handbook defines them. Each measurement is a process of its own; the two are interleaved.
With --spread, Ray's workers compute them over Parquet files, as `rayscore features` does it for large tables: from the
files to the rows with their windows, the start of the cluster included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.results import machine
from benchmarks.results.figures import markdown_table, short, spread, write_section
from benchmarks.workloads.spread_windows import spread_windows, use_case
from data.cli.terminal import err, run_cli
from data.errors import RayscoreError
from data.feature_views.kernel.event_arrays import Events, Moments, Values
from data.feature_views.kernel.windows import windows
from data.feature_views.spread.plan import PARTITION_ROWS
from data.schema.features.window_feature import Aggregate, WindowFeature

_PACKAGES = ("numpy", "duckdb", "pyarrow")
_DAY_US = 86_400_000_000
_DAYS, _DELAY_DAYS, _COVERED_DAYS = (1, 7, 30), 7, 183
_ROWS_PER_CARD, _ROWS_PER_TERMINAL = 235, 117
_SUM_TOLERANCE = 1e-9
_KERNEL, _SPREAD, _DUCKDB = "kernel", "Ray Data", "DuckDB"


class MeasurementFailed(RayscoreError):
    """A measured process failed, or the two did not compute the same."""


def main(argv: Sequence[str]) -> int:
    args = _arguments(argv)
    if args.measure:
        print(json.dumps(_measured(args.measure, args)))
        return 0
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in (_SPREAD if args.spread else _KERNEL, _DUCKDB)}
    for round_ in range(args.rounds):
        for name, found in samples.items():
            found.append(_process(name, args))
            figures = found[-1]
            shown = f"{figures['seconds']:.2f} s, {figures['peak MiB']:,.0f} MiB"
            err.print(f"round {round_ + 1}: {name}: {shown}", markup=False)
        _check_sums({name: found[-1] for name, found in samples.items()})
    report = _report(args, argv, samples)
    print(report)
    if args.out:
        write_section(args.out, "benchmarks.windows", report)
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.windows", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of the kernel, and of DuckDB")
    parser.add_argument("--spread", action="store_true", help="by Ray's workers in place of the kernel in memory")
    parser.add_argument("--partition-rows", type=int, default=PARTITION_ROWS, help="rows of a partition (--spread)")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is written")
    parser.add_argument("--measure", choices=(_KERNEL, _SPREAD, _DUCKDB), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _process(name: str, args: argparse.Namespace) -> dict[str, float]:
    options = ("--rows", str(args.rows), "--threads", str(args.threads), "--partition-rows", str(args.partition_rows))
    command = [sys.executable, "-m", "benchmarks.windows", "--measure", name, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementFailed(f"{name}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def _measured(name: str, args: argparse.Namespace) -> dict[str, float]:
    compute = _PLANS[name](_transactions(args.rows), args)
    started = time.perf_counter()
    found = compute()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak MiB": found.pop("worker MiB", peak), **found}


def _transactions(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "id": np.arange(rows),
        "t": np.sort(rng.integers(0, _COVERED_DAYS * 86_400, rows)) * 1_000_000,
        "card": rng.integers(0, max(rows // _ROWS_PER_CARD, 1), rows),
        "terminal": rng.integers(0, max(rows // _ROWS_PER_TERMINAL, 1), rows),
        "amount": rng.integers(100, 50_000, rows),
        "fraud": (rng.random(rows) < 0.01).astype(np.int64),
    }


def _kernel(table: Mapping[str, np.ndarray], args: argparse.Namespace) -> Callable[[], dict[str, float]]:
    pa.set_cpu_count(args.threads)
    present = np.zeros(len(table["t"]), bool)
    values = {"amount": Values(table["amount"], present, 2), "fraud": Values(table["fraud"], present)}
    entities = {name: table[name] for name in ("card", "terminal")}
    events, rows = Events(entities, table["t"], table["id"], values), Moments(entities, table["t"], table["id"])
    features = [feature for days in _DAYS for feature in _features(days)]
    return lambda: {name: float(np.nansum(each)) for name, each in windows(events, rows, features).items()}


def _features(days: int) -> list[WindowFeature]:
    window, delay = days * _DAY_US, _DELAY_DAYS * _DAY_US
    mean = Aggregate.MEAN
    return [
        WindowFeature(f"card_count_{days}", Aggregate.COUNT, window, 0, "s", "card", None, None, True),
        WindowFeature(f"card_mean_{days}", mean, window, 0, "s", "card", "amount", None, True),
        WindowFeature(f"terminal_count_{days}", Aggregate.COUNT, window, delay, "s", "terminal", None, None, False),
        WindowFeature(f"terminal_risk_{days}", mean, window, delay, "s", "terminal", "fraud", None, False),
    ]


def _spread(table: Mapping[str, np.ndarray], args: argparse.Namespace) -> Callable[[], dict[str, float]]:
    return spread_windows(table, use_case(_DAYS, _DELAY_DAYS), args.threads, args.partition_rows)


def _duckdb(table: Mapping[str, np.ndarray], args: argparse.Namespace) -> Callable[[], dict[str, float]]:
    # Whole numbers of cents and microseconds are what its windows take fastest.
    transactions = pa.table(dict(table))
    connection = duckdb.connect(config={"threads": args.threads})
    connection.register("transactions", transactions)
    expressions, frames = [], []
    for days in _DAYS:
        # The rows of the same instant count here whatever their key is: RANGE has no other way.
        near = f"RANGE BETWEEN {days * _DAY_US - 1} PRECEDING AND CURRENT ROW"
        late = f"RANGE BETWEEN {(days + _DELAY_DAYS) * _DAY_US - 1} PRECEDING AND {_DELAY_DAYS * _DAY_US} PRECEDING"
        frames += [f"c{days} AS (PARTITION BY card ORDER BY t {near})"]
        frames += [f"t{days} AS (PARTITION BY terminal ORDER BY t {late})"]
        expressions += [f"count(*) OVER c{days} AS card_count_{days}", f"avg(amount) OVER c{days} AS card_mean_{days}"]
        expressions += [f"count(*) OVER t{days} AS terminal_count_{days}"]
        expressions += [f"avg(fraud) OVER t{days} AS terminal_risk_{days}"]
    query = f"SELECT id, {', '.join(expressions)} FROM transactions WINDOW {', '.join(frames)}"

    def compute() -> dict[str, float]:
        found = connection.execute(query).to_arrow_table()
        return {name: float(np.nansum(found[name].to_numpy())) for name in found.column_names if name != "id"}

    return compute


_PLANS: dict[str, Callable[[Mapping[str, np.ndarray], argparse.Namespace], Callable[[], dict[str, float]]]] = {
    _KERNEL: _kernel,
    _SPREAD: _spread,
    _DUCKDB: _duckdb,
}


def _check_sums(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a comparison of different work: terminal windows, which no tie touches, have the same sums."""
    ours = next(name for name in figures if name != _DUCKDB)
    for name, value in figures[ours].items():
        if name.startswith("terminal") and abs(value - figures[_DUCKDB][name]) > abs(value) * _SUM_TOLERANCE:
            raise MeasurementFailed(f"{name}: ours add up to {value}, DuckDB's to {figures[_DUCKDB][name]}")


def _report(args: argparse.Namespace, argv: Sequence[str], samples: Mapping[str, list[dict[str, float]]]) -> str:
    seconds = {name: [figures["seconds"] for figures in found] for name, found in samples.items()}
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    lines = [
        [
            name,
            short(middle[name]),
            f"{100 * spread(seconds[name]):.0f} %",
            f"{args.rows / middle[name]:,.0f}",
            short(middle[_DUCKDB] / middle[name]),
            short(max(figures["peak MiB"] for figures in found)),
        ]
        for name, found in samples.items()
    ]
    header = ["12 windows", "s", "spread", "rows/s", "times DuckDB's speed", "peak MiB of a process"]
    title = f"## Window features over a table of {args.rows:,} rows"
    return "\n\n".join((title, machine.describe("benchmarks.windows", argv, _PACKAGES), markdown_table(header, lines)))


if __name__ == "__main__":
    sys.exit(run_cli(main, sys.argv[1:]))
