"""Text in UTF-8: Arrow takes a file's word for it, and some writers put other bytes into columns of text."""

from __future__ import annotations

import pyarrow as pa

from data.errors import DataError
from data.sources.row_origin import Origin
from data.transform.missing import is_text

UTF8_REMEDY = "write the file again with the text in UTF-8, or with a column of binary"
"""What to do about it."""


def check_utf8(table: pa.Table, origin: Origin) -> None:
    """Check that all text of some rows is UTF-8.

    Args:
        table: the rows.
        origin: where they come from.

    Raises:
        DataError: it is not: names file, column, row and what to do.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        # Of a dictionary Arrow's own reader looks at the words.
        if not is_text(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as exc:
            row, value = _first_other(column)
            raise DataError(
                f"{origin.place(row)}: column '{name}' holds {value!r:.60}, which is not text in UTF-8; {UTF8_REMEDY}"
            ) from exc


def _first_other(column: pa.ChunkedArray) -> tuple[int, bytes]:
    """Return the row and the bytes of the first text that is not UTF-8."""
    row = 0
    for chunk in column.chunks:
        for value in chunk.cast(pa.large_binary()).to_pylist():
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                return row, value
            row += 1
    raise ValueError("all of the column is UTF-8")
