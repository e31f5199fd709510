"""The windows of a table too large for memory: computed by Ray's workers, and on disk while the table is scored."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.cli.terminal import progress
from data.distributed.pieces import Runner, parquet_pieces
from data.feature_views.events.event_tables import EventFiles
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.written_table import write_spread
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_tables
from data.sources.parquet import ParquetSource, open_source
from data.sources.row_origin import origin_of, without_origin
from data.transform.encoding import Transform
from ray_app.batch.refused_rows import refusals
from tune.registry.bundle import BundleManifest

_NUMBER = "__number__"
"""Column of a row's number in the whole table."""


class Scratch(NamedTuple):
    """Where the windows of a table go, and what computes them."""

    folder: Path
    """An empty one, on a disk that all nodes share; it stays for as long as the windows are needed."""
    run: Runner


@dataclass(frozen=True)
class WrittenWindows:
    """The windows of the rows that are not refused, in a Parquet file; pickled to the workers."""

    path: Path
    names: tuple[str, ...]
    left_out: Mapping[str, Counter[str]]
    """By source of events: rows that are no event, by reason."""

    def of(self, first: int, refused: np.ndarray) -> pa.Table:
        """Return the windows of consecutive rows.

        Args:
            first: number of the first of n rows in the whole table.
            refused: which of them are refused, and have none; bool of shape (n,).
        """
        span = [(_NUMBER, ">=", first), (_NUMBER, "<", first + len(refused))]
        return pq.read_table(self.path, columns=list(self.names), filters=span)


def write_windows(
    source: ParquetSource,
    columns: list[str],
    files: EventFiles,
    manifest: BundleManifest,
    use_case: UseCase,
    scratch: Scratch,
) -> WrittenWindows:
    """Compute the windows of the rows of a table that HTTP would not refuse.

    Args:
        source: the table.
        columns: those that are read of it.
        files: the events beside it.
        manifest: of the model.
        use_case: of its windows alone.
        scratch: where they go, and what computes them.

    Raises:
        DataError: as `write_spread`.
    """
    kept, out, exchanged = (scratch.folder / name for name in ("kept.parquet", "windows.parquet", "exchanged"))
    exchanged.mkdir()
    keep = KeepScored(manifest, source)
    with progress("windows: rows that are scored", source.rows) as advance:

        def tables() -> Iterator[pa.Table]:
            for rows, table in scratch.run(parquet_pieces(source, columns), keep, in_order=True):
                yield table
                advance(rows)

        write_tables(tables(), keep.schema(columns), kept)
    found = write_spread(SpreadPlan(use_case, open_source(kept), files, exchanged), out, scratch.run, progress)
    shutil.rmtree(exchanged)
    kept.unlink()
    return WrittenWindows(out, tuple(use_case.features), found.left_out)


@dataclass(frozen=True)
class KeepScored:
    """Keeps the rows of a block that HTTP would not refuse, with their numbers in the whole table."""

    manifest: BundleManifest
    source: ParquetSource

    def __call__(self, block: pa.Table) -> tuple[int, pa.Table]:
        """Return how many rows the block has, and those that are kept, without dictionaries."""
        table = without_origin(block)
        refused = refusals(table, self.manifest, Transform(self.manifest.schema_)).refused
        numbers = self.source.table_row(origin_of(block)) + np.arange(table.num_rows)
        numbered = self._with_label(table.append_column(_NUMBER, pa.array(numbers)))
        return table.num_rows, numbered.filter(pa.array(~refused)).cast(_plain(numbered.schema))

    def schema(self, columns: list[str]) -> pa.Schema:
        """Return the schema of what is kept of some columns."""
        table = self.source.select(columns).empty_table().append_column(_NUMBER, pa.array([], pa.int64()))
        return _plain(self._with_label(table).schema)

    def _with_label(self, table: pa.Table) -> pa.Table:
        return with_label(table, self.manifest.label)


def with_label(table: pa.Table, label: str) -> pa.Table:
    """Return a table that has the column of the label: a value that is not known counts in no window."""
    return table if label in table.column_names else table.append_column(label, pa.nulls(table.num_rows, pa.float64()))


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema without metadata, dictionaries written out."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return pa.schema(list(zip(schema.names, kinds, strict=True)))
