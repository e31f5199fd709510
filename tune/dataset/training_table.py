"""The table that training learns from: read, checked, fingerprinted."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import UseCase
from data.sources.parquet import read_table
from data.transform.encoding import as_floats, named_column
from tune.dataset.fingerprint import content_sum, digest


class TrainingTable(NamedTuple):
    """Every declared column, the labels as uint8 of shape (n,), and where it came from."""

    table: pa.Table
    labels: np.ndarray
    path: Path
    fingerprint: str
    """16 hex digits over columns, types, number of rows and content, of the whole table."""
    sampled_from: int | None = None
    """Rows of the whole table, when `table` is a sample of it."""

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.table.num_rows if self.sampled_from is None else self.sampled_from


def load_training_table(path: str | Path, use_case: UseCase) -> TrainingTable:
    """Read the columns of `use_case` from a Parquet file or folder.

    Raises:
        DataError: the file is broken, a column is missing, or the label is not 0 and 1.
    """
    table = read_table(path, use_case.columns)
    labels = read_labels(table, use_case.label, path)
    if labels.min() == labels.max():
        raise DataError(f"{path}: every row has {use_case.label} = {labels[0]}; a model needs rows of both labels")
    return TrainingTable(table, labels, Path(path), fingerprint(table))


def read_labels(table: pa.Table, name: str, path: str | Path) -> np.ndarray:
    """Return the labels of some rows as uint8 of shape (n,).

    Raises:
        DataError: a label is null or neither 0 nor 1; `path` is named.
    """
    column = named_column(table, name)
    if column.null_count:
        raise DataError(f"{path}: label column '{name}' has {column.null_count:,} nulls; remove those rows")
    values = as_floats(column, name)
    found = np.unique(values)
    if not np.isin(found, (0.0, 1.0)).all():
        shown = ", ".join(f"{value:g}" for value in found[:5])
        raise DataError(
            f"{path}: label column '{name}' holds {shown}; expected 0 and 1 (or false and true): remove the other "
            "rows, or write 1 for what is to be predicted and 0 for the rest"
        )
    return values.astype(np.uint8)


def fingerprint(table: pa.Table) -> str:
    """16 hex digits that change with any column, type, row or value; chunking and files do not matter."""
    return digest(table.schema, table.num_rows, content_sum(table))
