"""Columns of a table by name: of one that must be there, and of one that is to be added."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count

import pyarrow as pa

from data.errors import DataError


def named_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column of a table; raises DataError, which lists the table's columns, when there is none."""
    if name not in table.column_names:
        raise DataError(f"column '{name}' is missing; the table has: {', '.join(table.column_names)}")
    return table.column(name)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name for a column to add: itself, or `name_2`, `name_3` and so on where a column has it already."""
    if name not in taken:
        return name
    return next(numbered for at in count(2) if (numbered := f"{name}_{at}") not in taken)
