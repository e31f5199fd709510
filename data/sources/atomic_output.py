"""Atomic outputs: files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.filesystems import named, url


@contextmanager
def atomic_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling file, which becomes `path` when the `with` block succeeds and is removed otherwise.

    A sibling, because a rename is atomic only within one file system.

    Raises:
        DataError: the file cannot be written, or is named by a URL.
    """
    if url(path):
        # As a path it would become a folder "s3:" here, and the file would never be where it was asked for.
        raise DataError(f"{named(path)}: a single file is written on this machine; name a path here, and copy it there")
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


def cannot_write(path: Path, exc: Exception) -> DataError:
    """Return the DataError for an output that the file system refuses."""
    return DataError(f"{named(path)}: cannot be written: {getattr(exc, 'strerror', None) or exc}")


def write_table(table: pa.Table, path: Path | str) -> None:
    """Write one Parquet file that appears whole or not at all; raises DataError when it cannot be written."""
    with atomic_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path | str) -> None:
    """Write tables of one schema one after the other as `write_table` writes one, each when it comes."""
    with atomic_file(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
