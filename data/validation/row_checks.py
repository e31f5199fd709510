"""Row checks: the validation checks that need one chunk of a table and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.feature_schema import Feature, FeatureType
from data.schema.use_case import UseCase
from data.transform.encoding import as_floats, as_strings
from data.transform.event_time import NO_TIME

OUT_OF_ORDER = "earlier than the row before"
"""Reason given for a row whose event time precedes that of the row before it."""

_DAY_US = 86_400_000_000
_MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """The outcome of one check on a chunk of n rows: `mask`, bool of shape (n,), is true for rows that fail."""

    column: str
    reason: str
    mask: np.ndarray


def row_checks(table: pa.Table, use_case: UseCase, times: np.ndarray | None, now_us: int) -> Iterator[Check]:
    """Yield every check of a chunk of n rows, also those that no row failed.

    Args:
        table: the columns that the use case declares, n rows.
        use_case: what is declared.
        times: event times as `event_us` returns them, shape (n,); None without an event time.
        now_us: current time in microseconds since 1970 UTC.

    Raises:
        DataError: a column is of a type that cannot hold what is declared.
    """
    for feature in use_case.features.values():
        column = table.column(feature.name)
        if feature.type is FeatureType.CATEGORY:
            yield from _category_checks(feature, column)
        else:
            yield from _number_checks(feature, as_floats(column, feature.name))
    labels = as_floats(table.column(use_case.label), use_case.label)
    yield Check(use_case.label, _MISSING, np.isnan(labels))
    yield Check(use_case.label, "label is neither 0 nor 1", ~np.isnan(labels) & (labels != 0) & (labels != 1))
    for name in (use_case.key, use_case.entity.column if use_case.entity else None):
        if name:
            yield Check(name, _MISSING, table.column(name).is_null().to_numpy(zero_copy_only=False))
    if times is not None and use_case.event_time:
        absent = times == NO_TIME
        yield Check(use_case.event_time, _MISSING, absent)
        yield Check(use_case.event_time, "more than a day in the future", times > now_us + _DAY_US)
        yield Check(use_case.event_time, OUT_OF_ORDER, _late(times, absent))


def _category_checks(feature: Feature, column: pa.ChunkedArray) -> Iterator[Check]:
    words = as_strings(column, feature.name)
    absent = words.is_null().to_numpy(zero_copy_only=False)
    if feature.required:
        yield Check(feature.name, _MISSING, absent)
    if feature.vocabulary is not None:
        known = pc.call_function("is_in", [words], pc.SetLookupOptions(pa.array(feature.vocabulary, pa.string())))
        yield Check(feature.name, "category not in the vocabulary", ~known.to_numpy() & ~absent)


def _number_checks(feature: Feature, values: np.ndarray) -> Iterator[Check]:
    absent = np.isnan(values)
    if feature.required:
        yield Check(feature.name, _MISSING, absent)
    infinite = np.isinf(values)
    yield Check(feature.name, "infinite", infinite)
    if feature.min is not None:
        yield Check(feature.name, f"below the smallest accepted value {feature.min:g}", values < feature.min)
    if feature.max is not None:
        yield Check(feature.name, f"above the largest accepted value {feature.max:g}", values > feature.max)
    if feature.type is FeatureType.INTEGER:
        yield Check(feature.name, "not a whole number", ~absent & ~infinite & (values != np.floor(values)))
    if feature.type is FeatureType.BOOLEAN:
        yield Check(feature.name, "neither true nor false", ~absent & (values != 0) & (values != 1))


def _late(times: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Return which rows are earlier than the last row before them that has a time."""
    late = np.zeros(len(times), bool)
    timed = np.flatnonzero(~absent)
    late[timed[1:]] = np.diff(times[timed]) < 0
    return late


def numeric(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds numbers or booleans."""
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return number or pa.types.is_boolean(kind)


def wordy(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds strings, integers or booleans, dictionary-encoded or not."""
    if pa.types.is_dictionary(kind):
        return wordy(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
