"""A slice of one entity, read from its tiles and the events that they leave, or from its events alone.

No tile reaches over the beginning or end of a window, nor over an instant whose events have to be looked at one by one:
that of the row, where the order of keys counts, and that of an event which the row itself is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from data.event_store import RowQuery
from data.event_store.sqlite.event_table import EventTable
from data.event_store.sqlite.tile_table import Place
from data.event_store.tile_making import TileJob
from data.event_store.tile_spans import Span, divided, joined
from data.feature_views.online.online_windows import Slice
from data.feature_views.online.stored_events import StoredEvents
from data.feature_views.online.tiles import Tile


class TiledSlice(NamedTuple):
    """What was read of one entity."""

    events: StoredEvents
    """Ascending in time and key."""
    tiles: list[Tile]
    """In the order of time, each in place of the events in it."""
    spans: int
    """Into how many spans of time the windows divide the slice."""


def read_slice(table: EventTable, wanted: Slice, entity: int, key: str, row: RowQuery, time_us: int) -> TiledSlice:
    """Read the events of an entity up to a row's time, from tiles where it has them.

    Args:
        table: the event table. A transaction is opened where tiles are read, unless there is one.
        wanted: the slice.
        entity: the entity's number in its source.
        key: key of the entity.
        row: the row.
        time_us: its time in force.
    """
    place = table.place(wanted.source, entity, key, wanted.tiles.fingerprint if wanted.tiles else "")
    lines = table.tiles.lines(place) if wanted.tiles else []
    if not wanted.tiles or not lines:
        return TiledSlice(table.read(wanted.source, entity, key, time_us - wanted.reach_us, time_us), [], 1)
    with _snapshot(table.connection):
        own = (table.time_of(each.source, each.event.key) for each in row.own if each.source == wanted.source)
        instants = {time_us, *(each for each in own if each is not None)}
        spans = divided(wanted.tiles, wanted.reach_us, time_us, instants)
        tiles, left = table.tiles.cover(lines, [span for span in spans if span.start_us not in instants], time_us)
        left += [span for span in spans if span.start_us in instants]
        events = StoredEvents.joined([table.read_span(place, span) for span in joined(sorted(left))])
    return TiledSlice(events, tiles, len(spans))


def tile_job(
    table: EventTable, wanted: Slice, entity: int, key: str, time_us: int, until_us: int
) -> TileJob[Place] | None:
    """Return what is to be folded of a slice to read it from tiles, up to a time; None when there is nothing."""
    span = Span(time_us - wanted.reach_us + 1, min(time_us + 1, until_us))
    if wanted.tiles is None or span.start_us >= span.end_us:
        return None
    return TileJob(table.place(wanted.source, entity, key, wanted.tiles.fingerprint), wanted.tiles, span)


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Have every read see the same state of the file."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
