"""A prediction log as one table: a float column `feature_NAME` and a word column `source_NAME` for each feature."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.prediction_log.files import COLUMNS, LogFile, sources
from data.sources.parquet import atomic_file

_BESIDES = ("vector", "sources", "sent", "online")
_KEPT = [field for field in COLUMNS if field.name not in _BESIDES]


def write_wide(files: Iterable[LogFile], features: Iterable[str], path: Path | str) -> int:
    """Write the rows of several files as one Parquet file, a file in memory at a time; return how many there are.

    Without rows nothing is written. A feature that a file does not have is null in its rows.

    Args:
        files: read one after the other.
        features: of all files.
        path: of the table; it appears whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    schema = _schema(features)
    with_rows = (file for file in files if file.table.num_rows)
    first = next(with_rows, None)
    if first is None:
        return 0
    rows = 0
    with atomic_file(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for file in chain([first], with_rows):
            writer.write_table(widened(file, schema))
            rows += file.table.num_rows
    return rows


def widened(file: LogFile, schema: pa.Schema) -> pa.Table:
    """The rows of one file with the columns of `schema`."""
    table = file.table.combine_chunks()
    vectors = table.column("vector").combine_chunks().flatten().to_numpy().reshape(-1, len(file.features))
    letters = np.array(list("".join(table.column("sources").to_pylist()))).reshape(-1, len(file.features))
    columns = {field.name: table.column(field.name) for field in _KEPT}
    for at, name in enumerate(file.features):
        columns[f"feature_{name}"] = pa.array(vectors[:, at])
        columns[f"source_{name}"] = pa.array(sources("".join(letters[:, at])))
    absent = {field.name: pa.nulls(table.num_rows, field.type) for field in schema if field.name not in columns}
    return pa.table({field.name: (columns | absent)[field.name] for field in schema}, schema)


def _schema(features: Iterable[str]) -> pa.Schema:
    of_features = [
        field
        for name in dict.fromkeys(features)
        for field in (pa.field(f"feature_{name}", pa.float32()), pa.field(f"source_{name}", pa.string()))
    ]
    return pa.schema([*_KEPT, *of_features])
