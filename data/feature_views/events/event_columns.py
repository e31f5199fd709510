"""Events out of the rows of a table, column by column: the same bytes as `event_parser` makes of a JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.events.event_entities import entity_key_column
from data.schema.events.event_source import EventEntity, EventSource, EventValue
from data.transform.encoding import as_floats, as_strings
from data.transform.entity_key import LONGEST
from data.transform.event_time import NO_TIME
from data.transform.fixed_point import to_fixed
from data.transform.missing import blank_mask, missing_mask
from data.transform.table_columns import named_column
from data.transform.time_values import times_us

_SIGN, _LARGEST = np.uint64(2**63), 2**63 - 1
_INTEGER = event_key(0)[:1]
_TEXT = event_key("")
_Refused = dict[str, np.ndarray]
"""The rows that a column leaves out, as bool of shape (n,), by the reason."""


class Span(NamedTuple):
    """The times, in microseconds since 1970 UTC, that an event may have: from the first on, up to the last."""

    oldest_us: int
    latest_us: int


class EventColumns(NamedTuple):
    """k events as columns of length k, in the order of their rows; pickles."""

    key: pa.BinaryArray
    """As `event_key` writes them."""
    time_us: np.ndarray
    """Int64, microseconds since 1970 UTC."""
    known_us: np.ndarray
    """Int64, microseconds since 1970 UTC; not before `time_us`."""
    entities: tuple[pa.StringArray, ...]
    """For each entity of the source the keys, null where an event names none."""
    payload: pa.BinaryArray
    """As `EventCodec` packs them."""

    @property
    def length(self) -> int:
        """How many events there are."""
        return len(self.key)

    def events(self, start: int, count: int) -> list[Event]:
        """Return some consecutive events, from number `start` on."""
        part = slice(start, start + count)
        entities = zip(*(_values(keys[part]) for keys in self.entities), strict=True)
        columns = (_values(self.key[part]), self.time_us[part].tolist(), self.known_us[part].tolist())
        return list(map(Event._make, zip(*columns, entities, _values(self.payload[part]), strict=True)))

    def taken(self, numbers: np.ndarray) -> list[Event]:
        """Return the events of some numbers, int64 of shape (m,), in their order."""
        at = pa.array(numbers)
        entities = tuple(keys.take(at) for keys in self.entities)
        chosen = EventColumns(
            self.key.take(at), self.time_us[numbers], self.known_us[numbers], entities, self.payload.take(at)
        )
        return chosen.events(0, len(numbers))


class RowsRead(NamedTuple):
    """What became of the rows of one table."""

    events: EventColumns
    left_out: dict[str, np.ndarray]
    """The numbers of the rows that are no event, by the reason in words; a row stands under its first one."""
    without: dict[str, int]
    """By entity how many of the events name none, and so are in no window of it."""


def rows_as_events(table: pa.Table, source: EventSource, key: str, time: str, span: Span) -> RowsRead:
    """Read the n rows of a table as events of one source.

    Args:
        table: the rows.
        source: the source.
        key: column of the events' keys.
        time: column of their times.
        span: the times that are taken.

    Raises:
        DataError: a column is missing or of a type that does not fit.
    """
    keys, refused_keys = _keys(named_column(table, key), key)
    when = times_us(named_column(table, time), time)
    entities = [entity_key_column(table, entity) for entity in source.entities]
    reasons = {f"whose {key} {why}": rows for why, rows in refused_keys.items()}
    reasons |= {f"without {key}": _nulls(keys)}
    reasons |= {f"without {time}": when.missing, f"whose {time} is no time": when.unreadable}
    known_us = np.maximum(when.us, when.us + source.delay_us)
    if source.known_at is not None:
        known = times_us(named_column(table, source.known_at), source.known_at)
        reasons |= {f"without {source.known_at}": known.us == NO_TIME}
        known_us = np.maximum(when.us, known.us)
    values = {name: _column(table, name, source) for name in EventCodec(source).names}
    for name, (_, refused) in values.items():
        reasons |= {f"whose {name} {why}": rows for why, rows in refused.items()}
    reasons |= {
        f"without {_any_of(source.entities)}": np.all([_nulls(each) for each in entities], axis=0),
        "in the future": when.us > span.latest_us,
        "older than the longest window over them": when.us < span.oldest_us,
    }
    kept, left_out = _kept(reasons, table.num_rows)
    at = pa.array(kept)
    entities = tuple(each.take(at) for each in entities)
    payload = _payload([column.take(at) for column, _ in values.values()], source, len(kept))
    without = {e.name: keys.null_count for e, keys in zip(source.entities, entities, strict=True) if keys.null_count}
    events = EventColumns(keys.take(at), when.us[kept], known_us[kept], entities, payload)
    return RowsRead(events, left_out, without)


def _any_of(entities: tuple[EventEntity, ...]) -> str:
    """Name the columns without which an event is of no entity: a pair needs no word where one of it stands alone."""
    alone = [entity.columns[0] for entity in entities if len(entity.columns) == 1]
    pairs = [" and ".join(entity.columns) for entity in entities if not set(entity.columns) & set(alone)]
    return " or ".join([*alone, *pairs])


def _keys(column: pa.ChunkedArray, name: str) -> tuple[pa.BinaryArray, _Refused]:
    """Return keys as `event_key` writes them, null where blank, and those that are none."""
    if pa.types.is_integer(column.type):
        numbers = column.cast(pa.uint64() if pa.types.is_uint64(column.type) else pa.int64()).combine_chunks()
        written = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
        beyond = written > _LARGEST
        return _integer_keys(written.astype(np.int64), _nulls(numbers) | beyond), {"is beyond 64 bits": beyond}
    text, refused = _text(column, name)
    long = pc.call_function("greater", [pc.call_function("utf8_length", [text]), LONGEST]).fill_null(False)
    refused |= {f"is longer than {LONGEST:,} characters": long.to_numpy(zero_copy_only=False)}
    text = pc.call_function(
        "if_else", [pa.array(blank_mask(pa.chunked_array([text]))), pa.scalar(None, pa.string()), text]
    )
    return pc.call_function("binary_join_element_wise", [_TEXT, text.cast(pa.binary()), b""]), refused


def _integer_keys(numbers: np.ndarray, absent: np.ndarray) -> pa.BinaryArray:
    count = len(numbers)
    written = np.empty((count, 9), np.uint8)
    written[:, 0] = _INTEGER[0]
    written[:, 1:] = (numbers.astype(np.uint64) + _SIGN).astype(">u8").view(np.uint8).reshape(count, 8)
    fixed = pa.Array.from_buffers(pa.binary(9), count, [None, pa.py_buffer(written.tobytes())])
    return pc.call_function("if_else", [pa.array(absent), pa.scalar(None, pa.binary()), fixed.cast(pa.binary())])


def _column(table: pa.Table, name: str, source: EventSource) -> tuple[pa.Array, _Refused]:
    """Return a value of the events as it is packed, null where missing, and what is refused of it."""
    declared = source.values.get(name)
    if declared is None:
        # A column of an entity: as a value it is the text of the key.
        return entity_key_column(table, _part(name, source)), {}
    column = named_column(table, name)
    if declared.type == "string":
        text, refused = _text(column, name)
        return pc.call_function(
            "if_else", [pa.array(missing_mask(column)), pa.scalar(None, pa.string()), text]
        ), refused
    return _numbers(as_floats(column, name), declared)


def _text(column: pa.ChunkedArray, name: str) -> tuple[pa.StringArray, _Refused]:
    """Return a column as text, null where its bytes are none, as Parquet files may hold them, and where that is."""
    text = as_strings(column, name).combine_chunks()
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        values = text.cast(pa.binary()).to_pylist()
        wrong = np.array([value is not None and not _is_text(value) for value in values])
        return pa.array([None if no else value for no, value in zip(wrong, values, strict=True)], pa.string()), {
            "is not UTF-8": wrong
        }
    return text, {}


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _part(name: str, source: EventSource) -> EventEntity:
    alone = (entity for entity in source.entities if entity.columns == (name,))
    return next(alone, EventEntity(name=name, columns=(name,)))


def _numbers(floats: np.ndarray, declared: EventValue) -> tuple[pa.Array, _Refused]:
    fixed = to_fixed(floats, declared.places)
    refused = {f"is out of range for {declared.places} decimal places": fixed.out_of_range}
    if declared.type == "integer":
        refused["is not a whole number"] = ~fixed.missing & (np.rint(floats) != floats)
    if declared.type == "boolean":
        refused["is not true or false"] = ~fixed.missing & (floats != 0) & (floats != 1)
    return pa.array(fixed.scaled, mask=fixed.missing), refused


def _kept(reasons: dict[str, np.ndarray], rows: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rows that no reason leaves out, and those that one does, each under the first."""
    open_, left_out = np.ones(rows, bool), {}
    for reason, refused in reasons.items():
        found = np.flatnonzero(refused & open_)
        if len(found):
            left_out[reason] = found
        open_ &= ~refused
    return np.flatnonzero(open_), left_out


def _payload(columns: list[pa.Array], source: EventSource, count: int) -> pa.BinaryArray:
    pack = EventCodec(source).pack
    rows: Iterator[tuple] = zip(*map(_values, columns), strict=True) if columns else iter([()] * count)
    return pa.array([pack(row) for row in rows], pa.binary())


def _values(column: pa.Array) -> list:
    # Through numpy, which makes Python's objects several times as fast as Arrow does.
    if pa.types.is_integer(column.type):
        return column.to_pylist() if column.null_count else column.to_numpy(zero_copy_only=False).tolist()
    return column.to_numpy(zero_copy_only=False).tolist()


def _nulls(values: pa.Array) -> np.ndarray:
    return values.is_null().to_numpy(zero_copy_only=False)
