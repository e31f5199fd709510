"""Lists: which rows of a table a ranking orders among each other, by the values of one column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.use_case import UseCase
from data.transform.encoding import named_column
from data.transform.missing import blank_as_null


def list_codes(table: pa.Table, use_case: UseCase) -> np.ndarray | None:
    """Return the list of each of n rows as `group_codes` does; None where the target is no ranking.

    Raises:
        DataError: the column is not there, or rows have no value in it.
    """
    name = use_case.task.list_column
    return None if name is None else group_codes(named_column(table, name), name)


def group_codes(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return the list of each of n rows, numbered from 0 in the order of their first rows, as int64 of shape (n,).

    Raises:
        DataError: rows have no value; the column is named `name`.
    """
    found = blank_as_null(column)
    if found.null_count:
        raise DataError(
            f"column '{name}' (the group) is missing in {found.null_count:,} rows; remove those rows, or name the list "
            "that they are in"
        )
    return found.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
