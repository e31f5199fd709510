"""Parquet tables: a file or a folder of files with one schema, checked before it is read.

Pure PyArrow. Validation, materialization, drafting, training and scoring all read through this module, so that a file
counts, is refused, and has its types the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.column_types import TableTypes, lossless_cast
from data.sources.filesystems import first_bytes, named, resolve
from data.sources.hive_partitions import partition_column, partition_types
from data.sources.row_origin import ROW, Origin, with_origin
from data.sources.table_files import TableFile, Unread, table_files, unread_text
from data.sources.utf8_text import UTF8_REMEDY, check_utf8

_CHUNK_ROWS = 250_000  # at least, but for the last of a file: whole row groups, since no less can be read by itself
_MAGIC = b"PAR1"
_OTHERS = {
    b"\x1f\x8b": "gzip, not Parquet; unpack it first (gunzip)",
    b"PARE": "encrypted Parquet; write it without encryption",
    b"ARROW1": "an Arrow (Feather) file, not Parquet; write it as Parquet",
    b"FEA1": "a Feather file, not Parquet; write it as Parquet",
    b"ORC": "ORC, not Parquet; write it as Parquet",
    b"Obj\x01": "Avro, not Parquet; write it as Parquet",
    b"PK": "a zip archive, not Parquet; unpack it first",
}
"""Kinds of files by their first bytes, and what to do about each."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive row groups of one file: the unit of parallel work."""

    index: int
    file: TableFile
    row_groups: tuple[int, ...]
    file_row: int
    """Number of the first row in its file."""
    rows: int

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.file.path

    @property
    def origin(self) -> Origin:
        """Origin of the first row."""
        return Origin(named(self.path), self.file_row)


@dataclass(frozen=True)
class ParquetSource:
    """A checked file or folder: its files in name order, their common schema, row count and chunks."""

    path: Path
    files: tuple[Path, ...]
    schema: pa.Schema
    rows: int
    chunks: tuple[Chunk, ...]
    first_rows: dict[str, int]
    """Number, in the whole table, of the first row of each file."""
    unread: tuple[Unread, ...] = ()
    """What lies in the folder and is not read."""

    def require(self, columns: Sequence[str]) -> None:
        """Check that columns exist; raises DataError, which lists the table's columns, when one is missing."""
        missing = [name for name in columns if name not in self.schema.names]
        if missing:
            raise DataError(
                f"{named(self.path)}: column '{missing[0]}' is missing; the table has: {', '.join(self.schema.names)}"
            )

    def require_type(
        self, column: str, fits: bool, expected: str, remedy: str = "convert the column or correct the use case"
    ) -> None:
        """Raise DataError unless `fits`; it names the file, the column, its type, what was expected and the remedy."""
        if fits:
            return
        kind = self.schema.field(column).type
        if pa.types.is_null(kind):
            remedy = "no row has a value: fill the column, or take it out of the use case"
        raise DataError(f"{named(self.path)}: column '{column}' holds {kind}, expected {expected}; {remedy}")

    def select(self, columns: Sequence[str] | None) -> pa.Schema:
        """Return the schema of some columns, in the order asked for; raises DataError as `require`."""
        if columns is None:
            return self.schema
        self.require(columns)
        return pa.schema([self.schema.field(name) for name in columns])

    def table_row(self, origin: Origin) -> int:
        """Return the number of a row in the whole table, counted from 0."""
        return self.first_rows[origin.file] + origin.row

    @property
    def report(self) -> list[str]:
        """What was read of the path and what was not, in a line each."""
        files = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        partition = [*self.chunks[0].file.partition]
        columns = f"; {', '.join(partition)} from the names of folders" if partition else ""
        lines = [f"read: {named(self.path)}: {files}, {self.rows:,} rows{columns}"]
        return lines + ([f"not read: {unread_text(self.unread)}"] if self.unread else [])


