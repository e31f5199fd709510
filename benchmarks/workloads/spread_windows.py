"""Window features of a table of files, spread over Ray's workers: the table, the run, and the peak of a worker."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.servers import processes
from data.distributed.ray_cluster import cluster
from data.distributed.ray_data import each_block
from data.feature_views.events.event_tables import EventFiles
from data.feature_views.spread.pipeline import SpreadTableInTime
from data.feature_views.spread.plan import SpreadPlan
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.sources.locked_folder import scratch_folder
from data.sources.parquet import ParquetSource, open_source

_ROWS_PER_FILE = 1_000_000
_MARK = "BENCHMARK_OF"
"""Variable that Ray's processes inherit, by which they are found."""
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_HEAD = """
name = "transactions"
label = "label"
key = "id"
event_time = "t"
[events.s]
entities = [{ name = "card", type = "integer" }, { name = "terminal", type = "integer" }]
values = { amount = { decimals = 2 }, fraud = { type = "integer" } }
[features]
"""
_WINDOWS = """
card_count_{d} = {{ aggregate = "count", window = "{d}d", by = "card", with_current = true }}
card_mean_{d} = {{ aggregate = "mean", of = "amount", window = "{d}d", by = "card", with_current = true }}
terminal_count_{d} = {{ aggregate = "count", window = "{d}d", by = "terminal", delay = "{delay}d" }}
terminal_risk_{d} = {{ aggregate = "mean", of = "fraud", window = "{d}d", by = "terminal", delay = "{delay}d" }}
"""


class WorkerPeaks:
    """The most memory that each worker had, looked up whenever a task is done."""

    def __init__(self) -> None:
        self.mib = Counter[int]()

    @contextmanager
    def stage(self, title: str, rows: int) -> Iterator[Callable[[int], None]]:
        """Take the place of a progress bar."""
        yield lambda count: self._look()

    def _look(self) -> None:
        for pid in processes.descendants(os.getpid(), f"{_MARK}={os.getpid()}"):
            try:
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
                    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
                    self.mib[pid] = max(self.mib[pid], int(found[1]) // 1024 if found else 0)
            except OSError:
                continue  # it has ended


def use_case(days: tuple[int, ...], delay_days: int) -> UseCase:
    """Return the use case of count and mean over so many days: of the card, and of the terminal with a delay."""
    windows = "".join(_WINDOWS.format(d=each, delay=delay_days) for each in days)
    return parse_use_case(f"{_HEAD}{windows}", "benchmark")


def spread_windows(
    table: Mapping[str, np.ndarray], declared: UseCase, cpus: int, partition_rows: int
) -> Callable[[], dict[str, float]]:
    """Write a table as Parquet files; return what computes its windows with a cluster of so many CPUs.

    The sums of the windows are returned, and "worker MiB", the peak of the largest worker.
    """
    folder = tempfile.TemporaryDirectory(prefix="rayscore-benchmark.")
    source = _written(Path(folder.name) / "table", table)

    def compute() -> dict[str, float]:
        os.environ[_MARK] = str(os.getpid())
        peaks = WorkerPeaks()
        sums = {feature.name: 0.0 for feature in declared.windows}
        with folder, cluster(cpus), scratch_folder(Path(folder.name) / "out") as scratch:
            plan = SpreadPlan(declared, source, EventFiles(None, {}), scratch, partition_rows)
            for part in SpreadTableInTime(plan, partial(each_block), peaks.stage).tables():
                for feature in declared.windows:
                    sums[feature.name] += float(np.nansum(part.column(feature.name).to_numpy()))
        return {**sums, "worker MiB": float(max(peaks.mib.values(), default=0))}

    return compute


def _written(folder: Path, table: Mapping[str, np.ndarray]) -> ParquetSource:
    columns = pa.table({**table, "t": pa.array(table["t"], pa.timestamp("us")), "amount": table["amount"] / 100})
    for at, start in enumerate(range(0, columns.num_rows, _ROWS_PER_FILE)):
        write_table(columns.slice(start, _ROWS_PER_FILE), folder / f"{at:05d}.parquet")
    return open_source(folder)
