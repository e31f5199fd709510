"""Records of CSV text with the lines that they take: to recognise a dialect by, and to find the line at fault."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data.sources.csv.encoding import Coding, Head, open_utf8

# A field may be longer than the 128 KiB that Python's reader takes by default.
csv.field_size_limit(1 << 30)


def parse(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of its first line, counted from 1; an empty line has no fields."""
    reader = csv.reader(lines, delimiter=delimiter)
    first = 1
    for record in reader:
        yield first, record
        first = reader.line_num + 1


def head_lines(head: Head) -> list[str]:
    """Return the lines of a file's head with their ends, the last one too though it may be cut."""
    return list(io.StringIO(head.text, newline=""))


def sample(
    lines: Sequence[str], delimiter: str, whole: bool, comment: str | None, limit: int = 200
) -> list[tuple[int, list[str]]]:
    """Return the first records with their lines, without empty ones, comments and, unless `whole`, a last one cut."""
    found: list[tuple[int, list[str]]] = []
    last = 0
    for line, record in parse(lines, delimiter):
        last = line
        if record and not is_comment(record, comment):
            found.append((line, record))
        if len(found) > limit:
            return found
    return found if whole or not found or found[-1][0] != last else found[:-1]


def is_comment(record: Sequence[str], comment: str | None) -> bool:
    """Tell whether a record is a line that begins with the comment sign."""
    return comment is not None and bool(record) and record[0].startswith(comment)


def file_lines(file: Path, coding: Coding) -> Iterator[str]:
    """Yield the lines of a file with their ends."""
    with open_utf8(file, coding) as stream:
        yield from io.TextIOWrapper(io.BufferedReader(stream), "utf-8", errors="replace", newline="")  # pyright: ignore[reportArgumentType]


def printable(text: str) -> str:
    """Return a value fit for a message: cut when it is long, control characters escaped."""
    shown = text if len(text) <= 100 else f"{text[:100]}..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in shown)
