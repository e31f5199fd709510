"""A spread table in time as one Parquet file, computed by Ray's workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data.distributed.pieces import Pieces, parquet_pieces
from data.distributed.ray_data import runner
from data.feature_views.spread.pipeline import SpreadTableInTime, Stage
from data.feature_views.spread.plan import SpreadPlan
from data.sources.atomic_output import write_tables


class WrittenTable(NamedTuple):
    """What was written."""

    rows: int
    schema: pa.Schema
    missing: Counter[str]
    """By column, how many rows have no value."""
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""


def write_spread(plan: SpreadPlan, out: Path, stage: Stage) -> WrittenTable:
    """Compute a table in time on the cluster that there is, or on one of its own, and write it.

    Args:
        plan: what is computed; its folder is empty, and is emptied by the caller.
        out: Parquet file to write, on this machine.
        stage: shows progress.

    Raises:
        ConfigError: RAY_ADDRESS names a cluster that does not answer.
        DataError: as `SpreadTableInTime.tables`, or the file cannot be written.
    """
    table, files = plan.table, plan.files
    chunks = [chunk for source in (table, *files.sources) for chunk in source.chunks]
    pieces = Pieces("Tables", chunks, parquet_pieces(table).read, table.rows + files.rows)
    missing = Counter[str]()
    # The caller empties the folder when no worker writes to it any more.
    with runner(pieces) as run_steps:
        spread = SpreadTableInTime(plan, run_steps, stage)

        def counted_tables() -> Iterator[pa.Table]:
            for each in spread.tables():
                missing.update(missing_values(each))
                yield each

        write_tables(counted_tables(), plan.empty.table.schema, out)
    return WrittenTable(table.rows, plan.empty.table.schema, missing, spread.left_out)


def missing_values(table: pa.Table) -> Counter[str]:
    """Return by column how many rows have no value."""
    return Counter({name: table.column(name).null_count for name in table.column_names})
