"""Events and moments out of Arrow tables for the offline kernel: fixed-point values, entity codes, each key once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.errors import DataError
from data.feature_views.events.event_entities import entity_codes
from data.feature_views.events.event_keys import event_keys, key_ranks, row_keys
from data.feature_views.kernel.entity_order import stable_order
from data.feature_views.kernel.event_arrays import Events, Moments, Values
from data.schema.events.event_source import EventSource, EventValue
from data.transform.encoding import as_floats, as_strings
from data.transform.event_time import NO_TIME, event_us
from data.transform.fixed_point import to_fixed
from data.transform.missing import blank_mask, missing_mask
from data.transform.table_columns import named_column


class EventColumns(NamedTuple):
    """Which columns of a table the events of a source are made of."""

    source: EventSource
    key: str
    time: str


class TableEvents(NamedTuple):
    """The events of a table, and the moments of the rows whose windows are wanted."""

    events: Events
    moments: Moments
    left_out: Counter[str]
    """Rows that are no event, by reason."""


def table_events(
    events: pa.Table, columns: EventColumns, rows: pa.Table, row_key: str | None, row_time: str, entities: Sequence[str]
) -> TableEvents:
    """Read a source's events and the moments of some rows.

    Args:
        events: the table of the source's events.
        columns: where they stand in it.
        rows: the n rows whose windows are wanted, with the columns of the entities.
        row_key: column of the rows' keys; without one a row comes after all events of its instant.
        row_time: column of the rows' times.
        entities: the entities whose windows are wanted.

    Raises:
        DataError: a column is missing or of a type that does not fit, or rows have no time.
    """
    read = _read(events, columns)
    codes, row_codes = _entity_codes(events, rows, columns.source, entities)
    ranks, row_ranks = key_ranks(read.keys, row_keys(rows, row_key))
    found, left_out = _each_key_once(read.events._replace(entities=codes, key_rank=ranks), read)
    row_times = _row_times(rows, row_time)
    if events is rows and not left_out and (columns.key, columns.time) == (row_key, row_time):
        return TableEvents(found, Moments(found.entities, found.time_us, found.key_rank), left_out)
    return TableEvents(found, Moments(row_codes, row_times, row_ranks), left_out)


def event_places(events: pa.Table, columns: EventColumns) -> tuple[np.ndarray, Counter[str]]:
    """Return which rows of a table are events, ascending, each key once, and how many of the others for which reason.

    Raises:
        DataError: a column is missing or of a type that does not fit.
    """
    read = _read(events, columns)
    places = np.arange(events.num_rows)
    ranks, _ = key_ranks(read.keys, read.keys.slice(0, 0))
    # The place stands for an entity, which does not matter here.
    found, left_out = _each_key_once(read.events._replace(entities={"": places}, key_rank=ranks), read)
    return found.entities[""], left_out


def rows_without_time(name: str, count: int) -> DataError:
    """Return the error of rows whose windows have no end."""
    return DataError(
        f"column '{name}': {count:,} rows have no time, and a window ends at the row's time; remove them "
        "(rayscore validate lists them)"
    )


class _Read(NamedTuple):
    """What a table says of its k rows as events, but for their entities and the order of their keys."""

    events: Events
    keys: pa.Array
    kept: np.ndarray
    """Places of the rows that are events but for a key that repeats."""
    left_out: Counter[str]


def _read(events: pa.Table, columns: EventColumns) -> _Read:
    source = columns.source
    time_us = event_us(named_column(events, columns.time), columns.time)
    values = {name: _values(events, name, value, source.values) for name, value in _read_values(source).items()}
    keys = event_keys(events, columns.key)
    reasons = {
        f"without {columns.time}": time_us == NO_TIME,
        f"without {columns.key}": _nulls(keys),
        **{f"{name} out of range": out for name, (_, out) in values.items() if out.any()},
    }
    known_us = None
    if source.known_at is not None:
        known_us = event_us(named_column(events, source.known_at), source.known_at)
        reasons[f"without {source.known_at}"] = known_us == NO_TIME
    kept, left_out = _kept(reasons, events.num_rows)
    held = {name: each for name, (each, _) in values.items()}
    return _Read(Events({}, time_us, time_us, held, known_us, source.delay_us), keys, kept, left_out)


def _read_values(source: EventSource) -> dict[str, EventValue]:
    """The values of an event: those declared, and the columns of its entities, as text."""
    columns = {name: EventValue(type="string") for name in source.entity_columns}
    return {**columns, **source.values}


def _values(
    table: pa.Table, name: str, value: EventValue, declared: Mapping[str, EventValue]
) -> tuple[Values, np.ndarray]:
    """Return a column's values, and which of them are out of range, bool of shape (k,)."""
    column = named_column(table, name)
    if value.type == "string":
        encoded = as_strings(column, name).combine_chunks().dictionary_encode()
        codes = pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        words = tuple(encoded.dictionary.to_pylist())
        # A column of an entity that is blank names none, so that as a value it is missing; other text is as it is.
        missing = missing_mask(column) if name in declared else blank_mask(column)
        return Values(codes, missing, 0, words), np.zeros(len(codes), bool)
    fixed = to_fixed(as_floats(column, name), value.places)
    refused = fixed.out_of_range
    if value.type != "number":
        refused = refused | (~fixed.missing & (np.rint(as_floats(column, name)) != as_floats(column, name)))
    if value.type == "boolean":
        refused = refused | ~np.isin(fixed.scaled, (0, 1))
    return Values(fixed.scaled, fixed.missing, value.places), refused


