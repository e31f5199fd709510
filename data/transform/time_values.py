"""Time values that features derive from, as microseconds since 1970 UTC: of a column and of one value, by one rule.

A time is a timestamp or a date (without zone: UTC), an ISO 8601 string, or a whole number, read by its size as an event
time is. It lies in the years 1 to 9999. Unlike an event time it is read row by row: what is no time is marked, not
refused with its whole column, and strings with and without zone may stand side by side.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.transform.event_time import DAY_US, NO_TIME, event_us, fits_event_time
from data.transform.missing import blank_as_null, is_text

EXPECTED = "a time: ISO 8601 such as 2024-05-31T14:30:00Z, or a whole number since 1970"
"""What is accepted, for messages."""

_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_SIZES = ((10**11, 1_000_000), (10**14, 1000), (10**17, 1))
_NS_A_US = 1000
_INT64_MAX = int(np.iinfo(np.int64).max)
_UNIX_DAY = date(1970, 1, 1).toordinal()
_SHOWN = 40
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(?:Z|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
# The Gregorian calendar repeats itself after so many years and days.
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097


class Times(NamedTuple):
    """Times of n rows: `us` int64 of shape (n,), NO_TIME where there is none; `unreadable` marks what is no time."""

    us: np.ndarray
    unreadable: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """Which rows have no value at all, bool of shape (n,)."""
        return (self.us == NO_TIME) & ~self.unreadable


def time_us(value: object) -> int | None:
    """Return the time that one value, which is not missing, stands for; None if it is no time."""
    if isinstance(value, str):
        us = _parse(value)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INT64_MAX:
        us = next((value * factor for size, factor in _SIZES if abs(value) < size), value // _NS_A_US)
    else:
        return None
    return us if us is not None and _FIRST_US <= us <= _LAST_US else None


def times_us(column: pa.ChunkedArray, name: str) -> Times:
    """Return the times of a column.

    Raises:
        DataError: the column's type holds no times.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return times_us(column.cast(kind.value_type), name)
    if pa.types.is_null(kind):
        return Times(np.full(len(column), NO_TIME), np.zeros(len(column), bool))
    if not holds_times(kind):
        raise DataError(f"column '{name}' holds {kind}, expected timestamps, dates, ISO strings or whole numbers")
    if is_text(kind):
        column = blank_as_null(column.cast(pa.string()))
        us = _text_us(column, name)
    elif pa.types.is_integer(kind):
        us = _integer_us(column)
    else:
        us = _typed_us(column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    readable = present & (us >= _FIRST_US) & (us <= _LAST_US)
    return Times(np.where(readable, us, NO_TIME), present & ~readable)


def first_unreadable(column: pa.ChunkedArray, times: Times) -> str:
    """Return the first value of a column that is no time, for a message."""
    # Arrow writes what Python's calendar has no room for.
    value = column[int(np.argmax(times.unreadable))].cast(pa.string()).as_py()
    return repr(value[:_SHOWN])


def json_times(column: pa.ChunkedArray, name: str) -> list[str | int | None]:
    """Return a column of times as JSON carries them in a request, None where missing.

    Strings and whole numbers stay as they are, timestamps and dates become ISO 8601 strings in UTC.

    Raises:
        DataError: as `times_us`.
    """
    times, kind = times_us(column, name), column.type
    if pa.types.is_dictionary(kind):
        return json_times(column.cast(kind.value_type), name)
    if not pa.types.is_temporal(kind):
        return (blank_as_null(column) if is_text(kind) else column).to_pylist()
    known = times.us != NO_TIME
    texts = np.datetime_as_string(np.where(known, times.us, 0).astype("datetime64[us]"), "us").tolist()
    return [f"{text}Z" if there else None for text, there in zip(texts, known.tolist(), strict=True)]


def holds_times(kind: pa.DataType) -> bool:
    """Return whether `times_us` takes columns of this Arrow type."""
    return pa.types.is_null(kind) or is_text(kind) or fits_event_time(kind)


def _parse(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.group(1, 2, 3, 4, 5, 6))
    fraction, sign, *offset = found.group(7, 8, 9, 10)
    offset_hour, offset_minute = (int(part or 0) for part in offset)
    if max(hour, offset_hour) > 23 or max(minute, second, offset_minute) > 59:
        return None
    try:
        days = date(2000 + year % _CYCLE_YEARS, month, day).toordinal() - _UNIX_DAY
    except ValueError:
        return None
    days += (year // _CYCLE_YEARS - 5) * _CYCLE_DAYS
    east = (offset_hour * 60 + offset_minute) * (-1 if sign == "-" else 1)
    seconds = (hour * 60 + minute - east) * 60 + second
    return days * DAY_US + seconds * 1_000_000 + int((fraction or "").ljust(6, "0")[:6])


def _text_us(column: pa.ChunkedArray, name: str) -> np.ndarray:
    # All at once where all are written alike, which is a hundred times as fast.
    with suppress(DataError):
        return event_us(column, name)
    words = column.combine_chunks().dictionary_encode()
    read = [time_us(word) for word in words.dictionary.to_pylist()]
    us = np.array([NO_TIME if each is None else each for each in [*read, None]], np.int64)
    return us[words.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def _integer_us(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_uint64(column.type):
        too_large = pc.call_function("greater", [column, pa.scalar(_INT64_MAX, pa.uint64())])
        column = pc.call_function("if_else", [too_large, pa.scalar(None, pa.uint64()), column])
    values = pc.fill_null(column.cast(pa.int64()), NO_TIME).to_numpy(zero_copy_only=False)
    us = event_us(pa.chunked_array([pa.array(values)]), "")
    return np.where(values == NO_TIME, NO_TIME, us)


def _typed_us(column: pa.ChunkedArray) -> np.ndarray:
    """Return the times of a column of timestamps or dates; what lies far outside the calendar as NO_TIME."""
    kind = column.type
    if pa.types.is_date32(kind):
        factor, column = DAY_US, column.cast(pa.int32())
    else:
        unit = "ms" if pa.types.is_date64(kind) else kind.unit
        factor = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}[unit]
    values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return values // _NS_A_US
    near = (values >= _FIRST_US // factor) & (values <= _LAST_US // factor)
    return np.where(near, np.where(near, values, 0) * factor, NO_TIME)
