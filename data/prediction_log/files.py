"""The prediction log: what was answered, as Parquet. Its columns, and how it is read.

A replica appends to an Arrow stream (`*.arrows`), which a crash leaves readable up to its last flush, and turns it
into Parquet when it is full. Both are read here alike; so is what a crash left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.schema.value_source import ValueSource

STREAM = ".arrows"
PARQUET = ".parquet"
NAMES = b"features"
"""Key of the schema's metadata that holds the feature names as JSON, in the order of `vector`."""

_BY_LETTER = {source.letter: source for source in ValueSource}

COLUMNS = pa.schema(
    [
        pa.field("replica", pa.string()),
        pa.field("sequence", pa.int64()),
        pa.field("answered_at", pa.timestamp("us", tz="UTC")),
        pa.field("request_id", pa.string()),
        pa.field("entity", pa.string()),
        pa.field("version", pa.string()),
        pa.field("epoch", pa.int64()),
        pa.field("probability", pa.float32()),
        pa.field("label", pa.int8()),
        pa.field("latency_ms", pa.float32()),
        pa.field("degraded", pa.bool_()),
        pa.field("online_age_s", pa.float32()),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("sources", pa.string()),
        pa.field("sent", pa.string()),
        pa.field("online", pa.string()),
    ]
)
"""`vector` is what was scored; `sources` has a letter a feature (`ValueSource.letter`: r, o or d); `sent` and
`online` are the raw values as JSON, by name. `sequence` counts the rows of a replica that were to be logged: a gap is
a row that was lost."""


class LogFile(NamedTuple):
    """Rows of one file, with the names of the features in `vector`. `whole` is False when its end is missing."""

    table: pa.Table
    features: tuple[str, ...]
    whole: bool


def log_schema(features: tuple[str, ...]) -> pa.Schema:
    """The columns of a log of a model with these features."""
    return COLUMNS.with_metadata({NAMES: json.dumps(features).encode()})


def log_files(folder: Path | str) -> list[Path]:
    """The files of a log in the order of their names, which is that of time for each replica.

    Raises:
        DataError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: no folder of a prediction log; RAYSCORE_PREDICTION_LOG_SHARE switches the log on")
    return sorted(file for file in root.rglob("*") if file.suffix in (STREAM, PARQUET) and file.name[0] != ".")


def read_log(folder: Path | str) -> Iterator[LogFile]:
    """Read a log file by file.

    Raises:
        DataError: no such folder, or a Parquet file is broken.
    """
    for file in log_files(folder):
        yield read_file(file)


def read_file(file: Path) -> LogFile:
    """Read one file; of a stream that a crash cut short, all that is whole.

    Raises:
        DataError: it cannot be opened, a Parquet file is broken, or it is none of a prediction log.
    """
    if file.suffix == STREAM:
        return _read_stream(file)
    try:
        # Not `read_table`: it would take the folder's name for a column.
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{file}: not readable as Parquet: {exc}") from exc
    return LogFile(table, feature_names(file, table.schema), True)


def sources(letters: str) -> list[ValueSource]:
    """Where each feature's value came from."""
    return [_BY_LETTER[letter] for letter in letters]


def _read_stream(file: Path) -> LogFile:
    batches: list[pa.RecordBatch] = []
    schema, whole = COLUMNS, True
    try:
        opened = pa.OSFile(str(file))
    except OSError as exc:
        # Not a stream that was cut short: what is in it is not known, and must not be taken for nothing.
        raise DataError(f"{file}: not readable: {exc}") from exc
    try:
        with opened as source, pa.ipc.open_stream(source) as stream:
            schema = stream.schema
            while True:
                batches.append(stream.read_next_batch())
    except StopIteration:
        pass
    except (OSError, pa.ArrowException):
        whole = False
    return LogFile(pa.Table.from_batches(batches, schema), feature_names(file, schema), whole)


def feature_names(file: Path, schema: pa.Schema) -> tuple[str, ...]:
    """The features in `vector` of a file with this schema; raises DataError when it is none of a prediction log."""
    if schema.names != COLUMNS.names:
        raise DataError(f"{file}: no file of a prediction log: its columns are {', '.join(schema.names)[:200]}")
    return tuple(json.loads((schema.metadata or {}).get(NAMES, b"[]")))
