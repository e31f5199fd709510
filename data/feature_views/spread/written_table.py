"""A spread table in time as one Parquet file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data.distributed.pieces import Pieces, Runner, parquet_pieces
from data.feature_views.spread.pipeline import SpreadTableInTime, Stage
from data.feature_views.spread.plan import SpreadPlan
from data.sources.atomic_output import write_tables
from data.sources.parquet import Chunk


class WrittenTable(NamedTuple):
    """What was written."""

    rows: int
    schema: pa.Schema
    missing: Counter[str]
    """By column, how many rows have no value."""
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""


def read_pieces(plan: SpreadPlan) -> Pieces[Chunk]:
    """Return what a plan reads, by which it is decided where its steps run."""
    table, files = plan.table, plan.files
    chunks = [chunk for source in (table, *files.sources) for chunk in source.chunks]
    return Pieces("Tables", chunks, parquet_pieces(table).read, table.rows + files.rows)


def write_spread(plan: SpreadPlan, out: Path, run: Runner, stage: Stage) -> WrittenTable:
    """Compute a table in time and write it.

    Args:
        plan: what is computed; its folder is empty, and is emptied by the caller when no worker writes to it any more.
        out: Parquet file to write, on this machine.
        run: applies the steps, by Ray Data or in this process.
        stage: shows progress.

    Raises:
        DataError: as `SpreadTableInTime.tables`, or the file cannot be written.
    """
    missing = Counter[str]()
    spread = SpreadTableInTime(plan, run, stage)

    def counted_tables() -> Iterator[pa.Table]:
        for each in spread.tables():
            missing.update(missing_values(each))
            yield each

    write_tables(counted_tables(), plan.empty.table.schema, out)
    return WrittenTable(plan.table.rows, plan.empty.table.schema, missing, spread.left_out)


def missing_values(table: pa.Table) -> Counter[str]:
    """Return by column how many rows have no value."""
    return Counter({name: table.column(name).null_count for name in table.column_names})
