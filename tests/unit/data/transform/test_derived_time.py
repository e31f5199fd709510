"""Derived features: what a column gives is to the bit what one value of a request gives."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.schema.features.feature import Derivation, Feature
from data.schema.features.feature_schema import FeatureSchema
from data.transform.derived_time import derive, derive_sent, with_derived
from data.transform.encoding import Transform
from data.transform.event_time import NO_TIME
from data.transform.time_values import json_times, time_us, times_us

_KINDS = [Derivation.HOUR, Derivation.WEEKDAY, Derivation.DAY, Derivation.MONTH]
_PARTS = [
    Feature.model_validate({"name": each.value, "type": "integer", "derive": each, "column": "t"}) for each in _KINDS
]
_AGE = Feature.model_validate({"name": "age", "type": "number", "derive": "age_days", "column": "t", "as_of": "now"})
_NAIVE = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
_ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def _written() -> st.SearchStrategy[str]:
    """Times as text: to the day, minute, second, microsecond or nanosecond, with a zone or without."""
    zoned = st.builds(lambda moment, zone: moment.replace(tzinfo=zone), _NAIVE, _ZONES)
    spelled = st.builds(
        lambda moment, spec, between: moment.isoformat(between, spec),
        _NAIVE | zoned,
        st.sampled_from(["minutes", "seconds", "milliseconds", "microseconds"]),
        st.sampled_from("T "),
    )
    nanoseconds = st.builds(lambda text, digits: text.replace("+", f"{digits:03d}+"), spelled, st.integers(0, 999))
    return spelled | nanoseconds | _NAIVE.map(lambda moment: moment.date().isoformat())


_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [s * 10**n + d for s in (1, -1) for n in (11, 14, 17) for d in (-1, 0, 1)]
)
_TEXTS = _written() | st.sampled_from(["", "  ", "soon", "2024-02-30", "2024-01-01T24:00", "0000-12-31T23:00-05:00"])
_VALUES = (
    st.lists(_TEXTS | st.none(), max_size=8)
    | st.lists(_written(), max_size=8)
    | st.lists(_NUMBERS | st.none(), max_size=8)
)


@given(_VALUES, _VALUES)
def test_a_column_and_its_values_one_by_one_give_the_same_bits(starts: list[Any], ends: list[Any]) -> None:
    """Strings with and without zone and whole numbers of any size, before 1970 too: offline equals online."""
    rows = min(len(starts), len(ends))
    table = pa.table({"t": pa.array(starts[:rows], _kind(starts)), "now": pa.array(ends[:rows], _kind(ends))})
    found = derive(table, [*_PARTS, _AGE])
    for feature in [*_PARTS, _AGE]:
        sent = [derive_sent(feature, {"t": start, "now": end}) for start, end in zip(starts, ends, strict=False)]
        alone = np.array([math.nan if value is None else float(value) for value in sent])
        assert found.values[feature.name].tobytes() == alone.tobytes()


def _kind(values: list[Any]) -> pa.DataType:
    return pa.int64() if any(isinstance(value, int) for value in values) else pa.string()


@given(st.lists(_NAIVE, min_size=1), st.sampled_from(["s", "ms", "us"]), st.none() | st.just("Europe/Zurich"))
def test_a_column_of_timestamps_gives_what_the_calendar_says(
    moments: list[datetime], unit: str, zone: str | None
) -> None:
    """Of any unit, with a zone or without: hour, weekday, day and month are those of Python's calendar in UTC."""
    whole = [moment.replace(microsecond=0) for moment in moments]
    column = pa.array(whole, pa.timestamp(unit)).cast(pa.int64()).cast(pa.timestamp(unit, zone))
    values = derive(pa.table({"t": column}), _PARTS).values
    expected = [[moment.hour, moment.weekday(), moment.day, moment.month] for moment in whole]
    assert np.column_stack(list(values.values())).tolist() == expected


