"""Types of CSV columns: declared or inferred, and the one way from text to values of a type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.sources.csv.number_text import first_lossy, keeps_digits, prints_back
from data.sources.csv.records import printable
from data.sources.csv.text_arrays import (
    count,
    is_among,
    is_empty,
    matches,
    replaced,
    trimmed,
    unsigned,
    where,
    words_of,
)

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}
"""The column types that a user may declare, by name."""

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("N/A", "NA", "NULL", "NaN", "Nan", "NAN", "n/a", "nan", "null"),
)
"""What stands for a missing value, but in a column of text."""

_FEW_ROWS = 100
_TIME_OF_DAY = r"^[0-9]{2}:[0-9]{2}(?::[0-9]{2})?$"
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")

_INFERRED = (
    *(pa.int64(), pa.bool_(), pa.float64(), pa.date32(), pa.time32("s")),
    *(pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("us")),
    *(pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")),
)
"""In this order; the first that every value fits is the column's type, else it is text."""


@dataclass(frozen=True)
class Column:
    """A column's name and type; a declared one is read with less care for spelling, as the user knows what it is."""

    name: str
    type: pa.DataType
    declared: bool = False


@dataclass(frozen=True)
class Values:
    """A column's values; how many were missing, by the word that stood for it (text keeps it); how many infinite."""

    array: pa.Array
    missing: Counter[str]
    infinite: int = 0


class Misfit(ValueError):
    """A value that does not fit its column: its row in the block, itself, and what it would become, if anything."""

    def __init__(self, row: int, value: str, becomes: str | None = None) -> None:
        shown = f"'{printable(value)}'"
        super().__init__(f"{shown} would become {becomes}" if becomes else shown)
        self.row = row
        self.value = value
        self.becomes = becomes


def parse_types(pairs: Sequence[str]) -> dict[str, pa.DataType]:
    """Read `column=type` pairs; raises DataError for one that is malformed or names no known type."""
    types: dict[str, pa.DataType] = {}
    for pair in pairs:
        column, _, kind = pair.rpartition("=")
        if not column or kind not in TYPES:
            raise DataError(f"--types {pair}: expected column=type with a type of: {', '.join(TYPES)}")
        types[column] = TYPES[kind]
    return types


def infer(name: str, text: pa.StringArray, decimal: str, declared: Mapping[str, pa.DataType]) -> Column:
    """Return a column with its type: as declared, else the first that fits every value of `text`, else string."""
    if name in declared:
        return Column(name, declared[name], declared=True)
    if has_no_value(text):
        # Without values so far: anything may follow.
        return Column(name, pa.string())
    kind = next((kind for kind in _INFERRED if fits(text, Column(name, kind), decimal)), pa.string())
    # Whole seconds so far: fractions may follow.
    return Column(name, pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) and kind.unit == "s" else kind)


def fits(text: pa.StringArray, column: Column, decimal: str) -> bool:
    """Tell whether every value of `text` fits a column's type."""
    # The first few tell most misfits; to find one among all takes longer.
    return all(misfit(part, column, decimal) is None for part in (text.slice(0, _FEW_ROWS), text))


def misfit(text: pa.StringArray, column: Column, decimal: str) -> Misfit | None:
    """Return the first value that does not fit a column's type, or None."""
    try:
        read(text, column, decimal)
    except Misfit as found:
        return found
    return None


def read(text: pa.StringArray, column: Column, decimal: str) -> Values:
    """Turn text into values of a column's type.

    Args:
        text: the values as they are written; none is null.
        column: what they are to become.
        decimal: the decimal sign, `.` or `,`.

    Raises:
        Misfit: the first value that is not of the type, or that a number would not keep.
    """
    if pa.types.is_string(column.type):
        empty = count(is_empty(text))
        return Values(text, Counter({"": empty} if empty else {}))
    spelled = _spelled(text, column, decimal)
    spelled, array = _cast_present(text, spelled, column)
    _refuse_lossy(text, spelled, array, column)
    missing = Counter(words_of(text.filter(array.is_null()))) if array.null_count else Counter[str]()
    return Values(array, missing, _infinite(array))


