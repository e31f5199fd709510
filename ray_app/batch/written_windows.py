"""The windows of a table too large for memory: computed by Ray's workers, and on disk while the table is scored."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.cli.terminal import progress
from data.distributed.pieces import Pieces, Runner, parquet_pieces
from data.errors import DataError, naming
from data.feature_views.events.event_tables import EventFiles
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.written_table import write_spread
from data.schema.use_case import UseCase
from data.sources.atomic_output import write_table, write_tables
from data.sources.filesystems import named
from data.sources.parquet import Chunk, ParquetSource, open_source
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


OpenScratch = Callable[[Pieces[Chunk]], Scratch]
"""Opens what the windows of a table need, given all that is read for them."""


class WindowInputs(NamedTuple):
    """What the windows of a table are computed of."""

    source: ParquetSource
    columns: list[str]
    """Those that are read of the table."""
    files: EventFiles
    """The events beside it."""
    manifest: BundleManifest
    """Of the model, by which HTTP refuses rows."""
    use_case: UseCase
    """Of the model's windows alone."""

    @property
    def rows(self) -> int:
        """Rows of the table, and of the events beside it."""
        return self.source.rows + self.files.rows


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

        Raises:
            DataError: this machine cannot read them.
        """
        span = [(_NUMBER, ">=", first), (_NUMBER, "<", first + len(refused))]
        try:
            return pq.read_table(self.path, columns=list(self.names), filters=span)
        except (pa.ArrowException, OSError) as exc:
            raise DataError(
                f"{named(self.path)}: the windows cannot be read here ({' '.join(str(exc).split())}); on more than one "
                "machine all must share this folder: it lies beside OUT, or in RAYSCORE_VAR_DIR where OUT is a URL"
            ) from exc


def write_windows(given: WindowInputs, scratch: Scratch) -> WrittenWindows:
    """Compute the windows of the rows of a table that HTTP would not refuse.

    Args:
        given: the table, and what its windows are computed of.
        scratch: where they go, and what computes them.

    Raises:
        DataError: as `write_spread`.
    """
    kept, out, exchanged = (scratch.folder / name for name in ("kept.parquet", "windows.parquet", "exchanged"))
    exchanged.mkdir()
    left_out: Mapping[str, Counter[str]] = {}
    if _write_kept(given, scratch.run, kept):
        plan = SpreadPlan(given.use_case, open_source(kept), given.files, exchanged)
        left_out = write_spread(plan, out, scratch.run, progress, told_as=given.source.path).left_out
    else:
        write_table(_no_windows(given, exchanged), out)
    shutil.rmtree(exchanged)
    kept.unlink()
    return WrittenWindows(out, tuple(given.use_case.features), left_out)


def _write_kept(given: WindowInputs, run: Runner, out: Path) -> int:
    """Write the rows that are scored, and return how many those are."""
    keep, count = KeepScored(given.manifest, given.source), 0
    with progress("windows: rows that are scored", given.source.rows) as advance:

        def tables() -> Iterator[pa.Table]:
            nonlocal count
            for rows, table in run(parquet_pieces(given.source, given.columns), keep, in_order=True):
                count += table.num_rows
                yield table
                advance(rows)

        write_tables(tables(), keep.schema(given.columns), out)
    return count


def _no_windows(given: WindowInputs, folder: Path) -> pa.Table:
    """Return the table with its windows, of which every row is refused."""
    kept = replace(given.source, schema=KeepScored(given.manifest, given.source).schema(given.columns))
    return SpreadPlan(given.use_case, kept, given.files, folder).empty.table


@dataclass(frozen=True)
class KeepScored:
    """Keeps the rows of a block that HTTP would not refuse, with their numbers in the whole table."""

    manifest: BundleManifest
    source: ParquetSource

    def __call__(self, block: pa.Table) -> tuple[int, pa.Table]:
        """Return how many rows the block has, and those that are kept, without dictionaries."""
        table = without_origin(block)
        origin = origin_of(block)
        with naming(origin.file):
            refused = refusals(table, self.manifest, Transform(self.manifest.schema_)).refused
        numbers = self.source.table_row(origin) + np.arange(table.num_rows)
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
