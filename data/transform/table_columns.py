"""Columns of a table by name, with an error that lists what there is."""

from __future__ import annotations

import pyarrow as pa

from data.errors import DataError


def named_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column of a table; raises DataError, which lists the table's columns, when there is none."""
    if name not in table.column_names:
        raise DataError(f"column '{name}' is missing; the table has: {', '.join(table.column_names)}")
    return table.column(name)
