"""Makes the tiles of hot entities: those that are stored, and where some are missing or not valid new ones of events.

What is read of an entity is read in this order: its marks, then its events. So a late event that the events lack leaves
a mark that the tile was not made with, and the tile is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from data.errors import DamagedRow
from data.event_store.cassandra.event_rows import events_of
from data.event_store.cassandra.event_tables import EventTables
from data.event_store.cassandra.hot_entities import HotEntities, HotEntity
from data.event_store.cassandra.hot_list import GRACE_S
from data.event_store.cassandra.late_marks import EntityPlace, Marks, Registration
from data.event_store.cassandra.slice_reads import PAGE
from data.event_store.cassandra.tile_rows import HotPlace, tile_of
from data.event_store.cassandra.tile_shelf import KeyedTile, TileShelf, key_hashes
from data.event_store.tile_making import TileJob, TileRules, TileWork
from data.event_store.tile_spans import NEVER_US, FoldedTile, Span, gaps
from data.feature_views.online.tiles import TilePlan

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement

_TILES_A_PART = 256
_TIMEOUT_S = 5.0
_REGISTER_AGAIN_S = 12 * 3600.0
_YOUNG_US = 40 * 1_000_000  # 10 s for the event to arrive, 30 s by which clocks may disagree


class _Registered(NamedTuple):
    """What this process knows of a registration."""

    registration: Registration | None
    ready_at: float
    """From when on events may be folded, on the monotonic clock, in seconds."""
    again_at: float


class ShelfMaker:
    """Makes the tiles of jobs. Blocks its caller.

    Args:
        session: a connected driver session.
        tables: make the statements.
        entities: gets what is made.
        rules: how large tiles are.
        work: counts what is made.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self,
        session: Session,
        tables: EventTables,
        entities: HotEntities,
        rules: TileRules,
        work: TileWork,
        clock: Callable[[], int],
    ) -> None:
        self._session = session
        self._tables = tables
        self._entities = entities
        self._rules = rules
        self._work = work
        self._clock = clock
        self._registered: dict[EntityPlace, _Registered] = {}

    def load(self, job: TileJob[HotPlace]) -> bool:
        """Take the tiles that are stored into memory; return whether there are any."""
        marks, tiles = self._valid(job)
        if tiles:
            self._publish(job, marks, tiles)
        return bool(tiles)

    def make(self, job: TileJob[HotPlace], pause: Callable[[float], object]) -> int:
        """Make the tiles that a job's span lacks; return how much was done, 0 when there is nothing to do.

        Args:
            job: what is to have tiles.
            pause: waits so many seconds, for others; it may raise to stop.

        Raises:
            DRIVER_ERRORS: the cluster does not answer; what was made until then stays.
        """
        before = self._work.tiles_folded
        span = Span(max(job.span.start_us, self._tables.tiles.oldest_us), job.span.end_us)
        if span.start_us >= span.end_us:
            return 0
        job = job._replace(span=span)
        while True:
            marks, tiles = self._valid(job)
            if not self._ready(job.place.entity, marks):
                return 1
            made = self._fold(job, marks, tiles, pause)
            self._publish(job, marks, sorted([*tiles, *made], key=_start_us))
            if len(made) < _TILES_A_PART:
                return self._work.tiles_folded - before

    def _valid(self, job: TileJob[HotPlace]) -> tuple[Marks, list[KeyedTile]]:
        """Return the marks of an entity, and its tiles that are valid, those in memory and those stored since.

        Those that are older than any event that is kept are left out.
        """
        marks = Marks(self._ask(self._tables.marks.read(job.place.entity)))
        known, before = self._entities.get(job.place), []
        from_us = job.span.start_us
        if known is not None and known.from_us <= from_us:
            before = known.shelf.tiles
            from_us = before[-1].folded.end_us if before else from_us
        stored = [tile_of(*row) for row in self._ask(self._tables.tiles.read(job.place, from_us))]
        tiles, oldest_us = list[KeyedTile](), self._tables.tiles.oldest_us
        for tile in chain(before, filter(None, stored)):
            span = Span(*tile.folded[:2])
            follows = not tiles or tiles[-1].folded.end_us <= span.start_us
            if follows and span.end_us > oldest_us and tile.digest == marks.digest(span):
                tiles.append(tile)
        return marks, tiles

    def _publish(self, job: TileJob[HotPlace], marks: Marks, tiles: Sequence[KeyedTile]) -> None:
        known = self._entities.get(job.place)
        from_us = job.span.start_us if known is None else min(known.from_us, job.span.start_us)
        shelf = TileShelf(tiles, job.plan, self._rules.fan_out, known.shelf if known is not None else None)
        self._entities.put(job.place, HotEntity(shelf, marks, from_us))

    def _ready(self, place: EntityPlace, marks: Marks) -> bool:
        """Return whether every writer of late events knows the entity; it is registered where it is not yet."""
        known, now_s = self._registered.get(place), time.monotonic()
        if known is None or known.registration != marks.registration or now_s >= known.again_at:
            self._ask(self._tables.marks.register(place, marks.registration))
            # After it: of a registration that outlives the emptying of both tables the entry does, too (`TABLES`).
            self._ask(self._tables.hot.add(place))
            found = Marks(self._ask(self._tables.marks.read_days(place))).registration
            same = known is not None and known.registration == found and found is not None
            ready_at = known.ready_at if known is not None and same else time.monotonic() + GRACE_S
            known = self._registered[place] = _Registered(found, ready_at, now_s + _REGISTER_AGAIN_S)
        return now_s >= known.ready_at and known.registration == marks.registration

    def _fold(
        self, job: TileJob[HotPlace], marks: Marks, tiles: Sequence[KeyedTile], pause: Callable[[float], object]
    ) -> list[KeyedTile]:
        """Make up to a part of the tiles that are missing."""
        made: list[KeyedTile] = []
        start, folded = time.perf_counter(), [tile.folded for tile in tiles]
        for gap in gaps(job.span, [tile for tile in folded if tile.end_us > job.span.start_us]):
            # What ends where a tile begins is folded to its end; elsewhere further events are to come.
            closed = gap.end_us < job.span.end_us
            for span, rows in _divided(self._pages(job.place.entity, gap), gap, self._rules.events, closed=closed):
                if (tile := self._folded(job.plan, marks, span, rows)) is not None:
                    self._ask(self._tables.tiles.write(job.place, tile))
                    made.append(tile)
                seconds = time.perf_counter() - start
                self._work.fold_seconds += seconds
                if len(made) >= _TILES_A_PART:
                    return made
                pause(seconds)
                start = time.perf_counter()
        return made

    def _folded(self, plan: TilePlan, marks: Marks, span: Span, rows: Sequence[Any]) -> KeyedTile | None:
        if marks.youngest_us(span) > self._clock() - _YOUNG_US:
            return None  # Its writer may be about to write the event.
        events = events_of([rows])
        try:
            payload = plan.fold(events)
        except DamagedRow:
            return None  # Read as an event, it is reported.
        last_us, known_us = events.times[-1] if events else None, max(events.known, default=NEVER_US)
        folded = FoldedTile(*span, last_us, known_us, payload)
        self._work.tiles_folded += 1
        self._work.events_folded += len(events)
        return KeyedTile(folded, key_hashes(events.keys), marks.digest(span))

    def _pages(self, place: EntityPlace, span: Span) -> Iterator[Any]:
        """Yield the rows of an entity's events in a span, ascending in time and key."""
        for bucket in self._tables.events.buckets(span):
            after: tuple[int, bytes] | None = span.start_us, b""
            while after is not None:
                rows = self._ask(self._tables.events.page(place, bucket, after, span.end_us, PAGE))
                yield from rows
                after = (rows[-1][0], rows[-1][1]) if len(rows) == PAGE else None

    def _ask(self, statement: Statement) -> list[Any]:
        return list(self._session.execute(statement, timeout=_TIMEOUT_S))


def _divided(rows: Iterator[Any], gap: Span, size: int, *, closed: bool) -> Iterator[tuple[Span, list[Any]]]:
    """Yield the spans of tiles, with the rows in each: at least `size` events, and no instant divided.

    Args:
        rows: all rows in the gap, in order.
        gap: the time without tiles.
        size: fewest events of a tile.
        closed: whether no further events will come: then the last tile takes all that are left, however few.
    """
    at, held = gap.start_us, list[Any]()
    for group in _grouped(rows, size):
        if len(group) < size:
            held = [*held, *group] if closed else held
            break
        if held:
            span = Span(at, held[-1][0] + 1)
            yield span, held
            at = span.end_us
        held = group
    if closed:
        yield Span(at, gap.end_us), held
    elif held:
        yield Span(at, held[-1][0] + 1), held


def _grouped(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    group: list[Any] = []
    for row in rows:
        if len(group) >= size and row[0] != group[-1][0]:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _start_us(tile: KeyedTile) -> int:
    return tile.folded.start_us
