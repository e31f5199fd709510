"""Materialization: the latest row of every entity, from Parquet into the online store.

Workers read chunks, reduce each to the latest row of its entities, and pack the rows; the driver process writes them.
The store keeps the newest row whatever the order of arrival, so chunks may arrive in any order, and a run that was
killed may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa

from data.errors import ConfigError, DataError
from data.online_store import OnlineStore, StoredRow
from data.online_store.row_codec import RowCodec
from data.schema.use_case import Entity, UseCase
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of
from data.transform.encoding import as_strings
from data.transform.event_time import NO_TIME, event_us, fits_event_time

DAY_US = 86_400_000_000
_WRITE_ROWS = 50_000


@dataclass(frozen=True)
class Packed:
    """The latest row of each entity in one chunk, packed, and how many of the chunk's rows were left out."""

    table: pa.Table
    """Columns entity (string), event_us (int64, microseconds since 1970 UTC) and payload (binary)."""
    rows: int
    """Rows of the chunk, before reduction."""
    without_entity: int
    without_time: int
    future: int


@dataclass
class Materialized:
    """Row counts of one materialization: read from the source, written to the store, and left out by reason."""

    rows: int = 0
    written: int = 0
    without_entity: int = 0
    without_time: int = 0
    future: int = 0
    expired: int = 0


def online_columns(use_case: UseCase) -> list[str]:
    """Return the columns that materialization reads: entity, event time and the online features.

    Raises:
        ConfigError: the use case has no entity, no event time or no online feature.
    """
    entity, event_time, online = use_case.entity, use_case.event_time, use_case.schema_.online
    if entity is None or event_time is None or not online:
        raise ConfigError(
            f"use case '{use_case.name}' has nothing to materialize: it needs [entity], event_time and "
            "a feature with source 'online' or 'either'"
        )
    return list(dict.fromkeys([entity.column, event_time, *(feature.name for feature in online)]))


def check_source(source: ParquetSource, use_case: UseCase) -> list[str]:
    """Check that a source can be materialized, and return the columns to read.

    Raises:
        ConfigError: the use case has nothing to materialize.
        DataError: a column is missing, or the event time is of another type.
    """
    columns = online_columns(use_case)
    source.require(columns)
    time = use_case.event_time or ""
    source.require_type(time, fits_event_time(source.schema.field(time).type), "timestamps, dates or whole numbers")
    return columns


def packer(use_case: UseCase, now_us: int) -> Callable[[pa.Table], Packed]:
    """Return `pack_rows` with the use case and the current time bound: a function of one block, which pickles."""
    return partial(pack_rows, use_case=use_case, now_us=now_us)


def pack_rows(block: pa.Table, use_case: UseCase, now_us: int) -> Packed:
    """Pack the latest row of each entity in consecutive rows of one file.

    Rows of an entity with the same latest time are all kept: the store's own rule decides between them, so that the
    result does not depend on how the source is cut into chunks.

    Args:
        block: the columns of `online_columns`, and those of the rows' origin; one row at least.
        use_case: names the entity, the event time and the online features.
        now_us: current time in microseconds since 1970 UTC; rows more than a day later are left out, since one
            wrong date in the future would win over every later row of its entity.

    Raises:
        DataError: a column holds what its feature cannot.
    """
    table = block
    entity, time = use_case.entity or Entity(column=""), use_case.event_time or ""
    try:
        keys = as_strings(table.column(entity.column), entity.column).combine_chunks()
        times = event_us(table.column(time), time)
        absent = keys.is_null().to_numpy(zero_copy_only=False)
        timeless = (times == NO_TIME) & ~absent
        future = (times > now_us + DAY_US) & ~absent
        latest = _latest(keys, times, np.flatnonzero(~absent & ~timeless & ~future))
        payloads = RowCodec(use_case.schema_).pack_table(table.take(latest), times[latest])
    except DataError as exc:
        raise DataError(f"{origin_of(block).file}: {exc}") from exc
    columns = {"entity": keys.take(latest), "event_us": pa.array(times[latest]), "payload": payloads}
    # In the order of the key a store's writes touch neighbouring pages: five times the rate on SQLite.
    ordered = pa.table(columns).sort_by("entity")
    return Packed(ordered, table.num_rows, int(absent.sum()), int(timeless.sum()), int(future.sum()))


def write(
    parts: Iterable[Packed], store: OnlineStore, oldest_us: int | None, advance: Callable[[int], None]
) -> Materialized:
    """Write packed chunks to the store as they come.

    Args:
        parts: packed chunks, in any order.
        store: an open store.
        oldest_us: rows with an earlier event time have outlived the entity's ttl and are left out; None keeps all.
        advance: called with the number of source rows processed since its last call.

    Returns:
        The row counts of the run.

    Raises:
        StoreUnavailable: the store could not be reached; the run may be repeated.
    """
    counts = Materialized()
    for part in parts:
        table = part.table
        if oldest_us is not None:
            table = table.filter(pa.array(table.column("event_us").to_numpy() >= oldest_us))
            counts.expired += part.table.num_rows - table.num_rows
        advance(part.rows - table.num_rows)
        _put(table, store, advance)
        counts.rows += part.rows
        counts.written += table.num_rows
        counts.without_entity += part.without_entity
        counts.without_time += part.without_time
        counts.future += part.future
    return counts


def _latest(keys: pa.Array, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return those of `rows` (ascending indices) that have the latest time of their key."""
    codes = keys.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)[rows]
    newest = np.full(len(keys), NO_TIME)
    np.maximum.at(newest, codes, times[rows])
    return rows[times[rows] == newest[codes]]


def _put(table: pa.Table, store: OnlineStore, advance: Callable[[int], None]) -> None:
    columns = (table.column(name).to_pylist() for name in ("entity", "event_us", "payload"))
    rows = map(StoredRow._make, zip(*columns, strict=True))
    while batch := list(islice(rows, _WRITE_ROWS)):
        store.put_many(batch)
        advance(len(batch))
