"""A spread table in time as one Parquet file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data.distributed.pieces import Pieces, Runner, parquet_pieces
from data.errors import DataError
from data.feature_views.events.event_tables import EventFiles
from data.feature_views.spread.pipeline import SpreadTableInTime, Stage
from data.feature_views.spread.plan import SpreadPlan
from data.sources.atomic_output import write_tables
from data.sources.filesystems import named
from data.sources.parquet import Chunk, ParquetSource


class WrittenTable(NamedTuple):
    """What was written."""

    rows: int
    schema: pa.Schema
    missing: Counter[str]
    """By column, how many rows have no value."""
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""


def read_pieces(table: ParquetSource, files: EventFiles) -> Pieces[Chunk]:
    """Return all that is read for the features of a table, by which it is decided where the steps run."""
    chunks = [chunk for source in (table, *files.sources) for chunk in source.chunks]
    return Pieces("Tables", chunks, parquet_pieces(table).read, table.rows + files.rows)


def write_spread(plan: SpreadPlan, out: Path, run: Runner, stage: Stage, told_as: Path | None = None) -> WrittenTable:
    """Compute a table in time and write it.

    Args:
        plan: what is computed; its folder is empty, and is emptied by the caller when no worker writes to it any more.
        out: Parquet file to write, on this machine.
        run: applies the steps, by Ray Data or in this process.
        stage: shows progress.
        told_as: the table by the name that the user knows, for errors that name no file.

    Raises:
        DataError: as `SpreadTableInTime.tables`, or the file cannot be written.
    """
    missing = Counter[str]()
    spread = SpreadTableInTime(plan, run, stage)

    def counted_tables() -> Iterator[pa.Table]:
        for each in spread.tables():
            missing.update(missing_values(each))
            yield each

    try:
        write_tables(counted_tables(), plan.empty.table.schema, out)
    except DataError as exc:
        files = (plan.table.path, *(source.path for source in plan.files.sources), plan.folder, out)
        if told_as is None or str(exc).startswith(tuple(map(named, files))):
            raise
        raise DataError(f"{named(told_as)}: {exc}") from exc
    return WrittenTable(plan.table.rows, plan.empty.table.schema, missing, spread.left_out)


def missing_values(table: pa.Table) -> Counter[str]:
    """Return by column how many rows have no value."""
    return Counter({name: table.column(name).null_count for name in table.column_names})
