"""Missing values: null, NaN and '' say that there is no value, in a table, in the online store and in a request alike.

A category may declare that '' is one of its words (`Feature.empty_is_value`). A key, an entity or a time of text that
is white space alone is *blank*: nothing can be found by it, so that it is missing too.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def is_missing(value: object, empty_is_value: bool = False) -> bool:
    """Return whether one raw value is None, NaN, or '' where that is no value."""
    if value == "":
        return not empty_is_value
    return value is None or value != value


def missing_mask(column: pa.ChunkedArray, empty_is_value: bool = False) -> np.ndarray:
    """Return which of a column's n values are null, NaN, or '' where that is no value, as bool of shape (n,)."""
    column = _plain(column)
    missing = column.is_null(nan_is_null=True)
    if is_text(column.type) and not empty_is_value:
        missing = pc.call_function("or_kleene", [missing, pc.call_function("equal", [column, ""])])
    return missing.to_numpy(zero_copy_only=False)


def missing_as_null(column: pa.ChunkedArray, empty_is_value: bool = False) -> pa.ChunkedArray:
    """Return a column with null for every missing value."""
    return _null_where(column, missing_mask(column, empty_is_value))


def is_blank(key: object) -> bool:
    """Return whether one key or entity is missing or white space alone."""
    if isinstance(key, str):  # Asked of most keys first: a request has up to a dozen of them.
        return not key or key.isspace()
    return is_missing(key)


def blank_mask(column: pa.ChunkedArray) -> np.ndarray:
    """Return which of a column's n keys are missing or white space alone, as bool of shape (n,)."""
    missing = missing_mask(column)
    column = _plain(column)
    if not is_text(column.type):
        return missing
    spaces = pc.call_function("utf8_is_space", [column]).fill_null(True)
    return missing | spaces.to_numpy(zero_copy_only=False)


def blank_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of keys with null for every blank one."""
    return _null_where(column, blank_mask(column))


def is_text(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds text, not dictionary-encoded."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary, since nulls may stand in one, and text as Arrow can compare it."""
    if pa.types.is_dictionary(column.type):
        return _plain(column.cast(column.type.value_type))
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _null_where(column: pa.ChunkedArray, mask: np.ndarray) -> pa.ChunkedArray:
    if not mask.any():
        return column
    column = _plain(column)
    return pc.call_function("if_else", [pa.array(mask), pa.scalar(None, column.type), column])
