"""Header of a CSV file: the lines before it, and the names in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data.sources.csv.delimiter import DELIMITERS
from data.sources.csv.records import parse

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?[0-9.,]*[0-9][0-9.,]*\s*")
_PLAIN_NAME = re.compile(r"[\w .()/%-]*")


def lines_before(lines: Sequence[str], delimiter: str | None, comment: str | None) -> tuple[int, str | None]:
    """Return how many lines come before the header, and the delimiter that a line `sep=;` of Excel names.

    Empty lines and comments come before it. Without a comment sign, lines that begin with `#` are comments but for the
    last when it is a header.
    """
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    separator = _SEPARATOR_LINE.fullmatch(lines[first]) if lines else None
    first += bool(separator)
    header = first
    while header < len(lines) and (not lines[header].strip() or lines[header].startswith(comment or "#")):
        header += 1
    marked = [number for number in range(first, header) if lines[number].strip()]
    if comment is None and marked and _is_header(lines[marked[-1]], lines[header:], delimiter):
        header = marked[-1]
    return header, separator[1] if separator else None


def column_names(header: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns' names and what is odd about them; a column without a name is called by its position."""
    names = tuple(name if name.strip() else f"column_{number}" for number, name in enumerate(header, 1))
    notes = [f"the header has no name for {name}" for name in names if name not in header]
    if all(map(_NUMBER.fullmatch, header)):
        notes.append(f"the header is nothing but numbers ({', '.join(header):.60}); if it is a row, add a header")
    if len(header) == 1 and not _PLAIN_NAME.fullmatch(header[0]):
        notes.append(f"one column, '{header[0]:.60}'; if it is several, say what divides them: --delimiter")
    blank = [name for name in names if name != name.strip()]
    if blank:
        notes.append(f"the header has blanks around '{blank[0]}'; they are part of the name")
    return names, notes


def _is_header(line: str, below: Sequence[str], delimiter: str | None) -> bool:
    """Tell a header that begins with `#` from a comment: it has as many names as the next line has values."""
    below = [each for each in below[:10] if each.strip()]
    if not below:
        return True
    inside = [delimiter] if delimiter else [mark for mark in DELIMITERS if mark in line]
    if inside:
        return any(_goes_with(line, below, mark) for mark in inside)
    return all(_goes_with(line, below, mark) for mark in DELIMITERS)


def _goes_with(line: str, below: Sequence[str], delimiter: str) -> bool:
    header, *records = (record for _, record in parse([line, *below], delimiter))
    return bool(records) and len(header) == len(records[0]) and not _is_named(records)


def _is_named(records: Sequence[Sequence[str]]) -> bool:
    """Tell whether records begin with a header of their own: no number in it, but one in the next."""
    numbers = [sum(map(bool, map(_NUMBER.fullmatch, record))) for record in records]
    return len(numbers) > 1 and numbers[0] == 0 < numbers[1]
