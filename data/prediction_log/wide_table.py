"""A prediction log as one wide table: columns `feature_NAME` (float32) and `source_NAME` (string) for each feature."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.prediction_log.files import COLUMNS, LogFile, sources
from data.sources.atomic_output import atomic_file

_REPLACED = ("vector", "sources", "sent", "online")
_KEPT = [field for field in COLUMNS if field.name not in _REPLACED]


def write_wide(files: Iterable[LogFile], features: Iterable[str], path: Path | str) -> int:
    """Write the rows of several files as one Parquet file, and return their number. One file is in memory at a time.

    Without rows nothing is written. A feature that a file does not have is null in its rows.

    Args:
        files: the files of the log.
        features: feature names of all files.
        path: the file to write; it appears complete or not at all.

    Raises:
        DataError: the file cannot be written.
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
    """Return the rows of one file with the columns of `schema`; features that it lacks are null."""
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
    feature_columns = [
        field
        for name in dict.fromkeys(features)
        for field in (pa.field(f"feature_{name}", pa.float32()), pa.field(f"source_{name}", pa.string()))
    ]
    return pa.schema([*_KEPT, *feature_columns])
