"""Event times: timestamps, dates, ISO strings and epoch numbers, all read as microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.transform.missing import blank_as_null

NO_TIME = int(np.iinfo(np.int64).min)
"""Stands for the event time of a row that has none."""

DAY_US = 86_400_000_000
"""A day in microseconds."""

# Arrow parses strings with a zone offset only into a type with a zone, those without only into a type without, and no
# more digits of a second than the unit has: so each type is tried.
_STRING_TIMES = (pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
_ALL_FORMS = (1 << len(_STRING_TIMES)) - 1
_ZONED_FORMS = sum(1 << at for at, kind in enumerate(_STRING_TIMES) if kind.tz)
_ZONED = r"[T ]\d.*(Z|[+-]\d\d(:?\d\d)?)$"


def event_us(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return event times as int64 of shape (n,): microseconds since 1970 UTC, `NO_TIME` where null or blank.

    Takes timestamps (without zone: UTC), dates, ISO 8601 strings, and whole numbers, each read by its size:
    below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds.

    Raises:
        DataError: the column holds something else.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return event_us(column.cast(kind.value_type), name)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parse_times(column, name)
    if pa.types.is_integer(kind):
        return _by_size(_int64(column, name), column.is_null().to_numpy(zero_copy_only=False))
    if not is_time(column.type):
        raise DataError(f"column '{name}' holds {kind}, expected timestamps, dates, ISO strings or whole numbers")
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Not by a cast to microseconds, which Arrow refuses when it would drop digits.
        values = _int64(column.cast(pa.int64()), name) // 1000
    else:
        values = _int64(column.cast(pa.timestamp("us")).cast(pa.int64()), name)
    return np.where(column.is_null().to_numpy(zero_copy_only=False), NO_TIME, values)


def time_forms(column: pa.ChunkedArray, name: str) -> int:
    """Return by which of the forms of ISO 8601 a part of a column can be read, a bit each; all for what is no text.

    Parts that `event_us` takes one by one are one column that it takes when `check_forms` takes all of their forms.

    Raises:
        DataError: by none of them.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return time_forms(column.cast(kind.value_type), name)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return _ALL_FORMS
    texts = blank_as_null(column)
    forms = sum(1 << at for at, each in enumerate(_STRING_TIMES) if _casts(texts, each))
    if not forms:
        _parse_times(column, name)
    return forms


def check_forms(name: str, parts: Iterable[int]) -> None:
    """Check the `time_forms` of the parts of one column.

    Raises:
        DataError: no form fits all of them.
    """
    given = [forms for forms in parts if forms != _ALL_FORMS]
    if reduce(and_, given, _ALL_FORMS):
        return
    if len({bool(forms & _ZONED_FORMS) for forms in given}) > 1:
        raise _zones_differ(name)
    raise DataError(f"column '{name}': not ISO 8601 times: digits below a microsecond, and years that have none")


def moment(microseconds: int) -> str:
    """Format an event time (microseconds since 1970 UTC) to the minute; beyond the calendar as a plain number."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat(" ", "minutes")[:16]
    except (ValueError, OverflowError, OSError):
        return f"{microseconds} us"


def iso_time(microseconds: int) -> str:
    """Format an event time (microseconds since 1970 UTC) as ISO 8601, years beyond the calendar included."""
    try:
        return datetime.fromtimestamp(microseconds / 1e6, timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{np.datetime64(microseconds, 'us')}+00:00"


def is_time(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is a timestamp or a date."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def fits_event_time(kind: pa.DataType) -> bool:
    """Return whether `event_us` takes columns of this Arrow type."""
    if pa.types.is_dictionary(kind):
        return fits_event_time(kind.value_type)
    return is_time(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _parse_times(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    problem: Exception | None = None
    column = blank_as_null(column)
    for kind in _STRING_TIMES:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid as exc:
            problem = problem or exc
    zoned = pc.call_function("match_substring_regex", [column], pc.MatchSubstringOptions(_ZONED))
    if len(pc.call_function("unique", [zoned.drop_null()])) > 1:
        raise _zones_differ(name) from problem
    raise DataError(f"column '{name}': not ISO 8601 times: {problem}") from problem


def _casts(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _zones_differ(name: str) -> DataError:
    return DataError(
        f"column '{name}': some of its times name a zone and others none, such as 2024-05-31T14:30:00Z and "
        "2024-05-31T14:30:00; write all of them alike"
    )


def _int64(column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as exc:
        raise DataError(f"column '{name}': {exc}") from exc


def _by_size(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    # Seconds below 1e11 reach the year 5138; the same numbers as milliseconds would all lie before March 1973.
    # The smallest 64-bit integer has no positive counterpart: its size would be negative.
    size = np.abs(np.maximum(values, -np.iinfo(np.int64).max))
    choices = [values * 1_000_000, values * 1000, values, values // 1000]
    sized = np.select([size < 10**11, size < 10**14, size < 10**17], choices[:3], choices[3])
    return np.where(absent, NO_TIME, sized)
