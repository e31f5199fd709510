"""Derived features: numbers computed from times, such as the hour, the weekday or an age in days, all in UTC.

One rule of integer arithmetic serves a whole column (numpy's int64) and one value (Python's int): `//` and `%` round
alike in both, before 1970 too, so that what is served is to the bit what was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.schema.features.feature import Derivation, Feature, FeatureType
from data.transform.event_time import DAY_US, NO_TIME
from data.transform.missing import is_blank
from data.transform.table_columns import named_column
from data.transform.time_values import EXPECTED, Times, first_unreadable, time_us, times_us

Integers = TypeVar("Integers", int, np.ndarray)

_HOUR_US = 3_600_000_000
_THURSDAY = 3
"""The weekday of 1 January 1970."""
# Days are counted from 1 March of the year 0 in cycles of 400, 100, 4 and 1 years: so leap days end a cycle.
_MARCH_0000 = 719_468
_DAYS_400, _DAYS_100, _DAYS_4 = 146_097, 36_524, 1_461


class Derived(NamedTuple):
    """Derived features of n rows: `values` by feature, float64 of shape (n,), NaN = missing; `times` by column."""

    values: dict[str, np.ndarray]
    times: dict[str, Times]


def derive(table: pa.Table, features: Sequence[Feature]) -> Derived:
    """Compute the derived ones among `features`; a row whose time is no time has a missing value.

    Raises:
        DataError: a column is missing, or its type holds no times.
    """
    derived = [feature for feature in features if feature.derive is not None]
    columns = dict.fromkeys(name for feature in derived for name in feature.inputs)
    times = {name: times_us(named_column(table, name), name) for name in columns}
    return Derived({feature.name: derive_from(feature, times) for feature in derived}, times)


def derive_from(feature: Feature, times: Mapping[str, Times]) -> np.ndarray:
    """Compute a derived feature of n rows from times by column: float64 of shape (n,), NaN where one is missing."""
    moments = [times[name].us for name in feature.inputs]
    known = np.logical_and.reduce([us != NO_TIME for us in moments])
    return np.where(known, _rule(feature)(*(np.where(known, us, 0) for us in moments)), np.nan)


def derive_value(feature: Feature, times: Mapping[str, int | None]) -> int | float | None:
    """Compute a derived feature of one row from its times by column; None when one of them is missing."""
    moments = [times[name] for name in feature.inputs]
    return None if None in moments else _rule(feature)(*moments)


def derive_sent(feature: Feature, sent: Mapping[str, object]) -> int | float | None:
    """Compute a derived feature of the fields of an accepted request; None when one of its times is missing."""
    fields = {name: sent.get(name) for name in feature.inputs}
    return derive_value(feature, {name: None if is_blank(each) else time_us(each) for name, each in fields.items()})


def with_derived(table: pa.Table, features: Sequence[Feature]) -> pa.Table:
    """Return a table with a column for each derived one among `features`, in place of any of the same name.

    Raises:
        DataError: as `derive`, or a value is no time: the column, how many, and the first are named.
    """
    found = derive(table, features)
    for name, times in found.times.items():
        _refuse_unreadable(table, name, times)
    for feature in features:
        if feature.derive is not None:
            table = _with_column(table, feature, found.values[feature.name])
    return table


def _rule(feature: Feature) -> Callable[..., Any]:
    if feature.derive is None:
        raise ValueError(f"feature '{feature.name}' is not derived")
    return _RULES[feature.derive]


def _age_days(moment: Integers, as_of: Integers) -> Any:
    # Both divide the float64 nearest to the whole number, which Python's division of integers alone would not.
    return (as_of - moment) * 1.0 / DAY_US


def _hour(moment: Integers) -> Integers:
    return moment // _HOUR_US % 24


def _weekday(moment: Integers) -> Integers:
    return (moment // DAY_US + _THURSDAY) % 7


def _day(moment: Integers) -> Integers:
    day = _day_from_march(moment)
    return day - (153 * _month_from_march(day) + 2) // 5 + 1


def _month(moment: Integers) -> Integers:
    return (_month_from_march(_day_from_march(moment)) + 2) % 12 + 1


def _month_from_march(day: Integers) -> Integers:
    """The month of a day of the year, both from 0 in March: five months have 153 days in all, again and again."""
    return (5 * day + 2) // 153


def _day_from_march(moment: Integers) -> Integers:
    """The day of the year, from 0 on 1 March."""
    day = (moment // DAY_US + _MARCH_0000) % _DAYS_400
    year = (day - day // (_DAYS_4 - 1) + day // _DAYS_100 - day // (_DAYS_400 - 1)) // 365
    return day - (365 * year + year // 4 - year // 100)


_RULES: dict[Derivation, Callable[..., Any]] = {
    Derivation.AGE_DAYS: _age_days,
    Derivation.HOUR: _hour,
    Derivation.WEEKDAY: _weekday,
    Derivation.DAY: _day,
    Derivation.MONTH: _month,
}


def _refuse_unreadable(table: pa.Table, name: str, times: Times) -> None:
    count = int(times.unreadable.sum())
    if count:
        raise DataError(
            f"column '{name}': {count:,} values are no times, the first {first_unreadable(table.column(name), times)}; "
            f"expected {EXPECTED}; correct them (rayscore validate lists the rows) or make them null"
        )


def _with_column(table: pa.Table, feature: Feature, values: np.ndarray) -> pa.Table:
    missing = np.isnan(values)
    kind = pa.int64() if feature.type is FeatureType.INTEGER else pa.float64()
    filled = np.where(missing, 0, values)
    column = pa.array(filled.astype(np.int64) if pa.types.is_integer(kind) else filled, kind, mask=missing)
    if feature.name in table.column_names:
        return table.set_column(table.column_names.index(feature.name), feature.name, column)
    return table.append_column(feature.name, column)