@given(st.lists(_NAIVE.map(lambda moment: moment.isoformat()) | st.none()))
def test_what_a_replay_sends_of_a_column_is_read_as_the_column_is(texts: list[str | None]) -> None:
    """Timestamps become strings of a request that mean the same microsecond."""
    column = pa.chunked_array([pa.array(texts, pa.string()).cast(pa.timestamp("us"))])
    sent = json_times(column, "t")
    assert [NO_TIME if each is None else time_us(each) for each in sent] == times_us(column, "t").us.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-31", datetime(2024, 5, 31)),
        ("2024-05-31 14", datetime(2024, 5, 31, 14)),
        ("2024-05-31T14:30Z", datetime(2024, 5, 31, 14, 30)),
        ("2024-05-31T14:30:05.25+02:00", datetime(2024, 5, 31, 12, 30, 5, 250_000)),
        ("2024-05-31T14:30-0530", datetime(2024, 5, 31, 20)),
        ("1969-12-31T23:59:59.999999999", datetime(1969, 12, 31, 23, 59, 59, 999_999)),
    ],
)
def test_an_iso_string_is_read_in_utc(text: str, expected: datetime) -> None:
    """Without a zone it is in UTC, and digits below a microsecond are dropped."""
    assert time_us(text) == (expected - datetime(1970, 1, 1)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "31.05.2024",
        "2024-02-30",
        "2024-05-31T24:00",
        " 2024-05-31",
        "1717165800",
        1.5,
        True,
        [],
        2**63,
        1 - 10**11,
    ],
)
def test_what_is_no_time_is_not_guessed(value: object) -> None:
    """Other spellings, fractions, truth values and moments outside the calendar are no times."""
    assert time_us(value) is None


@pytest.mark.parametrize(
    "column",
    [
        pa.array([date(2024, 5, 31), None]),
        pa.array([datetime(2024, 5, 31), None], pa.date64()),
        pa.array(["2024-05-31", " "]).dictionary_encode(),
        pa.array(["2024-05-31T00:00:00Z", ""], pa.large_string()),
        pa.array(["2024-05-31", None], pa.string_view()),
        pa.array([1_717_113_600, None], pa.uint64()),
        pa.array([1_717_113_600_000, None]),
        pa.array([datetime(2024, 5, 31), None], pa.timestamp("ns")),
    ],
)
def test_every_kind_of_column_that_holds_times_is_read(column: pa.Array) -> None:
    """A missing value, '' and white space alone give a missing feature."""
    values = derive(pa.table({"t": column}), _PARTS).values
    assert [value[0] for value in values.values()] == [0, 4, 31, 5]
    assert all(math.isnan(value[1]) for value in values.values())


def test_a_number_beyond_any_time_is_marked_and_no_other_row_is_lost() -> None:
    """Whole numbers, seconds or timestamps that lie outside the calendar mark their own row alone."""
    for column in (pa.array([2**64 - 1, 0], pa.uint64()), pa.array([2**62, 0], pa.int64()).cast(pa.timestamp("s"))):
        times = times_us(pa.chunked_array([column]), "t")
        assert (times.unreadable.tolist(), int(times.us[1])) == ([True, False], 0)


def test_a_value_that_is_no_time_is_named_with_its_column() -> None:
    """Training refuses it, with the count, the first of them and what is expected."""
    with pytest.raises(DataError, match=r"column 't': 2 values are no times, the first 'soon'; expected a time: ISO"):
        with_derived(pa.table({"t": ["2024-05-31", "soon", "", "later"]}), _PARTS)


def test_a_column_without_times_is_refused() -> None:
    """Fractions of a number are no times."""
    with pytest.raises(DataError, match="column 't' holds double, expected timestamps, dates"):
        derive(pa.table({"t": [1.5]}), _PARTS)


def test_a_table_is_encoded_from_the_columns_and_a_column_of_the_features_own_name_is_not_looked_at() -> None:
    """The matrix has the derived numbers, missing ones with their default."""
    hour = _PARTS[0].model_copy(update={"default": 12})
    table = pa.table({"t": ["2024-05-31T14:30Z", None], "now": ["2024-06-01", "2024-06-01"], "hour": [99, 99]})
    matrix = Transform(FeatureSchema(features=(hour, _AGE))).matrix(table)
    np.testing.assert_array_equal(matrix, np.array([[14, 9.5 / 24], [12, np.nan]], np.float32))