def _row_times(rows: pa.Table, name: str) -> np.ndarray:
    times = event_us(named_column(rows, name), name)
    absent = int((times == NO_TIME).sum())
    if absent:
        raise rows_without_time(name, absent)
    return times


def _nulls(values: pa.Array) -> np.ndarray:
    return values.is_null().to_numpy(zero_copy_only=False)


def _kept(reasons: dict[str, np.ndarray], rows: int) -> tuple[np.ndarray, Counter[str]]:
    """Return the rows that no reason leaves out, and how many each leaves out; a row counts for the first alone."""
    open_, counts = np.ones(rows, bool), Counter[str]()
    for reason, refused in reasons.items():
        if count := int((refused & open_).sum()):
            counts[reason] = count
        open_ &= ~refused
    return np.flatnonzero(open_), counts


def _each_key_once(events: Events, read: _Read) -> tuple[Events, Counter[str]]:
    """Return the events that stay of those read, and how many do not for which reason."""
    found = _chosen(events, read.kept)
    single, repeated = _single(found)
    return _chosen(found, single), read.left_out + repeated


def _single(events: Events) -> tuple[np.ndarray, Counter[str]]:
    """Return the events that stay, in the table's order, when of each key one does: that which is known latest.

    Of several of one key that are known since the same time the first stays: the others repeat it, or are refused.
    """
    rank, time = events.key_rank, events.time_us
    if not _repeats(rank[stable_order(rank)]).any():
        return np.arange(len(rank)), Counter()
    known = time if events.known_us is None else np.maximum(events.known_us, time)
    order = np.lexsort((-known, rank))
    again = _repeats(rank[order])
    kept = order[np.maximum.accumulate(np.where(again, 0, np.arange(len(rank))))][again]
    dropped = order[again]
    repeats = _same(events, known, dropped, kept)
    older = ~repeats & (known[dropped] < known[kept])
    counts = {"repeated": repeats, "known earlier than another of the same key": older}
    named = {**counts, "with another content of the same key": ~repeats & ~older}
    return np.sort(order[~again]), +Counter({reason: int(held.sum()) for reason, held in named.items()})


def _repeats(ascending: np.ndarray) -> np.ndarray:
    """Return which of n ascending numbers equal the one before."""
    return np.concatenate((np.zeros(min(len(ascending), 1), bool), ascending[1:] == ascending[:-1]))


def _same(events: Events, known: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return for m pairs of events whether they are the same in all but their place in the table."""
    same = (events.time_us[one] == events.time_us[other]) & (known[one] == known[other])
    for value in events.values.values():
        same &= value.missing[one] == value.missing[other]
        same &= value.missing[one] | (value.scaled[one] == value.scaled[other])
    return same


def _chosen(events: Events, at: np.ndarray) -> Events:
    if len(at) == len(events.time_us):
        return events
    entities = {name: codes[at] for name, codes in events.entities.items()}
    values = {name: Values(v.scaled[at], v.missing[at], v.places, v.words) for name, v in events.values.items()}
    known = None if events.known_us is None else events.known_us[at]
    return Events(entities, events.time_us[at], events.key_rank[at], values, known, events.delay_us)


def _entity_codes(
    events: pa.Table, rows: pa.Table, source: EventSource, entities: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    tables = [events] if events is rows else [events, rows]
    declared = [entity for entity in source.entities if entity.name in entities]
    codes = {entity.name: entity_codes(tables, entity) for entity in declared}
    count = events.num_rows
    if events is rows:
        return codes, codes
    return {name: held[:count] for name, held in codes.items()}, {name: held[count:] for name, held in codes.items()}
