"""Checks of events in a table: rows that no window would count, or not as they are written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data.feature_views.events.event_entities import entity_key_column
from data.feature_views.events.table_events import EventColumns, table_events
from data.schema.entity import Entity
from data.schema.events.event_source import EventSource, EventValue
from data.transform.encoding import as_floats
from data.transform.entity_key import entity_keys
from data.transform.event_time import DAY_US, NO_TIME, event_us
from data.transform.fixed_point import to_fixed
from data.transform.missing import blank_mask
from data.validation.hits import Hits, hits_of
from data.validation.row_checks import Check

MISSING = "missing"
_ANOTHER = "with another content of the same key"


def own_event_checks(table: pa.Table, name: str, source: EventSource) -> Iterator[Check]:
    """Yield the checks of n rows as events of a source, which no window would count.

    Raises:
        DataError: a column is of a type that cannot hold what is declared.
    """
    yield from event_value_checks(table, source)
    without = [entity_key_column(table, entity).is_null().to_numpy(zero_copy_only=False) for entity in source.entities]
    yield Check(source.entity_columns[0], f"names no entity of events.{name}", np.logical_and.reduce(without))
    if source.known_at is not None:
        known = event_us(table.column(source.known_at), source.known_at)
        yield Check(source.known_at, MISSING, known == NO_TIME)


def event_value_checks(table: pa.Table, source: EventSource) -> Iterator[Check]:
    """Yield those checks that HTTP, too, makes of a request: of entities and, in rows that are events, of values.

    Columns that the table does not have are not checked.

    Raises:
        DataError: a column is of a type that cannot hold what is declared.
    """
    present = set(table.column_names)
    for entity in source.entities:
        kind = entity.type if len(entity.columns) == 1 else "string"
        for column in present.intersection(entity.columns):
            refused = entity_keys(table.column(column), Entity(column=column, type=kind)).refused
            yield Check(column, f"not written as a key of type '{kind}'", refused)
    for column, value in source.values.items() if source.own or source.key in present else ():
        if value.is_numeric and column in present:
            yield from _number_checks(as_floats(table.column(column), column), column, value)


def _number_checks(values: np.ndarray, column: str, value: EventValue) -> Iterator[Check]:
    out = to_fixed(values, value.places).out_of_range
    yield Check(column, f"out of range for {value.places} decimal places", out)
    present = ~np.isnan(values) & ~out
    if value.type == "integer":
        yield Check(column, "not a whole number", present & (np.rint(values) != values))
    if value.type == "boolean":
        yield Check(column, "neither true nor false", present & (values != 0) & (values != 1))


def beside_event_problems(table: pa.Table, name: str, source: EventSource, now_us: int) -> Iterator[str]:
    """Yield what is wrong with a table of events that are no rows of the use case's own, one text each.

    Args:
        table: the columns of the source.
        name: of the source.
        source: one with a key and a time of its own.
        now_us: current time in microseconds since 1970 UTC.

    Raises:
        DataError: a column is of a type that cannot hold what is declared.
    """
    key, time = source.key or "", source.time or ""
    times = event_us(table.column(time), time)
    checks = [
        Check(key, MISSING, blank_mask(table.column(key))),
        Check(time, MISSING, times == NO_TIME),
        Check(time, "more than a day in the future", times > now_us + DAY_US),
        *own_event_checks(table, name, source),
    ]
    for check in checks:
        if check.mask.any():
            yield f"events.{name}: {check.column}: {check.reason}: {_rows(hits_of(check.mask))}"
    timed = table.filter(pa.array(times != NO_TIME))
    if other := table_events(timed, EventColumns(source, key, time), timed, key, time, []).left_out[_ANOTHER]:
        yield f"events.{name}: {key}: {_ANOTHER}: {other:,} rows; write each event once, or declare known_at"


def _rows(hits: Hits) -> str:
    return f"{hits.count:,} rows, the first {', '.join(map(str, hits.rows[:3].tolist()))}"
