"""Conversion of CSV to Parquet, one block at a time; what does not fit stops it with file, line and column."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.sources.atomic_output import atomic_file
from data.sources.csv.blocks import TextBlocks
from data.sources.csv.column_types import TYPES, Column, Misfit, fits, infer, read
from data.sources.csv.dialect import Dialect, DialectOptions, line_of_row, recognise_dialect
from data.sources.csv.observations import why_text
from data.sources.row_origin import REPORT, Origin, with_origin

_DECIMAL_COMMA = re.compile(r"-?\d*,\d+")


@dataclass(frozen=True)
class Conversion:
    """One CSV file to convert: its columns in the header's order, and what is given of its dialect."""

    source: Path
    columns: tuple[Column, ...]
    options: DialectOptions = field(default_factory=DialectOptions)


@dataclass
class Converted:
    """What became of one file: rows, and what was not as usual in it.

    Attributes:
        notes: how the file was read.
        missing: of each column that has any, the words that were read as missing and how often; of text, `""` alone.
        infinite: of each column that has any, the number of infinities.
    """

    source: Path
    rows: int = 0
    comments: int = 0
    notes: tuple[str, ...] = ()
    missing: dict[str, Counter[str]] = field(default_factory=dict)
    infinite: Counter[str] = field(default_factory=Counter)


class Block(NamedTuple):
    """Rows of a block, and what became of the files that end in it."""

    rows: int
    files: list[Converted]


@dataclass(frozen=True)
class Inspected:
    """The columns of a CSV file, and what is to be said of those that are text but look like numbers, by name."""

    columns: tuple[Column, ...]
    observations: Mapping[str, str]


def inspect(file: Path, declared: Mapping[str, pa.DataType], options: DialectOptions) -> Inspected:
    """Recognise the dialect of a file, and infer the types that are not declared from its first 8 MiB.

    Raises:
        DataError: the file cannot be read or has no rows, its dialect is not clear, a line of the first is broken, or
            the header lacks a declared column.
    """
    dialect = _dialect(file, options)
    unknown = [name for name in declared if name not in dialect.header]
    if unknown:
        raise DataError(f"{file}: no column '{unknown[0]}'; the header has: {', '.join(dialect.header)}")
    block = next(iter(TextBlocks(file, dialect, ahead=False)), None)
    if block is None:
        raise _no_rows(file)
    texts = dict(zip(dialect.header, block.columns, strict=True))
    columns = tuple(infer(name, text, dialect.decimal, declared) for name, text in texts.items())

    def line_of(row: int) -> int:
        return line_of_row(file, dialect, row)

    said = {column.name: why_text(column, texts[column.name], dialect.decimal, line_of) for column in columns}
    return Inspected(columns, {name: text for name, text in said.items() if text})


def convert_file(job: Conversion, target: Path, advance: Callable[[int], None]) -> Converted:
    """Convert one file; the target appears whole or not at all.

    Args:
        job: what to convert.
        target: the Parquet file.
        advance: called with the number of rows after each block.

    Raises:
        DataError: a broken line or a value that does not fit (file, line, column, what to do), or no rows.
    """
    if target.exists() and target.samefile(job.source):
        raise DataError(f"{target}: is the CSV file itself; name another output")
    done = Converted(job.source)
    schema = pa.schema([(column.name, column.type) for column in job.columns])
    with (
        atomic_file(target) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd") as writer,
        ThreadPoolExecutor(1, "parquet-writer") as thread,
    ):
        # A block is compressed and written while the next one is read and checked; never more than one waits.
        written: Future[None] | None = None
        for batch in record_batches(job, done):
            if written is not None:
                written.result()
            written = thread.submit(writer.write_batch, batch)
            advance(batch.num_rows)
        if written is None:
            raise _no_rows(job.source)
        written.result()
    return done


def tables(job: Conversion) -> Iterator[pa.Table]:
    """Yield the rows of one file in order, with the columns of their origin and a column `REPORT`.

    That one is null but in the last row, which has the file's `Converted`, pickled.

    Raises:
        DataError: as `convert_file`.
    """
    done = Converted(job.source)
    held: pa.Table | None = None
    for batch in record_batches(job, done):
        if held is not None:
            yield _reported(held, None)
        row = done.rows - batch.num_rows
        held = with_origin(pa.Table.from_batches([batch]), Origin(str(job.source), row))
    if held is None:
        raise _no_rows(job.source)
    yield _reported(held, done)


def _reported(table: pa.Table, done: Converted | None) -> pa.Table:
    cells = [None] * (table.num_rows - 1) + [None if done is None else pickle.dumps(done)]
    return table.append_column(REPORT, pa.array(cells, pa.binary()))


def reported(block: pa.Table) -> Block:
    """Return the rows of a block of `tables`, and what has been said of files that end in it."""
    cells = block.column(REPORT).drop_null()
    return Block(block.num_rows, [pickle.loads(cell.as_py()) for cell in cells])


def record_batches(job: Conversion, done: Converted) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one file with the columns' types, and count in `done` what was met on the way.

    Raises:
        DataError: as `convert_file`.
    """
    dialect = _dialect(job.source, job.options)
    names = tuple(column.name for column in job.columns)
    if dialect.header != names:
        raise DataError(
            f"{job.source}: the header is {', '.join(dialect.header)}; expected {', '.join(names)} as in the first file"
        )
    done.notes = dialect.notes
    blocks = TextBlocks(job.source, dialect)
    for block in blocks:
        arrays = [
            _typed(job.source, dialect, column, text, done)
            for column, text in zip(job.columns, block.columns, strict=True)
        ]
        done.rows += block.num_rows
        yield pa.RecordBatch.from_arrays(arrays, names=list(names))
    done.comments = blocks.comments


def _typed(file: Path, dialect: Dialect, column: Column, text: pa.StringArray, done: Converted) -> pa.Array:
    try:
        values = read(text, column, dialect.decimal)
    except Misfit as misfit:
        line = line_of_row(file, dialect, done.rows + misfit.row)
        raise DataError(
            f"{file}, line {line}: column '{column.name}' does not fit {column.type}: {misfit}; "
            f"{_remedy(column, misfit, dialect.decimal)}"
        ) from None
    if values.missing:
        done.missing.setdefault(column.name, Counter()).update(values.missing)
    if values.infinite:
        done.infinite[column.name] += values.infinite
    return values.array


def _remedy(column: Column, misfit: Misfit, decimal: str) -> str:
    remedy = f"mend the value, or read the column as text: --types {column.name}=string"
    value = pa.array([misfit.value])
    kinds = () if column.declared else ("integer", "number")
    number = next((kind for kind in kinds if fits(value, Column("", TYPES[kind], declared=True), decimal)), None)
    if number:
        remedy += f", or as numbers: --types {column.name}={number}"
    elif decimal == "." and _DECIMAL_COMMA.fullmatch(misfit.value):
        remedy += ", or with a decimal comma: --decimal ,"
    return remedy


def _dialect(file: Path, options: DialectOptions) -> Dialect:
    try:
        return recognise_dialect(file, options)
    except OSError as exc:
        # Of what cannot be unpacked the reason alone is told, without a number of the operating system.
        reason = exc.strerror or f"{' '.join(str(exc).split())}; get the file again, or unpack it yourself"
        raise DataError(f"{file}: cannot be read: {reason}") from exc


def _no_rows(file: Path) -> DataError:
    return DataError(f"{file}: the file has a header but no rows")