@dataclass(frozen=True)
class ChunkReader:
    """Reads chunks as the columns of `schema`, about `batch_rows` rows at a time; pickles, so a worker can have it.

    For row groups too large to decode whole: memory is that of a batch and of one compressed row group.
    """

    schema: pa.Schema
    batch_rows: int = 65_536
    origin: bool = True
    """Whether the columns of `data.sources.row_origin` come first."""

    def __call__(self, chunk: Chunk) -> Iterator[pa.Table]:
        """Yield the rows of a chunk in order, each table of one file.

        Raises:
            DataError: a page cannot be decoded, text is not UTF-8, or a value does not fit the type of its column.
        """
        file, row = chunk.origin
        for batch in self._batches(chunk):
            table = self._typed(chunk, pa.Table.from_batches([batch]))
            check_utf8(table, Origin(file, row))
            yield with_origin(table, Origin(file, row)) if self.origin else table
            row += table.num_rows

    def _batches(self, chunk: Chunk) -> Iterator[pa.RecordBatch]:
        opened = _open(chunk.path)
        held = set(opened.schema_arrow.names)
        names = [name for name in self.schema.names if name in held]
        if not names:
            # Columns that folders state alone: the rows are there all the same.
            yield pa.RecordBatch.from_arrays([pa.nulls(chunk.rows)], [ROW])
            return
        try:
            yield from opened.iter_batches(self.batch_rows, list(chunk.row_groups), names, use_threads=False)
        except (pa.ArrowException, OSError) as exc:
            raise _broken(chunk.path, exc) from exc

    def _typed(self, chunk: Chunk, table: pa.Table) -> pa.Table:
        columns = [self._column(chunk, table, field) for field in self.schema]
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _column(self, chunk: Chunk, table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
        stated = field.name in chunk.file.partition
        if not stated:
            return _cast(chunk, table.column(field.name), field)
        value = chunk.file.partition[field.name]
        column = pa.chunked_array([partition_column(value, field.type, table.num_rows)])
        if field.name in table.column_names and _cast(chunk, table.column(field.name), field) != column:
            raise DataError(
                f"{named(chunk.path)}: column '{field.name}' holds something else than the {value} in the name of its "
                "folder; rename the column or the folder"
            )
        return column


def open_source(path: Path | str) -> ParquetSource:
    """Open a file or folder and check the footer of every file; no column is read.

    Raises:
        DataError: a file is missing, empty, truncated or not Parquet, no type fits a column of two files, or there are
            no rows.
    """
    found = table_files(path)
    partitions = partition_types([(named(file.path), file.partition) for file in found.files])
    types = TableTypes(partitions)
    chunks: list[Chunk] = []
    first_rows: dict[str, int] = {}
    rows = 0
    for file in found.files:
        opened = _open(file.path)
        types.add(file, opened.schema_arrow if opened.metadata.num_rows else _untyped(opened.schema_arrow))
        first_rows[named(file.path)] = rows
        file_row = 0
        for groups, count in _row_group_runs(opened.metadata):
            chunks.append(Chunk(len(chunks), file, groups, file_row, count))
            file_row += count
        rows += file_row
    if rows == 0:
        raise DataError(f"{named(path)}: the table has columns but no rows")
    files = tuple(file.path for file in found.files)
    return ParquetSource(Path(path), files, types.schema, rows, tuple(chunks), first_rows, found.unread)


def _untyped(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a file without rows, as the null type that fits all others."""
    return pa.schema([(name, pa.null()) for name in schema.names], schema.metadata)


def row_count(path: Path | str) -> int:
    """Return the row count of a file or folder, from the footers; raises DataError as `open_source`."""
    return open_source(path).rows


def read_table(path: Path | str, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
    """Read a file or folder, or its first `limit` rows, into memory.

    Raises:
        DataError: as `open_source`, or a column is missing, a page cannot be decoded, or a value does not fit.
    """
    return read_source(open_source(path), columns, limit)


def read_source(source: ParquetSource, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
    """Read an opened source, or its first `limit` rows, into memory; raises DataError as `read_table`."""
    schema = source.select(columns)
    parts: list[pa.Table] = []
    left = source.rows if limit is None else limit
    for table in _tables(source, ChunkReader(schema, 131_072, origin=False)):
        parts.append(table.slice(0, left))
        left -= parts[-1].num_rows
        if left == 0:
            break
    return pa.concat_tables(parts) if parts else schema.empty_table()


def iter_batches(
    path: Path | str, columns: Sequence[str] | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Read a file or folder in order, `batch_rows` at a time; raises DataError as `read_table`."""
    source = open_source(path)
    for table in _tables(source, ChunkReader(source.select(columns), batch_rows, origin=False)):
        yield from table.to_batches()


def _tables(source: ParquetSource, reader: ChunkReader) -> Iterator[pa.Table]:
    for chunk in source.chunks:
        yield from reader(chunk)


def _cast(chunk: Chunk, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return lossless_cast(column, field.type)
    except DataError as exc:
        raise DataError(
            f"{named(chunk.path)}: column '{field.name}' holds {column.type}, which does not fit the {field.type} of "
            f"the other files: {exc}; convert one of them"
        ) from exc


def _open(file: Path) -> pq.ParquetFile:
    try:
        system, inner = resolve(file)
        return pq.ParquetFile(inner, filesystem=system)
    except (pa.ArrowException, OSError) as exc:
        raise _broken(file, exc) from exc


def _broken(file: Path, exc: Exception) -> DataError:
    try:
        start = first_bytes(file, 64)
    except (pa.ArrowException, OSError) as unreadable:
        return DataError(f"{named(file)}: cannot be read: {' '.join(str(unreadable).split())}")
    if not start:
        return DataError(f"{named(file)}: the file is empty (0 bytes); write it again")
    other = next((what for magic, what in _OTHERS.items() if start.startswith(magic)), None)
    if other is None and start.isascii() and start.decode().replace("\n", "").replace("\r", "").isprintable():
        other = "text, not Parquet; 'rayscore convert' makes Parquet of CSV" if _MAGIC not in start else None
    if other:
        return DataError(f"{named(file)}: {other}")
    reason = " ".join(str(exc).split())
    if "UTF8" in reason:
        return DataError(f"{named(file)}: a column holds text that is not UTF-8 ({reason:.200}); {UTF8_REMEDY}")
    return DataError(f"{named(file)}: truncated or not a Parquet file ({reason:.200}); write or copy it again")


def _row_group_runs(metadata: pq.FileMetaData) -> Iterator[tuple[tuple[int, ...], int]]:
    run: list[int] = []
    rows = 0
    for group in range(metadata.num_row_groups):
        run.append(group)
        rows += metadata.row_group(group).num_rows
        if rows >= _CHUNK_ROWS:
            yield tuple(run), rows
            run, rows = [], 0
    if rows:
        yield tuple(run), rows
