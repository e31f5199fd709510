"""Row checks: the validation checks that need one chunk of a table and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.schema.entity import Entity
from data.schema.features.feature import MAX_TEXT, Feature, FeatureType
from data.schema.use_case import UseCase
from data.transform.derived_time import derive
from data.transform.encoding import FLOAT32_MAX, as_floats, as_strings
from data.transform.entity_key import entity_keys
from data.transform.event_time import DAY_US, NO_TIME
from data.transform.labels import label_faults
from data.transform.missing import blank_mask, missing_mask
from data.transform.text_scores import text_column, text_lengths

OUT_OF_ORDER = "earlier than the row before"
"""Reason given for a row whose event time precedes that of the row before it."""

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
    yield from value_checks(table, list(use_case.features.values()))
    for feature in use_case.features.values():
        if feature.vocabulary is not None and not feature.is_computed:
            yield _vocabulary_check(feature, table.column(feature.name))
    label, task = table.column(use_case.label), use_case.task
    yield Check(use_case.label, _MISSING, missing_mask(label))
    wrong = label_faults(label, task, task.least_label, use_case.label, task.most_grade)
    yield Check(use_case.label, task.fault, wrong)
    if task.list_column:
        yield Check(task.list_column, _MISSING, blank_mask(table.column(task.list_column)))
    if use_case.key:
        yield Check(use_case.key, _MISSING, blank_mask(table.column(use_case.key)))
    if use_case.entity:
        yield from entity_checks(table.column(use_case.entity.column), use_case.entity)
    if times is not None and use_case.event_time:
        absent = times == NO_TIME
        yield Check(use_case.event_time, _MISSING, absent)
        yield Check(use_case.event_time, "more than a day in the future", times > now_us + DAY_US)
        yield Check(use_case.event_time, OUT_OF_ORDER, _late(times, absent))


def value_checks(table: pa.Table, features: Sequence[Feature]) -> Iterator[Check]:
    """Yield the checks of single values: those that HTTP, too, makes of a request.

    Args:
        table: n rows, with the columns that each feature comes from.
        features: what is declared of the columns.

    Raises:
        DataError: a column is of a type that cannot hold its feature.
    """
    yield from derived_checks(table, features)
    yield from text_checks(table, features)
    for feature in features:
        if feature.is_computed or feature.type is FeatureType.TEXT:
            continue
        column = table.column(feature.name)
        if feature.type is not FeatureType.CATEGORY:
            yield from _number_checks(feature, as_floats(column, feature.name))
        elif feature.required:
            words = as_strings(column, feature.name)
            yield Check(feature.name, _MISSING, missing_mask(words, feature.empty_is_value))


def derived_checks(table: pa.Table, features: Sequence[Feature]) -> Iterator[Check]:
    """Yield the checks of the times that features are derived from, and of the features; as for `value_checks`."""
    derived = [feature for feature in features if feature.derive is not None]
    found = derive(table, derived)
    required = {name for feature in derived if feature.required for name in feature.inputs}
    for name, times in found.times.items():
        if name in required:
            yield Check(name, _MISSING, times.missing)
        yield Check(name, "not a time", times.unreadable)
    for feature in derived:
        yield from _range_checks(feature, found.values[feature.name])


def text_checks(table: pa.Table, features: Sequence[Feature]) -> Iterator[Check]:
    """Yield the checks of texts, declared or with scores; as for `value_checks`."""
    texts: dict[str, bool] = {}
    for feature in features:
        if feature.type is FeatureType.TEXT or feature.score is not None:
            name = feature.inputs[0]
            texts[name] = texts.get(name, False) or feature.required
    for name, required in texts.items():
        texts_held = text_column(table.column(name), name)
        if required:
            yield Check(name, _MISSING, missing_mask(texts_held))
        yield Check(name, f"longer than {MAX_TEXT:,} characters", text_lengths(texts_held) > MAX_TEXT)


def entity_checks(column: pa.ChunkedArray, entity: Entity) -> Iterator[Check]:
    """Yield the checks that every row has an entity, and that it is written as a key of the entity's type."""
    found = entity_keys(column, entity)
    yield Check(entity.column, _MISSING, found.blank)
    yield Check(entity.column, f"not written as a key of type '{entity.type}'", found.refused)


def _vocabulary_check(feature: Feature, column: pa.ChunkedArray) -> Check:
    words = as_strings(column, feature.name)
    known = pc.call_function("is_in", [words], pc.SetLookupOptions(pa.array(feature.vocabulary, pa.string())))
    absent = missing_mask(words, feature.empty_is_value)
    return Check(feature.name, "category not in the vocabulary", ~known.to_numpy() & ~absent)


def _number_checks(feature: Feature, values: np.ndarray) -> Iterator[Check]:
    absent = np.isnan(values)
    if feature.required:
        yield Check(feature.name, _MISSING, absent)
    infinite = np.isinf(values)
    yield Check(feature.name, "infinite", infinite)
    too_large = (np.abs(values) > FLOAT32_MAX) & ~infinite
    yield Check(feature.name, f"does not fit into 32-bit floating point ({FLOAT32_MAX:.3g})", too_large)
    yield from _range_checks(feature, values)
    if feature.type is FeatureType.INTEGER:
        yield Check(feature.name, "not a whole number", ~absent & ~infinite & (values != np.floor(values)))
    if feature.type is FeatureType.BOOLEAN:
        yield Check(feature.name, "neither true nor false", ~absent & (values != 0) & (values != 1))


def _range_checks(feature: Feature, values: np.ndarray) -> Iterator[Check]:
    if feature.min is not None:
        yield Check(feature.name, f"below the smallest accepted value {feature.min:g}", values < feature.min)
    if feature.max is not None:
        yield Check(feature.name, f"above the largest accepted value {feature.max:g}", values > feature.max)


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
