"""The fingerprint of a table too large for memory and of the events beside it, block by block: that of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from data.cli.terminal import progress
from data.distributed.pieces import Runner, parquet_pieces
from data.feature_views.events.event_tables import EventFiles, event_columns, history_columns
from data.schema.use_case import UseCase
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of, without_origin
from tune.dataset.fingerprint import content_sum, digest, with_others
from tune.dataset.training_table import columns_read


def source_fingerprint(table: ParquetSource, files: EventFiles, use_case: UseCase, run: Runner) -> str:
    """Return the fingerprint (16 hex digits) that `load_training_table` gives a table with the events beside it.

    Args:
        table: a table without its windows.
        files: the events.
        use_case: the columns that are read of each.
        run: reads them, by Ray Data or in this process.

    Raises:
        DataError: a table cannot be read.
    """
    read = [(table, columns_read(use_case, holds_windows=False))]
    if files.history is not None:
        read.append((files.history, history_columns(use_case)))
    read += [(files.others[name], event_columns(use_case.events[name])) for name in sorted(files.others)]
    with progress("fingerprint", table.rows + files.rows) as advance:
        found = []
        for source, columns in read:
            content = 0
            for rows, part in run(parquet_pieces(source, columns), SumContent(source.first_rows), small_results=True):
                content += part
                advance(rows)
            found.append(digest(source.select(columns), source.rows, content))
    return with_others(found[0], found[1:])


@dataclass(frozen=True)
class SumContent:
    """Sums the content of a block; runs in a worker."""

    first_rows: Mapping[str, int]

    def __call__(self, block: pa.Table) -> tuple[int, int]:
        """Return how many rows the block has, and their `content_sum`."""
        origin = origin_of(block)
        return block.num_rows, content_sum(without_origin(block), self.first_rows[origin.file] + origin.row)