def is_missing(text: pa.StringArray) -> pa.BooleanArray:
    """Mark what stands for a missing value where a column is no text."""
    return is_among(text, MISSING)


def has_no_value(text: pa.StringArray) -> bool:
    """Tell whether all of a column is missing."""
    return all(count(is_missing(part)) == len(part) for part in (text.slice(0, _FEW_ROWS), text))


def _spelled(text: pa.StringArray, column: Column, decimal: str) -> pa.StringArray:
    """Return numbers as Arrow spells them; a declared one may have blanks around it and a plus."""
    if not _is_number(column.type):
        return trimmed(text) if column.declared else text
    if decimal == ",":
        # A point is no decimal sign then: no number may come of it.
        text = replaced(replaced(text, ".", "'"), ",", ".")
    return unsigned(trimmed(text)) if column.declared else text


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _cast(text: pa.StringArray, column: Column) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return _booleans(text, column.declared)
    if pa.types.is_time(column.type):
        if count(matches(text, _TIME_OF_DAY)) + text.null_count < len(text):
            raise pa.ArrowInvalid("no time of day")
        # Arrow casts no text to a time of day, but to a moment.
        moments = pc.call_function("binary_join_element_wise", ["1970-01-01", text, " "])
        return moments.cast(pa.timestamp("s")).cast(column.type)
    return text.cast(column.type)


def _cast_present(text: pa.StringArray, spelled: pa.StringArray, column: Column) -> tuple[pa.StringArray, pa.Array]:
    """Return the spelled values and what they are cast to, null where one is missing."""
    # All are there, or the missing ones are empty: either is told sooner than by the words for missing ones.
    with suppress(pa.ArrowInvalid):
        return spelled, _cast_without_nan(spelled, column)
    filled = _nulled(spelled, is_empty(text))
    with suppress(pa.ArrowInvalid):
        return filled, _cast_without_nan(filled, column)
    filled = _nulled(spelled, is_missing(text))
    return filled, _cast_or_misfit(text, filled, column)


def _nulled(text: pa.StringArray, absent: pa.BooleanArray) -> pa.StringArray:
    return where(absent, pa.scalar(None, pa.string()), text)


def _cast_without_nan(text: pa.StringArray, column: Column) -> pa.Array:
    array = _cast(text, column)
    if pa.types.is_floating(column.type) and count(pc.call_function("is_nan", [array])):
        raise pa.ArrowInvalid("a word for missing values was read as NaN")
    return array


def _booleans(text: pa.StringArray, declared: bool) -> pa.BooleanArray:
    yes = is_among(text, [*_TRUE, *(["1"] if declared else [])])
    no = is_among(text, [*_FALSE, *(["0"] if declared else [])])
    if count(yes) + count(no) + text.null_count < len(text):
        raise pa.ArrowInvalid("neither true nor false")
    return where(text.is_null(), pa.scalar(None, pa.bool_()), yes)


def _cast_or_misfit(text: pa.StringArray, spelled: pa.StringArray, column: Column) -> pa.Array:
    try:
        return _cast(spelled, column)
    except pa.ArrowInvalid:
        row = _first_unfit(spelled, column)
        raise Misfit(row, text[row].as_py()) from None


def _first_unfit(text: pa.StringArray, column: Column) -> int:
    """Return the row of the first value that cannot be cast, by halves: Arrow does not name it."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(text.slice(low, middle - low), column)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def _infinite(array: pa.Array) -> int:
    return count(pc.call_function("is_inf", [array])) if pa.types.is_floating(array.type) else 0


def _refuse_lossy(text: pa.StringArray, spelled: pa.StringArray, array: pa.Array, column: Column) -> None:
    if not _is_number(column.type):
        return
    row = first_lossy(spelled, array, keeps_digits if column.declared else prints_back)
    if row is not None:
        raise Misfit(row, text[row].as_py(), str(array[row].as_py()))
