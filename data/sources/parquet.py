"""Parquet files: sources that are checked before they are read, and outputs that appear whole or not at all.

Pure PyArrow. Validation, materialization, drafting and training all read through this module, so that a broken file
is refused with the same message everywhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.filesystems import locate, parquet_urls, url

_CHUNK_ROWS = 250_000  # at least, but for the last of a file: whole row groups, since no less can be read by itself


@dataclass(frozen=True)
class Chunk:
    """Consecutive row groups of one file: the unit of parallel work. `first_row` counts over all files."""

    index: int
    path: Path
    row_groups: tuple[int, ...]
    first_row: int
    rows: int


@dataclass(frozen=True)
class ParquetSource:
    """A checked file or folder: its files in name order, their common schema, row count and chunks."""

    path: Path
    files: tuple[Path, ...]
    schema: pa.Schema
    rows: int
    chunks: tuple[Chunk, ...]

    def require(self, columns: Sequence[str]) -> None:
        """Check that columns exist; raises DataError, which lists the table's columns, when one is missing."""
        missing = [name for name in columns if name not in self.schema.names]
        if missing:
            raise DataError(
                f"{self.path}: column '{missing[0]}' is missing; the table has: {', '.join(self.schema.names)}"
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
        raise DataError(f"{self.path}: column '{column}' holds {kind}, expected {expected}; {remedy}")


def parquet_files(path: Path | str) -> list[Path]:
    """Return the file itself, or a folder's `*.parquet` files in name order, hidden ones left out; URLs too.

    Raises:
        DataError: nothing is there, or the folder holds no Parquet file.
    """
    if url(path):
        return parquet_urls(path)
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    inside = (file for file in path.rglob("*.parquet") if file.is_file())
    files = sorted(f for f in inside if not any(part[0] in "._" for part in f.relative_to(path).parts))
    if not files:
        raise DataError(f"{path}: the folder holds no .parquet file; 'rayscore convert' makes them from CSV")
    return files


def file_size(file: Path) -> int:
    """Return the size of a file or URL in bytes; raises OSError when it cannot be read."""
    if not url(file):
        return file.stat().st_size
    system, inner = locate(file)
    return system.get_file_info(inner).size or 0


def open_source(path: Path | str) -> ParquetSource:
    """Open a file or folder and check the footer of every file; no column is read.

    Raises:
        DataError: a file is missing, empty, truncated or not Parquet, the schemas differ, or there are no rows.
    """
    files = parquet_files(path)
    schema = _open(files[0]).schema_arrow
    chunks: list[Chunk] = []
    rows = 0
    for file in files:
        opened = _open(file)
        _check_schema(files[0], schema, file, opened.schema_arrow)
        for groups, count in _row_group_runs(opened.metadata):
            chunks.append(Chunk(len(chunks), file, groups, rows, count))
            rows += count
    if rows == 0:
        raise DataError(f"{path}: the table has columns but no rows")
    return ParquetSource(Path(path), tuple(files), schema, rows, tuple(chunks))


def row_count(path: Path | str) -> int:
    """Return the row count of a file or folder, from the footers; raises DataError as `open_source`."""
    return open_source(path).rows


def read_table(path: Path | str, columns: Sequence[str] | None = None, limit: int | None = None) -> pa.Table:
    """Read a file or folder, or its first `limit` rows, into memory.

    Raises:
        DataError: as `open_source`, or a column is missing or a page cannot be decoded.
    """
    parts: list[pa.RecordBatch] = []
    left = limit if limit is not None else -1
    source = open_source(path)
    for batch in _batches(source, columns, 131_072):
        parts.append(batch if left < 0 else batch.slice(0, left))
        left -= parts[-1].num_rows if left > 0 else 0
        if left == 0:
            break
    names = list(columns) if columns is not None else source.schema.names
    return pa.Table.from_batches(parts, pa.schema([source.schema.field(name) for name in names]))


def iter_batches(
    path: Path | str, columns: Sequence[str] | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Read a file or folder in order, `batch_rows` at a time; raises DataError as `read_table`."""
    yield from _batches(open_source(path), columns, batch_rows)


def read_chunk(chunk: Chunk, columns: Sequence[str]) -> pa.Table:
    """Read one chunk's columns, in the order asked for; raises DataError when a page cannot be decoded."""
    try:
        return _open(chunk.path).read_row_groups(list(chunk.row_groups), columns=list(columns)).select(list(columns))
    except (pa.ArrowException, OSError) as exc:
        raise _broken(chunk.path, exc) from exc


def chunk_batches(chunk: Chunk, columns: Sequence[str], batch_rows: int) -> Iterator[pa.Table]:
    """Read one chunk's columns, `batch_rows` rows at a time.

    For row groups too large to decode whole: memory is that of a batch and of one compressed row group.

    Raises:
        DataError: a page cannot be decoded.
    """
    names = list(columns)
    try:
        batches = _open(chunk.path).iter_batches(batch_rows, list(chunk.row_groups), names, use_threads=False)
        for batch in batches:
            yield pa.Table.from_batches([batch]).select(names)
    except (pa.ArrowException, OSError) as exc:
        raise _broken(chunk.path, exc) from exc


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling file, which becomes `path` when the `with` block succeeds and is removed otherwise.

    A sibling, because a rename is atomic only within one file system.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name a file")
        yield partial
        os.replace(partial, path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a hidden sibling folder, which becomes `path` when the `with` block succeeds.

    An earlier folder of Parquet files at `path` is replaced as a whole; leftovers of a killed run are removed.

    Raises:
        DataError: the folder cannot be written, or `path` holds something other than Parquet files.
    """
    path = Path(path).absolute()
    partial = path.with_name(f".{path.name}.partial")
    refuse_foreign(path)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        replace_folder(partial, path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Replace the folder `path` by the folder `new`; raises OSError.

    Two renames, because no rename replaces a folder that is not empty.
    """
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.rename(path, old)
    os.rename(new, path)
    shutil.rmtree(old, ignore_errors=True)


def refuse_foreign(path: Path) -> None:
    """Raise DataError when `path`, which is to be replaced, is a file or holds anything but Parquet files."""
    if path.is_file():
        raise DataError(f"{path}: is a file; name a folder, or a file that ends in .parquet")
    foreign = [item.name for item in path.iterdir() if item.suffix != ".parquet"] if path.is_dir() else []
    if foreign:
        raise DataError(f"{path}: holds '{foreign[0]}', which is not a Parquet file; name a new folder")


def cannot_write(path: Path, exc: OSError) -> DataError:
    """Return the DataError for an output that the file system refuses."""
    return DataError(f"{path}: cannot be written: {exc.strerror or exc}")


def write_table(table: pa.Table, path: Path | str) -> None:
    """Write one Parquet file that appears whole or not at all; raises DataError when it cannot be written."""
    with atomic_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def _open(file: Path) -> pq.ParquetFile:
    try:
        if file_size(file) == 0:
            raise DataError(f"{file}: the file is empty (0 bytes); write it again")
        system, inner = locate(file) if url(file) else (None, str(file))
        return pq.ParquetFile(inner, filesystem=system)
    except (pa.ArrowException, OSError) as exc:
        raise _broken(file, exc) from exc


def _broken(file: Path, exc: Exception) -> DataError:
    reason = " ".join(str(exc).split())
    return DataError(f"{file}: truncated or not a Parquet file ({reason:.200}); write or copy it again")


def _check_schema(first: Path, expected: pa.Schema, file: Path, schema: pa.Schema) -> None:
    advice = "; make the files alike or keep them in folders of their own"
    for name in [*expected.names, *schema.names]:
        if name not in schema.names:
            raise DataError(f"{file}: column '{name}' is missing, but {first.name} has it{advice}")
        if name not in expected.names:
            raise DataError(f"{file}: column '{name}' is not in {first.name}{advice}")
        kind, expected_kind = schema.field(name).type, expected.field(name).type
        if kind != expected_kind:
            raise DataError(f"{file}: column '{name}' holds {kind}, but {expected_kind} in {first.name}{advice}")


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


def _batches(source: ParquetSource, columns: Sequence[str] | None, batch_rows: int) -> Iterator[pa.RecordBatch]:
    names = list(columns) if columns is not None else source.schema.names
    source.require(names)
    for file in source.files:
        try:
            for batch in _open(file).iter_batches(batch_size=batch_rows, columns=names):
                yield batch.select(names)
        except (pa.ArrowException, OSError) as exc:
            raise _broken(file, exc) from exc
