"""Row origin: two columns beside the rows of a table, for the file that a row came from and its number in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

FILE = "__file__"
"""Column of the file's path, as a dictionary of strings."""
ROW = "__row__"
"""Column of the row's number in its file, int64, counted from 0."""
REPORT = "__report__"
"""Column, of some readers, of what there is to say of a file, pickled, in its last row."""
RESERVED = (FILE, ROW, REPORT)


class Origin(NamedTuple):
    """Where the rows of one table came from: consecutive rows of one file, from `row` on (counted from 0)."""

    file: str
    row: int

    def place(self, index: int) -> str:
        """Return the file and the row, counted from 0, of the table's row number `index`, for a message."""
        return f"{self.file}, row {self.row + index:,}"


def with_origin(table: pa.Table, origin: Origin) -> pa.Table:
    """Return n rows with the columns `FILE` and `ROW` in front."""
    rows = table.num_rows
    files = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([origin.file]))
    numbers = pa.array(np.arange(origin.row, origin.row + rows))
    return table.add_column(0, ROW, numbers).add_column(0, FILE, files)


def origin_of(table: pa.Table) -> Origin:
    """Return the origin of a table of at least one row that `with_origin` made."""
    return Origin(table.column(FILE)[0].as_py(), table.column(ROW)[0].as_py())


def without_origin(table: pa.Table) -> pa.Table:
    """Return the table without the columns of its origin and of a report."""
    return table.drop_columns([name for name in RESERVED if name in table.column_names])
