"""Conversion of CSV to Parquet, one block at a time; a line that does not fit stops it with file, line and column."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.atomic_output import atomic_file
from data.sources.row_origin import Origin, with_origin

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
"""The column types that a user may declare, by name."""

_BLOCK_BYTES = 8 << 20
_ROW = re.compile(r"Row #(\d+): ?")
_COLUMN = re.compile(r"In CSV column #(\d+): ?")


@dataclass(frozen=True)
class Conversion:
    """One CSV file to convert, and its column types, inferred or declared, in the header's order."""

    source: Path
    types: Mapping[str, pa.DataType]


def csv_files(path: Path | str) -> list[Path]:
    """Return the file itself, or a folder's `*.csv` files in name order; raises DataError when there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(file for file in path.glob("*.csv") if file.is_file() and not file.name.startswith("."))
    if not files:
        raise DataError(f"{path}: the folder holds no .csv file")
    return files


def parse_types(pairs: list[str]) -> dict[str, pa.DataType]:
    """Read `column=type` pairs; raises DataError for one that is malformed or names no known type."""
    types: dict[str, pa.DataType] = {}
    for pair in pairs:
        column, _, kind = pair.rpartition("=")
        if not column or kind not in TYPES:
            raise DataError(f"--types {pair}: expected column=type with a type of: {', '.join(TYPES)}")
        types[column] = TYPES[kind]
    return types


def infer_types(file: Path, declared: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return the type of each column of a CSV file: as declared, else inferred from its first 8 MiB.

    Raises:
        DataError: the file cannot be read, is not UTF-8 or has no header, the header names a column twice, or it lacks
            a declared column.
    """
    with _Translated(file), _reader(file, declared) as reader:
        schema = reader.schema
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DataError(f"{file}: the header names column '{twice[0]}' twice")
    unknown = [name for name in declared if name not in schema.names]
    if unknown:
        raise DataError(f"{file}: no column '{unknown[0]}'; the header has: {', '.join(schema.names)}")
    return {field.name: _widened(file, field) for field in schema}


def convert_file(job: Conversion, target: Path, advance: Callable[[int], None]) -> int:
    """Convert one file; the target appears whole or not at all.

    Args:
        job: what to convert.
        target: the Parquet file.
        advance: called with the number of rows after each block.

    Returns:
        The number of rows converted.

    Raises:
        DataError: a broken line or a value that does not fit (file, line, column, what to do), or no rows.
    """
    schema = pa.schema(list(job.types.items()))
    rows = 0
    with atomic_file(target) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for batch in _batches(job):
            writer.write_batch(batch)
            rows += batch.num_rows
            advance(batch.num_rows)
        if rows == 0:
            raise DataError(f"{job.source}: the file has a header but no rows")
    return rows


def tables(job: Conversion) -> Iterator[pa.Table]:
    """Yield the rows of one file in order, with the columns of their origin; raises DataError as `convert_file`."""
    row = 0
    for batch in _batches(job):
        yield with_origin(pa.Table.from_batches([batch]), Origin(str(job.source), row))
        row += batch.num_rows
    if row == 0:
        raise DataError(f"{job.source}: the file has a header but no rows")


def _batches(job: Conversion) -> Iterator[pa.RecordBatch]:
    with _Translated(job.source), _reader(job.source, job.types) as reader:
        if reader.schema.names != list(job.types):
            raise DataError(
                f"{job.source}: the header is {', '.join(reader.schema.names)}; "
                f"expected {', '.join(job.types)} as in the first file"
            )
        yield from reader


def _reader(file: Path, types: Mapping[str, pa.DataType]) -> pyarrow.csv.CSVStreamingReader:
    return pyarrow.csv.open_csv(
        file,
        # Without threads, because only then do Arrow's errors carry the row.
        pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        pyarrow.csv.ParseOptions(newlines_in_values=True),
        pyarrow.csv.ConvertOptions(column_types=dict(types)),
    )


class _Translated:
    """Context manager that raises Arrow's errors about a file as DataError."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, (pa.ArrowException, OSError)):
            raise DataError(_explain(self._file, str(exc))) from exc


def _explain(file: Path, message: str) -> str:
    row, column = _ROW.search(message), _COLUMN.search(message)
    place = f"{file}, line {_line_of_record(file, int(row[1]))}" if row else f"{file}"
    reason = _COLUMN.sub("", _ROW.sub("", message)).strip().removeprefix("CSV parse error: ")
    if column is None:
        return f"{place}: {reason}; mend or remove the line" if row else f"{place}: {reason}"
    name = _header(file)[int(column[1])]
    reason = reason.removeprefix("CSV conversion error to ")
    return (
        f"{place}: column '{name}' does not fit {reason}; mend the value, or read the column as text: "
        f"--types {name}=string"
    )


def _line_of_record(file: Path, record: int) -> int:
    """Return the line on which a record starts: not the record's number where values before it hold line breaks."""
    try:
        with file.open(newline="", encoding="utf-8", errors="replace") as text:
            reader = csv.reader(text)
            for _ in range(record - 1):
                next(reader)
            return reader.line_num + 1
    except (csv.Error, StopIteration):
        return record


def _header(file: Path) -> list[str]:
    # utf-8-sig drops the byte-order mark that Excel writes, as Arrow does.
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as text:
        return next(csv.reader(text))


def _widened(file: Path, field: pa.Field) -> pa.DataType:
    if pa.types.is_binary(field.type):
        raise DataError(f"{file}: column '{field.name}' is not UTF-8 text; convert the file to UTF-8")
    # Types are inferred from the first block only. One without values may hold anything further down.
    if pa.types.is_null(field.type):
        return pa.string()
    # Whole seconds so far: fractions may follow.
    if pa.types.is_timestamp(field.type) and field.type.unit == "s":
        return pa.timestamp("us", field.type.tz)
    return field.type
