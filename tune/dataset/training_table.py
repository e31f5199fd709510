"""The training table: the declared columns of a table in memory, with labels and fingerprint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.feature_views.events.event_tables import EventTables
from data.feature_views.point_in_time import with_expressions
from data.schema.use_case import UseCase
from data.sources.filesystems import named
from data.sources.parquet import read_table
from data.sources.type_advice import label_remedy, shown
from data.transform.derived_time import with_derived
from data.transform.encoding import named_column
from data.transform.labels import is_words, label_array, label_faults
from data.transform.missing import missing_mask
from tune.dataset.fingerprint import content_sum, digest, with_others
from tune.dataset.table_in_time import table_in_time

NO_EVENTS = EventTables(None, {})
"""No events beside those that are the rows of the table."""


class TrainingTable(NamedTuple):
    """Every declared column and computed feature of n rows, and the table's path.

    `labels` are codes (uint8) or numbers (float32) of shape (n,), as the kind of target has them.
    """

    table: pa.Table
    labels: np.ndarray
    path: Path
    fingerprint: str
    """Hash (16 hex digits) of the whole table, see `fingerprint`."""
    sampled_from: int | None = None
    """Rows of the whole table when `table` is a sample of it, else None."""
    own: pa.Table | None = None
    """The rows with their own values of online features, where `table` has those that the store would have held; None
    also where that was not measured."""
    holds_stored: bool = False
    """Whether the table came with what the store would have held, so that nobody knows the rows' own values."""
    left_out: Mapping[str, Counter[str]] = {}
    """By source of events: how many rows are in no window, by reason."""

    @property
    def rows(self) -> int:
        """Number of rows of the whole table."""
        return self.table.num_rows if self.sampled_from is None else self.sampled_from


def load_training_table(
    path: str | Path,
    use_case: UseCase,
    events: EventTables = NO_EVENTS,
    holds_windows: bool = False,
    holds_stored: bool = False,
) -> TrainingTable:
    """Read the columns of `use_case` from a Parquet file or folder into memory, and compute its features.

    Args:
        path: the table.
        use_case: what is read, and computed.
        events: earlier rows of the table, and events of other sources.
        holds_windows: whether the table holds its windows already.
        holds_stored: whether its online features are what the store would have held already.

    Raises:
        DataError: the file is broken, a column is missing, a value that a feature is derived from is no time, events
            do not fit, or the label is not what the use case declares, or the same in every row.
    """
    table = read_table(path, columns_read(use_case, holds_windows))
    labels = read_labels(table, use_case, path)
    if labels.min() == labels.max():
        held = shown([named_column(table, use_case.label)[0].as_py()])
        raise DataError(f"{named(path)}: every row has {use_case.label} = {held}; a model needs rows that differ in it")
    try:
        derived = with_derived(table, use_case.schema_.derived)
        found, own, left_out = table_in_time(derived, use_case, events, holds_windows, holds_stored)
    except DataError as exc:
        raise DataError(f"{named(path)}: {exc}") from exc
    whole = with_others(fingerprint(table), [fingerprint(each) for each in events.all])
    return TrainingTable(found, labels, Path(path), whole, own=own, holds_stored=holds_stored, left_out=left_out)


def columns_read(use_case: UseCase, holds_windows: bool) -> list[str]:
    """The columns that training reads of a table, which may hold its windows already."""
    windows = [feature.name for feature in use_case.windows] if holds_windows else []
    return list(dict.fromkeys([*use_case.columns, *windows]))


def computed_rows(table: pa.Table, use_case: UseCase, path: str | Path) -> pa.Table:
    """Return some rows of the table at `path`, which holds its windows, with all that follows from a row alone.

    Raises:
        DataError: a value that a feature is derived from is no time.
    """
    try:
        return with_expressions(with_derived(table, use_case.schema_.derived), use_case.schema_)
    except DataError as exc:
        raise DataError(f"{named(path)}: {exc}") from exc


def read_labels(table: pa.Table, use_case: UseCase, path: str | Path) -> np.ndarray:
    """Return the labels of some rows: codes (uint8) or numbers (float32) of shape (n,).

    Raises:
        DataError: a label is missing, or not what the use case declares; `path` is named.
    """
    name, task = use_case.label, use_case.task
    column = named_column(table, name)
    missing = int(missing_mask(column).sum())
    if missing:
        raise DataError(f"{named(path)}: label column '{name}' is missing in {missing:,} rows; remove those rows")
    if is_words(column) and not any(isinstance(label, str) for label in task.labels or ()):
        raise DataError(_not_declared(column, use_case, path))
    faults = label_faults(column, task, task.least_label, name, task.most_grade)
    if faults.any():
        raise DataError(_not_declared(column.filter(pa.array(faults)) if task.strata != 2 else column, use_case, path))
    return label_array(column, task, name)


def _not_declared(column: pa.ChunkedArray, use_case: UseCase, path: str | Path) -> str:
    held = sorted(column.unique().slice(0, 10).to_pylist(), key=lambda value: (value is None, str(type(value)), value))
    task = use_case.task
    # A kind that was declared is meant: then the rows are at fault.
    remedy = label_remedy(held) if task.labels == (0, 1) else "correct or remove those rows, or declare them in [task]"
    return f"{named(path)}: label column '{use_case.label}' holds {shown(held)}; expected {task.expected}: {remedy}"


def fingerprint(table: pa.Table) -> str:
    """Return a hash (16 hex digits) of columns, types, rows and values; how the table is cut does not matter."""
    return digest(table.schema, table.num_rows, content_sum(table))
