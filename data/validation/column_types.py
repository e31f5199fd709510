"""Column types: whether the columns of a table can hold what the use case declares, before a value is read."""

from __future__ import annotations

import pyarrow as pa

from data.schema.features.feature import Feature, FeatureType
from data.schema.task import Task
from data.schema.use_case import UseCase
from data.sources.parquet import ParquetSource, read_table
from data.sources.type_advice import (
    event_time_remedy,
    feature_remedy,
    key_remedy,
    label_remedy,
    label_type_remedy,
    number_remedy,
)
from data.transform.encoding import as_strings
from data.transform.entity_key import holds_keys, key_types
from data.transform.event_time import fits_event_time
from data.transform.missing import is_text
from data.transform.time_values import holds_times
from data.validation.event_columns import check_own_events
from data.validation.row_checks import numeric, wordy

_LABELS_READ = 100_000
"""Rows whose labels are looked at to say how to recode words."""


def check_learned(source: ParquetSource, use_case: UseCase) -> None:
    """Check the columns that training reads: features, label, slices, and the events that rows of the table are.

    Raises:
        DataError: a declared column is missing, or of a type that its role cannot hold.
    """
    source.require(use_case.columns)
    for feature in use_case.features.values():
        if feature.derive is not None:
            _check_times(source, feature)
        if feature.is_computed:
            continue
        kind, role = source.schema.field(feature.name).type, f"(it is a feature of type '{feature.type.value}')"
        fits, expected = _holds(kind, feature.type)
        source.require_type(feature.name, fits, f"{expected} {role}", feature_remedy(kind, feature.type))
    _check_label(source, use_case.label, use_case.task)
    check_own_events(source, use_case)
    for part in use_case.slices:
        if part.column in use_case.features and use_case.features[part.column].is_computed:
            continue
        fits = part.edges is None or numeric(source.schema.field(part.column).type)
        source.require_type(
            part.column, fits, "numbers (it is a slice with edges)", "convert it or leave the edges out"
        )


def _holds(kind: pa.DataType, declared: FeatureType) -> tuple[bool, str]:
    """Return whether a column of an Arrow type holds features of a type, and what would."""
    if declared is FeatureType.CATEGORY:
        return wordy(kind), "strings or integers"
    if declared is FeatureType.TEXT:
        return is_text(kind.value_type if pa.types.is_dictionary(kind) else kind), "strings"
    return numeric(kind), "numbers"


def _check_times(source: ParquetSource, feature: Feature) -> None:
    for name in feature.inputs:
        kind = source.schema.field(name).type
        expected = f"timestamps, dates, ISO strings or whole numbers ('{feature.name}' is derived from it)"
        source.require_type(name, holds_times(kind), expected, event_time_remedy(kind))


def _check_label(source: ParquetSource, name: str, task: Task) -> None:
    kind = source.schema.field(name).type
    words = any(isinstance(label, str) for label in task.labels or ())
    if not (wordy(kind) if words else numeric(kind)):
        remedy = _label_remedy(source, name, task)
        source.require_type(name, False, f"{task.expected} (it is the label)", remedy)


def _label_remedy(source: ParquetSource, name: str, task: Task) -> str:
    """Return what makes a label of a column that cannot hold those of the task."""
    kind = source.schema.field(name).type
    if task.labels is None:
        return number_remedy(kind)
    if numeric(kind):
        return "declare the labels as the column has them, or write the column as strings or whole numbers"
    if not wordy(kind):
        return label_type_remedy(kind)
    values = as_strings(read_table(source.path, [name], _LABELS_READ).column(0), name)
    return label_remedy(values.unique().drop_null().slice(0, 10).to_pylist())


def check_source(source: ParquetSource, use_case: UseCase) -> None:
    """Check every declared column: event time, entity and key included; raises DataError as `check_learned`."""
    check_learned(source, use_case)
    if use_case.event_time:
        kind = source.schema.field(use_case.event_time).type
        expected, remedy = "timestamps, dates or whole numbers (it is the event time)", event_time_remedy(kind)
        source.require_type(use_case.event_time, fits_event_time(kind), expected, remedy)
    if use_case.entity:
        _check_key(source, use_case.entity.column, use_case.entity.type, "entity")
    if use_case.key:
        _check_key(source, use_case.key, "string", "key")


def _check_key(source: ParquetSource, name: str, key_type: str, role: str) -> None:
    kind = source.schema.field(name).type
    fits = holds_keys(kind, key_type) and not pa.types.is_null(kind)
    source.require_type(name, fits, f"{key_types(key_type)} (it is the {role})", key_remedy(kind))
