"""Materialization: the latest row of every entity, from Parquet into the online store.

Workers read chunks, reduce each to the latest row of its entities, and pack the rows; the driver process writes them.
The store keeps the row with the latest event time whatever the order of arrival, and of rows with the same one the
last written: so chunks are written in the order of the table, and a run that was killed may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from data.errors import ConfigError, DataError
from data.online_store import OnlineStore, StoredRow
from data.online_store.entity_tally import EntityTally, EntityTotals
from data.online_store.left_out import LeftOut, LeftOutRows, Reason
from data.online_store.row_codec import RowCodec
from data.schema.entity import Entity
from data.schema.use_case import UseCase
from data.sources.filesystems import base_name, named
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of, without_origin
from data.sources.type_advice import key_remedy
from data.transform.entity_key import EntityKeys, entity_keys, holds_keys, key_types
from data.transform.event_time import DAY_US, NO_TIME, event_us, fits_event_time

_WRITE_ROWS = 50_000
_hash = cast(Callable[..., np.ndarray], hash_array)

RowName = Callable[[int], str]
"""Returns the name of a row for a person, by its place in a table: "cards.parquet row 3"."""


@dataclass(frozen=True)
class Packed:
    """The rows of one block that are to be put into the store, and what became of the others."""

    table: pa.Table
    """Columns entity (string), event_us (int64, microseconds since 1970 UTC), payload (binary), and hash (uint64, of
    the entity). Rows of an entity follow each other in the order of the source."""
    rows: int
    """Rows of the block, before reduction."""
    superseded: int
    """Rows that are not among the latest of their entity in the block, or repeat the row before."""
    left_out: LeftOut


@dataclass
class Materialized:
    """What one materialization did. Every row read is counted once: `rows` is the sum of all other counts.

    An entity stands for one row, its latest; `superseded` counts its others.
    """

    rows: int = 0
    entities: EntityTotals = field(default_factory=EntityTotals)
    superseded: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)


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
        DataError: a column is missing, or the entity or the event time is of another type.
    """
    columns = online_columns(use_case)
    source.require(columns)
    entity, time = use_case.entity or Entity(column=""), use_case.event_time or ""
    kind = source.schema.field(entity.column).type
    expected = f"{key_types(entity.type)} (it is the entity, of type '{entity.type}')"
    source.require_type(entity.column, holds_keys(kind, entity.type), expected, key_remedy(kind))
    source.require_type(time, fits_event_time(source.schema.field(time).type), "timestamps, dates or whole numbers")
    return columns


def packer(source: ParquetSource, use_case: UseCase, now_us: int) -> Callable[[pa.Table], Packed]:
    """Return `pack_rows` with all but the block bound: a function of one block of the source, which pickles."""
    return partial(pack_rows, table=named(source.path), use_case=use_case, now_us=now_us)


def pack_rows(block: pa.Table, table: str, use_case: UseCase, now_us: int) -> Packed:
    """Pack consecutive rows of one file; rows that are left out are named by it, and errors name it.

    Args:
        block: the columns of `online_columns`, and those of the rows' origin; one row at least.
        table: path of the file or folder that is read.
        use_case: see `pack_table`.
        now_us: see `pack_table`.

    Raises:
        DataError: a column holds what its feature cannot.
    """
    origin = origin_of(block)
    file = origin.file.removeprefix(f"{table}/") if origin.file != table else base_name(table)
    try:
        return pack_table(without_origin(block), use_case, now_us, lambda place: f"{file} row {origin.row + place}")
    except DataError as exc:
        raise DataError(f"{origin.file}: {exc}") from exc


