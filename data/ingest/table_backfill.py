"""Backfill: the rows of a Parquet table as events into the event store, in the order of the table.

Workers read chunks and make columns of events; the driver process stores them. Storing an event again changes nothing,
so a run that was killed is repeated as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa

from data.errors import DataError
from data.event_store import EventStore
from data.feature_views.events.event_columns import RowsRead, rows_as_events
from data.ingest.event_input import EventInput
from data.ingest.event_tally import EventTally
from data.online_store.left_out import LeftOutRows
from data.sources.filesystems import base_name, named
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of, without_origin

APPEND_EVENTS = 100_000
"""Events that are handed to the store at once: the more, the more of them share its pages."""


class SourceRows(NamedTuple):
    """The events of one source in one block of a table, and the rows that are none."""

    name: str
    rows: int
    read: RowsRead
    left_out: dict[str, LeftOutRows]
    """By reason, the first of them by name."""


def reader(source: ParquetSource, inputs: Sequence[EventInput], now_us: int) -> Callable[[pa.Table], list[SourceRows]]:
    """Return `read_block` with all but the block bound: a function of one block of the source, which pickles."""
    return partial(read_block, table=named(source.path), inputs=tuple(inputs), now_us=now_us)


def read_block(block: pa.Table, table: str, inputs: Sequence[EventInput], now_us: int) -> list[SourceRows]:
    """Read consecutive rows of one file as events of each source.

    Args:
        block: the columns of the inputs, and those of the rows' origin; one row at least.
        table: path of the file or folder that is read.
        inputs: the sources.
        now_us: the time here, microseconds since 1970 UTC.

    Raises:
        DataError: a column holds what its events cannot; names the file.
    """
    origin = origin_of(block)
    file = origin.file.removeprefix(f"{table}/") if origin.file != table else base_name(table)
    rows = without_origin(block)
    try:
        found = [rows_as_events(rows, each.source, each.key, each.time, each.span(now_us)) for each in inputs]
    except DataError as exc:
        raise DataError(f"{origin.file}: {exc}") from exc
    return [
        SourceRows(each.name, rows.num_rows, read, _named(read, lambda place: f"{file} row {origin.row + place}"))
        for each, read in zip(inputs, found, strict=True)
    ]


def backfill(
    blocks: Iterable[list[SourceRows]],
    store: EventStore,
    advance: Callable[[int], None],
    tallies: dict[str, EventTally],
) -> None:
    """Store the events of blocks as they come.

    Args:
        blocks: what `read_block` returned of each, in the order of the table.
        store: an open event store.
        advance: called with the number of rows of a source that were done since its last call.
        tallies: gets by source what became of every row, also of those before an error.

    Raises:
        StoreUnavailable: the store could not be reached; the run may be repeated.
    """
    for block in blocks:
        for part in block:
            tally = tallies.setdefault(part.name, EventTally())
            tally.without.update(part.read.without)
            for reason, rows in part.left_out.items():
                tally.leave_out(reason, rows)
            _done(part.rows - part.read.events.length, tally, advance)
            _append(part, store, tally, advance)


def _append(part: SourceRows, store: EventStore, tally: EventTally, advance: Callable[[int], None]) -> None:
    for start in range(0, part.read.events.length, APPEND_EVENTS):
        events = part.read.events.events(start, APPEND_EVENTS)
        tally.under_way = len(events)
        tally.stored(events, store.append(part.name, events))
        tally.under_way = 0
        _done(len(events), tally, advance)


def _done(rows: int, tally: EventTally, advance: Callable[[int], None]) -> None:
    tally.read += rows
    advance(rows)


def _named(read: RowsRead, name: Callable[[int], str]) -> dict[str, LeftOutRows]:
    return {reason: LeftOutRows.named(rows, name) for reason, rows in read.left_out.items()}
