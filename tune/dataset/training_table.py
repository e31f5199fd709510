"""The training table: the declared columns of a table in memory, with labels and fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import UseCase
from data.sources.filesystems import named
from data.sources.parquet import read_table
from data.sources.type_advice import label_remedy, shown
from data.transform.derived_time import with_derived
from data.transform.encoding import as_floats, named_column
from data.transform.missing import missing_mask
from tune.dataset.fingerprint import content_sum, digest


class TrainingTable(NamedTuple):
    """Every declared column and derived feature of n rows, the labels as uint8 of shape (n,), and the table's path."""

    table: pa.Table
    labels: np.ndarray
    path: Path
    fingerprint: str
    """Hash (16 hex digits) of the whole table, see `fingerprint`."""
    sampled_from: int | None = None
    """Rows of the whole table when `table` is a sample of it, else None."""

    @property
    def rows(self) -> int:
        """Number of rows of the whole table."""
        return self.table.num_rows if self.sampled_from is None else self.sampled_from


def load_training_table(path: str | Path, use_case: UseCase) -> TrainingTable:
    """Read the columns of `use_case` from a Parquet file or folder into memory.

    Raises:
        DataError: the file is broken, a column is missing, a value that a feature is derived from is no time, or the
            label is not 0 and 1 or of one class only.
    """
    table = read_table(path, use_case.columns)
    labels = read_labels(table, use_case.label, path)
    if labels.min() == labels.max():
        raise DataError(
            f"{named(path)}: every row has {use_case.label} = {labels[0]}; a model needs rows of both labels"
        )
    return TrainingTable(derived_rows(table, use_case, path), labels, Path(path), fingerprint(table))


def derived_rows(table: pa.Table, use_case: UseCase, path: str | Path) -> pa.Table:
    """Return rows of the table at `path` with their derived features; raises DataError where a value is no time."""
    try:
        return with_derived(table, use_case.schema_.derived)
    except DataError as exc:
        raise DataError(f"{named(path)}: {exc}") from exc


def read_labels(table: pa.Table, name: str, path: str | Path) -> np.ndarray:
    """Return the labels of some rows as uint8 of shape (n,).

    Raises:
        DataError: a label is missing or neither 0 nor 1; `path` is named.
    """
    column = named_column(table, name)
    missing = int(missing_mask(column).sum())
    if missing:
        raise DataError(f"{named(path)}: label column '{name}' is missing in {missing:,} rows; remove those rows")
    values = as_floats(column, name)
    distinct = np.unique(values)
    if not np.isin(distinct, (0.0, 1.0)).all():
        held = [float(value) for value in distinct[:10]]
        raise DataError(
            f"{named(path)}: label column '{name}' holds {shown(held)}; expected 0 and 1 (or false and true): "
            + label_remedy(held)
        )
    return values.astype(np.uint8)


def fingerprint(table: pa.Table) -> str:
    """Return a hash (16 hex digits) of columns, types, rows and values; how the table is cut does not matter."""
    return digest(table.schema, table.num_rows, content_sum(table))
