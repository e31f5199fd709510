"""Parquet to online store: the latest row of every entity, packed.

Workers read, take the latest of each entity in their piece and pack; the driver writes. The store keeps the
newest whatever the order of arrival, so pieces may come in any order, and a run may be killed and repeated.
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
from data.sources.parquet import Chunk, ParquetSource, read_chunk
from data.transform.encoding import as_strings
from data.transform.event_time import NO_TIME, event_us, fits_event_time

DAY_US = 86_400_000_000
_WRITE_ROWS = 50_000


@dataclass(frozen=True)
class Packed:
    """One chunk's latest rows, ready to store: `table` has entity, event_us and payload; the rest are counts."""

    table: pa.Table
    rows: int
    without_entity: int
    without_time: int
    future: int


@dataclass
class Materialized:
    """What a run did, in rows: of the source, written to the store, and left out by reason."""

    rows: int = 0
    written: int = 0
    without_entity: int = 0
    without_time: int = 0
    future: int = 0
    expired: int = 0


def online_columns(use_case: UseCase) -> list[str]:
    """Columns that materialization reads: entity, event time, online features.

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
    """Return the columns to read after checking that they are there; raises DataError or ConfigError."""
    columns = online_columns(use_case)
    source.require(columns)
    time = use_case.event_time or ""
    source.require_type(time, fits_event_time(source.schema.field(time).type), "timestamps, dates or whole numbers")
    return columns


def packer(use_case: UseCase, now_us: int) -> Callable[[Chunk], Packed]:
    """Return the function that reads, reduces and packs one chunk; rows later than a day from now are left out."""
    return partial(pack_chunk, use_case=use_case, now_us=now_us)


def pack_chunk(chunk: Chunk, use_case: UseCase, now_us: int) -> Packed:
    """Read one chunk and pack the latest rows of its entities; rows of equal time are all kept for the store to judge.

    Raises:
        DataError: the file is broken, or a column holds what its feature cannot.
    """
    table = read_chunk(chunk, online_columns(use_case))
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
        raise DataError(f"{chunk.path}: {exc}") from exc
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
        store: where to; raises StoreUnavailable when it cannot be reached, after which the run may be repeated.
        oldest_us: rows with an earlier event time have outlived the entity's ttl and are left out; None: none have.
        advance: told the source rows done.
    """
    done = Materialized()
    for part in parts:
        table = part.table
        if oldest_us is not None:
            table = table.filter(pa.array(table.column("event_us").to_numpy() >= oldest_us))
            done.expired += part.table.num_rows - table.num_rows
        advance(part.rows - table.num_rows)
        _put(table, store, advance)
        done.rows += part.rows
        done.written += table.num_rows
        done.without_entity += part.without_entity
        done.without_time += part.without_time
        done.future += part.future
    return done


def _latest(keys: pa.Array, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Of `rows`, those with their key's latest time, ascending."""
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
