"""What is to be said of a text column that looks like numbers: why it is text, and which option would change that."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa

from data.sources.csv.column_types import TYPES, Column, Misfit, fits, has_no_value, is_missing, misfit, read
from data.sources.csv.records import printable
from data.sources.csv.text_arrays import count, inverted, matches

_SAMPLE_ROWS = 10_000
_FEW_ROWS = 100
_ENOUGH = 0.5
"""A column is spoken of when at least so much of it looks like numbers."""

_LOOKS = (
    (r"^-?\d{1,3}(?:[ ,.'\x{2019}\x{a0}\x{202f}]\d{3})+(?:[.,]\d+)?$", "with thousands separators; remove these"),
    (r"^-?\d*,\d+$", "with a decimal comma: --decimal ,"),
    (r"^-?\d*\.\d+$", "with a decimal point: --decimal ."),
    (r"^(?:[$€£¥]\s*-?[\d.,]*\d|-?[\d.,]*\d\s*[%$€£¥])$", "with a unit; remove it"),
)


def why_text(column: Column, text: pa.StringArray, decimal: str, line_of: Callable[[int], int]) -> str | None:
    """Return why a column that looks like numbers is text, and what to do about it; None when there is nothing to say.

    Args:
        column: the column as inferred or declared.
        text: its first values.
        decimal: the decimal sign, `.` or `,`.
        line_of: gives the line of a row in `text`.
    """
    if column.declared or not pa.types.is_string(column.type) or has_no_value(text):
        return None
    return _lost_spelling(column.name, text, decimal, line_of) or _looks(column.name, text, decimal, line_of)


def _lost_spelling(name: str, text: pa.StringArray, decimal: str, line_of: Callable[[int], int]) -> str | None:
    for kind in ("integer", "number"):
        declared = Column(name, TYPES[kind], declared=True)
        readable = fits(text, declared, decimal)
        searched = readable or _is_lossy(text, kind, decimal)
        found = misfit(text, Column(name, TYPES[kind]), decimal) if searched else None
        if found and readable:
            became = read(text.slice(found.row, 1), declared, decimal).array[0].as_py()
            return f"{_since(found, line_of)} would become {became}; --types {name}={kind} reads it as a number"
        if found and found.becomes:
            return f"{_since(found, line_of)} would become {found.becomes}"
    return None


def _is_lossy(text: pa.StringArray, kind: str, decimal: str) -> bool:
    """Tell whether the first values are numbers but for what a number would lose; quick."""
    found = misfit(text.slice(0, _FEW_ROWS), Column("", TYPES[kind]), decimal)
    return found is None or found.becomes is not None


def _since(found: Misfit, line_of: Callable[[int], int]) -> str:
    return f"text, since '{printable(found.value)}' (line {line_of(found.row)})"


def _looks(name: str, text: pa.StringArray, decimal: str, line_of: Callable[[int], int]) -> str | None:
    first = text.slice(0, _SAMPLE_ROWS)
    values = first.filter(inverted(is_missing(first)))
    if not len(values):
        return None
    plain = _share(values, rf"^[+-]?\d*[{decimal}]?\d+$")
    found = misfit(text, Column(name, TYPES["number"], declared=True), decimal) if plain >= _ENOUGH else None
    if found:
        remedy = "; with a decimal comma: --decimal ," if re.fullmatch(r"-?\d*,\d+", found.value) else ""
        return f"{_since(found, line_of)} is no number, but {_percent(plain)} of it is{remedy}"
    shares = {words: _share(values, look) for look, words in _LOOKS}
    words, share = max(shares.items(), key=lambda found: found[1])
    return f"text, but {_percent(share)} of it looks like numbers {words}" if share >= _ENOUGH else None


def _share(values: pa.StringArray, look: str) -> float:
    return count(matches(values, look)) / len(values)


def _percent(share: float) -> str:
    """Never 100 % of what is not all."""
    return f"{int(share * 100)} %"
