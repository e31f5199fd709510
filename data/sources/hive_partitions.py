"""Hive partitions: columns whose values stand in the names of folders, such as `region=north/day=2024-01-02/`.

Apache Hive's convention, which Spark, pandas, DuckDB and Arrow write too: `column=value`, percent-encoded, and
`__HIVE_DEFAULT_PARTITION__` for a null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from data.errors import DataError

_NULL = "__HIVE_DEFAULT_PARTITION__"
_FOLDER = re.compile(r"([^=/]+)=(.*)", re.DOTALL)
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

Partition = Mapping[str, "str | None"]
"""The values in the names of a file's folders, by column; None for a null."""


def is_partition(name: str) -> bool:
    """Return whether a folder's name is `column=value`."""
    return _FOLDER.fullmatch(name) is not None


def partition_of(folders: Iterable[str], path: object) -> dict[str, str | None]:
    """Return the partition that the names of some folders state, outermost first; other names state nothing.

    Raises:
        DataError: two of them state the same column, or one is not UTF-8 once decoded; `path` is named.
    """
    found: dict[str, str | None] = {}
    for folder in folders:
        match = _FOLDER.fullmatch(folder)
        if match is None:
            continue
        column, value = (_decoded(part, path) for part in match.groups())
        if column in found:
            raise DataError(f"{path}: two of its folders state the column '{column}'; rename one of them")
        found[column] = None if value == _NULL else value
    return found


def partition_types(partitions: Sequence[tuple[object, Partition]]) -> dict[str, pa.DataType]:
    """Return the type of every partition column: int64 where all values are whole numbers as written, else string.

    Text that does not print back the same, such as `01`, stays text, and with it the column.

    Args:
        partitions: path and partition of every file of a table.

    Raises:
        DataError: one file's folders state other columns than those of the first.
    """
    first_path, first = partitions[0]
    for path, partition in partitions:
        if list(partition) != list(first):
            raise DataError(
                f"{path}: its folders state the columns {_names(partition)}, but {_names(first)} for {first_path}; "
                "keep files of one layout in a folder of their own"
            )
    return {column: _type_of([partition[column] for _, partition in partitions]) for column in first}


def partition_column(value: str | None, kind: pa.DataType, rows: int) -> pa.Array:
    """Return a partition's value as a column of `rows` rows."""
    scalar = pa.scalar(int(value) if value is not None and pa.types.is_integer(kind) else value, kind)
    return pa.repeat(scalar, rows)


def _decoded(text: str, path: object) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: '{text}' in the name of its folder is not UTF-8, percent-encoded; rename it"
        ) from None


def _type_of(values: Sequence[str | None]) -> pa.DataType:
    stated = [value for value in values if value is not None]
    return pa.int64() if stated and all(map(_WHOLE.fullmatch, stated)) else pa.string()


def _names(partition: Partition) -> str:
    return ", ".join(partition) if partition else "(none)"
