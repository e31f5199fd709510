"""Delimiter and decimal sign of a CSV file, recognised by its first records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from data.sources.csv.records import sample

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""The delimiters that are recognised, with their names."""

_FRACTION = re.compile(r"-?[0-9]*[.,][0-9]+")
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2},[0-9]{3}")


class Unclear(ValueError):
    """The delimiter, or the header, cannot be told: why and what to do, and the line, counted from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


def recognise_delimiter(lines: Sequence[str], whole: bool, comment: str | None) -> str:
    """Return the delimiter by which most records have as many fields as the header, and the most of them.

    Args:
        lines: the header and what is below it.
        whole: whether the file ends with them.
        comment: the sign of lines that are no records.

    Raises:
        Unclear: two delimiters do alike, or the only name in the header has a delimiter in quotes.
    """
    scores = {delimiter: _score(lines, delimiter, whole, comment) for delimiter in DELIMITERS}
    best = max(scores.values())
    winners = [delimiter for delimiter, score in scores.items() if score == best]
    if best[1] > 1:
        if len(winners) > 1:
            raise Unclear(1, f"{_names(winners)} divide it alike; say which: {_options(winners)}")
        return winners[0]
    for delimiter in DELIMITERS:
        check_header(lines, delimiter, whole, comment)
    inside = [delimiter for delimiter in DELIMITERS if delimiter in _header_text(lines, whole)]
    if inside:
        raise Unclear(
            1,
            f"the header is one name with {_names(inside)} in quotes; close the quote if it is open, or say what "
            "divides: --delimiter ,",
        )
    return ","


def check_header(lines: Sequence[str], delimiter: str, whole: bool, comment: str | None) -> None:
    """Raise Unclear when all records below the header agree on another number of fields."""
    records = sample(lines, delimiter, whole, comment)
    if len(records) < 3:
        return
    (line, header), below = records[0], {len(record) for _, record in records[1:]}
    if len(below) == 1 and len(header) not in below:
        raise Unclear(
            line,
            f"the header has {len(header)} {'fields' if len(header) > 1 else 'field'}, but the lines below have "
            f"{below.pop()}, divided by {DELIMITERS.get(delimiter, delimiter)}; mend it, remove what is above the "
            "header, or say what divides: --delimiter",
        )


def recognise_decimal(values: Iterable[str]) -> str:
    """Return `,` when there are fractions with a decimal comma and none with a point, else `.`.

    A comma before three digits may divide thousands, and proves nothing.
    """
    fractions = [value for value in values if _FRACTION.fullmatch(value)]
    if any("." in value for value in fractions) or all(map(_THOUSANDS.fullmatch, fractions)):
        return "."
    return ","


def _score(lines: Sequence[str], delimiter: str, whole: bool, comment: str | None) -> tuple[float, int]:
    widths = [len(record) for _, record in sample(lines, delimiter, whole, comment)]
    if not widths or widths[0] < 2:
        return -1.0, 0
    below = widths[1:]
    return (below.count(widths[0]) / len(below) if below else 1.0), widths[0]


def _header_text(lines: Sequence[str], whole: bool) -> str:
    records = sample(lines, ",", whole, None)
    return records[0][1][0] if records else ""


def _names(delimiters: Iterable[str]) -> str:
    return " and ".join(DELIMITERS[delimiter] for delimiter in delimiters)


def _options(delimiters: Iterable[str]) -> str:
    return " or ".join("--delimiter tab" if each == "\t" else f"--delimiter '{each}'" for each in delimiters)
