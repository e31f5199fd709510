"""Dialect of a CSV file: coding, delimiter, decimal sign and header; recognised where it is not given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data.errors import DataError
from data.sources.csv.delimiter import DELIMITERS, Unclear, check_header, recognise_decimal, recognise_delimiter
from data.sources.csv.encoding import Coding, parse_encoding, recognise_coding
from data.sources.csv.header import column_names, lines_before
from data.sources.csv.records import file_lines, head_lines, is_comment, parse, sample
from data.sources.row_origin import RESERVED

_DECIMAL_RECORDS = 5000


@dataclass(frozen=True)
class DialectOptions:
    """What a user gives of a dialect; what is None is recognised."""

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Dialect:
    """How a file is read. `header` is the columns' names, `skip` how many lines there are up to the first row."""

    coding: Coding
    delimiter: str
    decimal: str
    comment: str | None
    header: tuple[str, ...]
    skip: int
    notes: tuple[str, ...]


def parse_options(
    delimiter: str | None, decimal: str | None, encoding: str | None, comment: str | None
) -> DialectOptions:
    """Check what a user gives of a dialect; raises DataError for what no file can have."""
    if delimiter is not None:
        delimiter = {"tab": "\t", r"\t": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise DataError(f"--delimiter {delimiter!r}: expected one ASCII character, such as ';', or tab")
    if decimal not in (None, ".", ","):
        raise DataError(f"--decimal {decimal!r}: expected . or ,")
    if comment is not None and (len(comment) != 1 or comment in '"\r\n'):
        raise DataError(f"--comment {comment!r}: expected one character, such as #")
    return DialectOptions(delimiter, decimal, parse_encoding(encoding) if encoding else None, comment)


def recognise_dialect(file: Path, options: DialectOptions) -> Dialect:
    """Recognise what the options leave open, by the first MiB of a file.

    Raises:
        DataError: the file is empty, no text or not in its encoding; the delimiter is not clear; or the header names a
            column twice or has not as many names as the rows have values.
        OSError: it cannot be read.
    """
    coding, head = recognise_coding(file, options.encoding)
    lines = head_lines(head)
    before, separator = lines_before(lines, options.delimiter, options.comment)
    below = lines[before:]
    try:
        delimiter = options.delimiter or separator or recognise_delimiter(below, head.whole, options.comment)
        check_header(below, delimiter, head.whole, options.comment)
    except Unclear as exc:
        raise DataError(f"{file}, line {before + exc.line}: {exc}") from None
    records = [record for _, record in sample(below, delimiter, head.whole, options.comment)]
    if not records:
        raise DataError(f"{file}: no line is a header" if head.whole else f"{file}: the header is longer than 1 MiB")
    if head.whole and len(records) == 1:
        raise DataError(f"{file}: the file has a header but no rows")
    names, notes = column_names(records[0])
    _check_names(file, names)
    decimal = options.decimal or _decimal(below, delimiter, head.whole, options.comment)
    told = _told(coding, delimiter, decimal, before)
    skip = before + _header_lines(below, delimiter)
    return Dialect(coding, delimiter, decimal, options.comment, names, skip, (*told, *notes))


def rows_of(file: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a file as its line, counted from 1, and its fields; slow, to find what is wrong."""
    lines = islice(file_lines(file, dialect.coding), dialect.skip, None)
    for line, record in parse(lines, dialect.delimiter):
        # In a file of one column an empty line is an empty value.
        if (record or len(dialect.header) == 1) and not is_comment(record, dialect.comment):
            yield dialect.skip + line, record


def line_of_row(file: Path, dialect: Dialect, row: int) -> int:
    """Return the line, counted from 1, on which a row begins; rows count from 0."""
    return next(islice(rows_of(file, dialect), row, None), (dialect.skip + 1, []))[0]


def _decimal(lines: list[str], delimiter: str, whole: bool, comment: str | None) -> str:
    if delimiter == ",":
        return "."
    records = sample(lines, delimiter, whole, comment, _DECIMAL_RECORDS)
    return recognise_decimal(value for _, record in records[1:] for value in record)


def _header_lines(lines: list[str], delimiter: str) -> int:
    records = parse(lines, delimiter)
    next(records)
    return next(records, (len(lines) + 1, []))[0] - 1


def _check_names(file: Path, names: tuple[str, ...]) -> None:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{file}: the header names column '{name}' twice")
    reserved = [name for name in names if name in RESERVED]
    if reserved:
        raise DataError(f"{file}: column '{reserved[0]}' has a name that rows read here use themselves; rename it")


def _told(coding: Coding, delimiter: str, decimal: str, before: int) -> list[str]:
    """Say how a file is read, where that is not how most are."""
    parts = [coding.encoding] if coding.encoding != "utf-8" else []
    parts += [coding.compression] if coding.compression else []
    parts += [f"delimiter {DELIMITERS.get(delimiter, delimiter)}"] if delimiter != "," else []
    parts += ["decimal comma"] if decimal == "," else []
    parts += [f"{before} {'lines' if before > 1 else 'line'} before the header left out"] if before else []
    return [", ".join(parts)] if parts else []
