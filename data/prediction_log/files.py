"""The files of the prediction log, which has a row for each logged answer: its columns, and how it is read.

A replica appends to an Arrow stream (`*.arrows`), which a crash leaves readable up to its last flush, and turns it
into Parquet when it is full. Both are read here, also a stream that a crash cut short.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.schema.features.feature import Scalar
from data.schema.features.value_source import ValueSource

STREAM = ".arrows"
PARQUET = ".parquet"
FEATURES_KEY = b"features"
"""Key of the schema's metadata that holds the feature names as JSON, in the order of `vector`."""
LABELS_KEY = b"labels"
"""Key that holds the labels by their codes as JSON, null where numbers are answered; absent where they are 0 and 1."""
SCORES = "scores"
"""A column that logs of before it lack: in their rows it is null."""

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
        pa.field(SCORES, pa.list_(pa.float32())),
        pa.field("latency_ms", pa.float32()),
        pa.field("degraded", pa.bool_()),
        pa.field("online_age_s", pa.float32()),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("sources", pa.string()),
        pa.field("sent", pa.string()),
        pa.field("online", pa.string()),
    ]
)
"""`probability` is that of the positive label, or of the label that was answered; `label` is the code of the label: its
position among the labels. Both are null where numbers are answered. `scores` has all numbers of the model, null where
the probability says them. `vector` is what was scored; `sources` has a letter a feature (`ValueSource.letter`: r, o, d,
e or c); `sent` and `online` are the raw values as JSON, by name: as they were sent, and as the service found or
computed them, windows, expressions and the time that they are of included. `sequence` counts the rows of a replica that
were to be logged: a gap is a row that was lost."""


Labels = tuple[Scalar, ...] | None
"""The labels of a log by their codes; None where numbers are answered."""


class LogFile(NamedTuple):
    """The rows of one file, and the names of the features in `vector`. `whole` is False when its end is missing."""

    table: pa.Table
    features: tuple[str, ...]
    whole: bool
    labels: Labels = (0, 1)


def log_schema(features: tuple[str, ...], labels: Labels = (0, 1)) -> pa.Schema:
    """The Arrow schema of a log of a model with these features and labels."""
    said: dict[bytes, Any] = {FEATURES_KEY: features, LABELS_KEY: labels}
    return COLUMNS.with_metadata({key: json.dumps(value).encode() for key, value in said.items()})


def log_files(folder: Path | str) -> list[Path]:
    """The files of a log ordered by name, which for each replica is the order of time.

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
    """Read one file; of a stream that a crash cut short, all complete batches.

    Raises:
        DataError: it cannot be opened, is broken Parquet, or is not a file of a prediction log.
    """
    if file.suffix == STREAM:
        return _read_stream(file)
    try:
        # Not `read_table`: it would make a column of the folder's name, `date=...`.
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as exc:
        raise DataError(f"{file}: not readable as Parquet: {exc}") from exc
    return _log_file(file, table, True)


def logged_scores(row: Mapping[str, Any]) -> list[float]:
    """The model's numbers of a row of the log, given by the log's columns."""
    return list(row[SCORES] or [row["probability"]])


def sources(letters: str) -> list[ValueSource]:
    """Decode the column `sources`: the source of each feature's value."""
    return [_BY_LETTER[letter] for letter in letters]


def _read_stream(file: Path) -> LogFile:
    batches: list[pa.RecordBatch] = []
    schema, whole = COLUMNS, True
    try:
        opened = pa.OSFile(str(file))
    except OSError as exc:
        # Unlike a stream that was cut short: its rows are unknown, and must not be taken for none.
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
    return _log_file(file, pa.Table.from_batches(batches, schema), whole)


def _log_file(file: Path, table: pa.Table, whole: bool) -> LogFile:
    features, labels = feature_names(file, table.schema), labels_of(table.schema)
    if SCORES not in table.column_names:
        at = COLUMNS.names.index(SCORES)
        table = table.add_column(at, COLUMNS.field(at), pa.nulls(table.num_rows, COLUMNS.field(at).type))
    return LogFile(table, features, whole, labels)


def feature_names(file: Path, schema: pa.Schema) -> tuple[str, ...]:
    """The feature names of a file with this schema; raises DataError when it is not of a prediction log."""
    if schema.names not in (COLUMNS.names, [name for name in COLUMNS.names if name != SCORES]):
        raise DataError(f"{file}: no file of a prediction log: its columns are {', '.join(schema.names)[:200]}")
    return tuple(json.loads((schema.metadata or {}).get(FEATURES_KEY, b"[]")))


def labels_of(schema: pa.Schema) -> Labels:
    """The labels of a file with this schema, by their codes."""
    labels = json.loads((schema.metadata or {}).get(LABELS_KEY, b"[0, 1]"))
    return None if labels is None else tuple(labels)
