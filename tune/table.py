"""The table that training learns from: read, checked, fingerprinted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.features import as_floats, named_column
from data.parquet import read_table
from data.usecase import UseCase


class TrainingTable(NamedTuple):
    """Every declared column, the labels as uint8 of shape (n,), and where it came from."""

    table: pa.Table
    labels: np.ndarray
    path: Path
    fingerprint: str
    """16 hex digits over columns, types, number of rows and content."""


def load_training_table(path: str | Path, use_case: UseCase) -> TrainingTable:
    """Read the columns of `use_case` from a Parquet file or folder.

    Raises:
        DataError: the file is broken, a column is missing, or the label is not 0 and 1.
    """
    table = read_table(path, use_case.columns)
    return TrainingTable(table, _labels(table, use_case.label, path), Path(path), fingerprint(table))


def _labels(table: pa.Table, name: str, path: str | Path) -> np.ndarray:
    column = named_column(table, name)
    if column.null_count:
        raise DataError(f"{path}: label column '{name}' has {column.null_count:,} nulls; remove those rows")
    values = as_floats(column, name)
    found = np.unique(values)
    if not np.isin(found, (0.0, 1.0)).all():
        shown = ", ".join(f"{value:g}" for value in found[:5])
        raise DataError(f"{path}: label column '{name}' holds {shown}; expected 0 and 1 (or false and true)")
    if len(found) < 2:
        raise DataError(f"{path}: every row has {name} = {found[0]:g}; a model needs rows of both labels")
    return values.astype(np.uint8)


class _Digest:
    """A file that only keeps the digest of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def fingerprint(table: pa.Table) -> str:
    """16 hex digits that change with any column, type, row or value; chunking does not matter."""
    digest = _Digest()
    with pa.ipc.new_stream(pa.PythonFile(digest, mode="w"), table.schema.remove_metadata()) as stream:
        stream.write_table(table.replace_schema_metadata(None).combine_chunks())
    return digest.hexdigest()[:16]
