"""A slice of one entity, read from its tiles and the events that they leave, or from its events alone.

No tile reaches over the beginning or end of a window, nor over an instant whose events have to be looked at one by one:
that of the row, where the order of keys counts, and that of an event which the row itself is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from data.event_store import RowQuery
from data.event_store.event_table import EventTable
from data.event_store.tile_table import LEVELS, Place, Span
from data.feature_views.online_windows import Slice
from data.feature_views.stored_events import StoredEvents
from data.feature_views.tiles import Tile, TilePlan


class TileRules(NamedTuple):
    """Which entities have tiles, and how large these are."""

    hot: int = 512
    """An entity with more events than this in a slice gets tiles."""
    events: int = 128
    """Events in a tile of level 0: at least so many, less than twice as many, but that an instant is never divided."""
    fan_out: int = 16
    """Tiles in one of the level above, less than twice as many."""
    settle_us: int = 1_000_000
    """An event younger than this, in microseconds, is in no tile yet: others may come before it."""

    def wanted(self, events: int, tiles: int, spans: int) -> bool:
        """Return whether more tiles would save work, from what was read for so many spans of time, 1 without tiles."""
        if spans == 1:
            return events > self.hot
        # At the ends of a span a tile of each level is read by its parts; behind the last tile are some events, too.
        return events > self.events * (spans + 2) or tiles > 4 * self.fan_out * LEVELS * spans


class TileJob(NamedTuple):
    """A span of time of one entity that is to have tiles."""

    place: Place
    plan: TilePlan
    span: Span


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
        spans = _divided(wanted.tiles, wanted.reach_us, time_us, instants)
        tiles, left = table.tiles.cover(lines, [span for span in spans if span.start_us not in instants], time_us)
        left += [span for span in spans if span.start_us in instants]
        events = StoredEvents.joined([table.read_span(place, span) for span in _joined(sorted(left))])
    return TiledSlice(events, tiles, len(spans))


def tile_job(table: EventTable, wanted: Slice, entity: int, key: str, time_us: int, until_us: int) -> TileJob | None:
    """Return what is to be folded of a slice to read it from tiles, up to a time; None when there is nothing."""
    span = Span(time_us - wanted.reach_us + 1, min(time_us + 1, until_us))
    if wanted.tiles is None or span.start_us >= span.end_us:
        return None
    return TileJob(table.place(wanted.source, entity, key, wanted.tiles.fingerprint), wanted.tiles, span)


def _divided(plan: TilePlan, reach_us: int, time_us: int, instants: set[int]) -> list[Span]:
    """Return the spans that a slice has between the ends of its windows; each of some instants is one by itself."""
    first, end = time_us - reach_us + 1, time_us + 1
    ends = {time_us + cut for cut in plan.cuts} | instants | {instant + 1 for instant in instants}
    inside = sorted(each for each in ends if first < each < end)
    return [Span(*each) for each in pairwise([first, *inside, end])]


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Return spans, in order, with those that adjoin made one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].end_us == span.start_us:
            found[-1] = Span(found[-1].start_us, span.end_us)
        else:
            found.append(span)
    return found


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
