"""Event columns: whether a table can hold the events that the use case declares, before a value is read."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from data.feature_views.events.event_tables import EventFiles, history_columns
from data.schema.events.event_source import EventSource
from data.schema.use_case import UseCase
from data.sources.parquet import ParquetSource
from data.sources.type_advice import event_time_remedy, key_remedy
from data.transform.entity_key import holds_keys, key_types
from data.transform.event_time import fits_event_time
from data.validation.row_checks import numeric, wordy


def check_event_files(files: EventFiles, use_case: UseCase) -> None:
    """Check the tables of events that are given beside a table; raises DataError as `check_events`."""
    if files.history is not None:
        files.history.require(history_columns(use_case))
        check_own_events(files.history, use_case)
    for name, source in files.others.items():
        declared = use_case.events[name]
        check_events(source, name, declared, declared.key or "", declared.time or "")


def check_own_events(source: ParquetSource, use_case: UseCase, without: Collection[str] = ()) -> None:
    """Check the columns of those sources of events that are rows of a table, but for values that it is `without`.

    Raises:
        DataError: as `check_events`.
    """
    for name, declared in use_case.events.items():
        if declared.own:
            values = {column: value for column, value in declared.values.items() if column not in without}
            held = declared.model_copy(update={"values": values})
            check_events(source, name, held, use_case.key or "", use_case.event_time or "")


def check_events(table: ParquetSource, name: str, declared: EventSource, key: str, time: str) -> None:
    """Check the columns of a source of events before a value is read.

    Raises:
        DataError: a column is missing, or of a type that cannot hold what is declared; names file, column and remedy.
    """
    role = f"of events.{name}"
    table.require([key, time, *([declared.known_at] if declared.known_at else [])])
    table.require([*declared.entity_columns, *declared.values])
    kinds = {column: table.schema.field(column).type for column in table.schema.names}
    for column in (time, declared.known_at):
        if column is not None:
            expected = f"timestamps, dates or whole numbers (it is a time {role})"
            table.require_type(column, fits_event_time(kinds[column]), expected, event_time_remedy(kinds[column]))
    table.require_type(key, wordy(kinds[key]), f"strings or integers (it is the key {role})", key_remedy(kinds[key]))
    for entity in declared.entities:
        key_type = entity.type if len(entity.columns) == 1 else "string"
        for column in entity.columns:
            fits = holds_keys(kinds[column], key_type)
            expected = f"{key_types(key_type)} (it is an entity {role})"
            table.require_type(column, fits, expected, key_remedy(kinds[column]))
    for column, value in declared.values.items():
        fits = numeric(kinds[column]) if value.is_numeric else wordy(kinds[column])
        expected = f"{'numbers' if value.is_numeric else 'strings or integers'} (it is a value {role})"
        table.require_type(column, fits or pa.types.is_null(kinds[column]), expected)