def pack_table(table: pa.Table, use_case: UseCase, now_us: int, name: RowName) -> Packed:
    """Pack the latest row of each entity in a table.

    Rows of an entity with the same latest time are all kept, but for those that repeat the one before: which of them
    is the last is known only when all blocks are.

    Args:
        table: the columns `online_columns`, in the order of the source.
        use_case: names the entity, the event time and the online features.
        now_us: current time in microseconds since 1970 UTC. Rows more than a day later are left out, since one wrong
            date in the future would win over every later row of its entity; and rows past the entity's ttl.
        name: names rows that are left out.

    Raises:
        DataError: a column holds what its feature cannot.
    """
    entity, time = use_case.entity or Entity(column=""), use_case.event_time or ""
    found = entity_keys(table.column(entity.column), entity)
    times = event_us(table.column(time), time)
    oldest_us = NO_TIME + 1 if entity.ttl_seconds is None else now_us - entity.ttl_seconds * 1_000_000
    left_out = LeftOut()
    kept = np.ones(table.num_rows, bool)
    for reason, mask in _unusable(found, times, oldest_us, now_us + DAY_US):
        left_out.add(reason, LeftOutRows.named(np.flatnonzero(kept & mask), name))
        kept &= ~mask
    latest = _latest(found.keys, times, np.flatnonzero(kept))
    payloads = RowCodec(use_case.schema_).pack_table(table.take(latest), times[latest])
    columns = {"entity": found.keys.take(latest), "event_us": pa.array(times[latest]), "payload": payloads}
    # In the order of the key a store's writes touch neighbouring pages: five times the rate on SQLite.
    ordered = _without_repeats(pa.table(columns).sort_by("entity"))
    hashes = _hash(ordered.column("entity").to_numpy(), categorize=False)
    ordered = ordered.append_column("hash", pa.array(hashes, pa.uint64()))
    return Packed(ordered, table.num_rows, int(kept.sum()) - ordered.num_rows, left_out)


def write(parts: Iterable[Packed], store: OnlineStore, advance: Callable[[int], None]) -> Materialized:
    """Write packed blocks to the store as they come.

    Args:
        parts: packed blocks, in the order of the source.
        store: an open store.
        advance: called with the number of source rows processed since its last call.

    Returns:
        What became of every row.

    Raises:
        StoreUnavailable: the store could not be reached; the run may be repeated.
    """
    done, tally = Materialized(), EntityTally()
    for part in parts:
        advance(part.rows - part.table.num_rows)
        _put(part.table, store, tally, advance)
        done.rows += part.rows
        done.superseded += part.superseded
        done.left_out.merge(part.left_out)
    done.entities = tally.totals()
    done.superseded += done.entities.superseded
    done.left_out.add(Reason.EXPIRED, LeftOutRows(done.entities.expired))
    return done


def _unusable(
    found: EntityKeys, times: np.ndarray, oldest_us: int, latest_us: int
) -> Iterator[tuple[Reason, np.ndarray]]:
    """Yield each reason to leave a row out with the mask of the rows it holds for; a row's first reason counts."""
    yield Reason.WITHOUT_ENTITY, found.blank
    yield Reason.WRONG_ENTITY, found.refused
    yield Reason.WITHOUT_TIME, times == NO_TIME
    yield Reason.FUTURE, times > latest_us
    yield Reason.EXPIRED, times < oldest_us


def _latest(keys: pa.Array, times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return those of `rows` (ascending indices) that have the latest time of their key."""
    codes = keys.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)[rows]
    newest = np.full(len(keys), NO_TIME)
    np.maximum.at(newest, codes, times[rows])
    return rows[times[rows] == newest[codes]]


def _without_repeats(table: pa.Table) -> pa.Table:
    """Return a table, sorted by entity, without the rows that have the entity and the payload of the row before."""
    if table.num_rows < 2:
        return table
    same = np.ones(table.num_rows - 1, bool)
    for name in ("entity", "payload"):
        column = table.column(name).combine_chunks()
        same &= pc.call_function("equal", [column.slice(1), column.slice(0, len(column) - 1)]).to_numpy(
            zero_copy_only=False
        )
    return table.filter(pa.array(np.concatenate([[True], ~same]))) if same.any() else table


def _put(table: pa.Table, store: OnlineStore, tally: EntityTally, advance: Callable[[int], None]) -> None:
    columns = (table.column(name).to_pylist() for name in ("entity", "event_us", "payload"))
    rows = map(StoredRow._make, zip(*columns, strict=True))
    hashes = table.column("hash").to_numpy()
    while batch := list(islice(rows, _WRITE_ROWS)):
        tally.add(hashes[: len(batch)], store.put_many(batch))
        hashes = hashes[len(batch) :]
        advance(len(batch))
