"""Makes tiles: folds events, and tiles of one level into those of the next, each in a transaction of its own.

A tile is folded from what the file holds while nobody else can write, so it has every event of its span; what comes
later removes it. Two processes may fold the same entity: each finds what the other made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from data.errors import DamagedRow
from data.event_store.sqlite.event_table import EventTable
from data.event_store.sqlite.followed_table import FollowedTable
from data.event_store.sqlite.tile_table import Place, TileTable
from data.event_store.tile_making import TileJob, TileRules, TileWork
from data.event_store.tile_spans import NEVER_US, FoldedTile, Span, gaps, merged_us, tile_groups
from data.feature_views.online.tiles import TilePlan


class TileMaker:
    """Makes the tiles of jobs, one job at a time.

    Args:
        following: the event table of a connection of its own.
        rules: how large tiles are.
        work: counts what is made.
        pause: waits so many seconds between two transactions, so that others can write; it may raise to stop.
    """

    def __init__(
        self, following: FollowedTable, rules: TileRules, work: TileWork, pause: Callable[[float], object]
    ) -> None:
        self._following = following
        self._rules = rules
        self._work = work
        self._pause = pause

    def make(self, job: TileJob[Place]) -> int:
        """Make the tiles that a job's span lacks; return how many.

        Raises:
            StoreUnavailable, StoreError, sqlite3.Error: something is wrong with the file, or another process has it
                locked; what was made until then stays.
        """
        table = self._following.get()
        lines = self._timed(table, partial(table.tiles.make_lines, job.place))
        before = self._work.tiles_folded
        if lines:
            self._fold_events(table, job, lines[-1])
        for at in range(len(lines) - 2, -1, -1):
            self._merge(table, job, lines[at], lines[at + 1])
        return self._work.tiles_folded - before

    def _fold_events(self, table: EventTable, job: TileJob[Place], line: int) -> None:
        for gap in gaps(job.span, table.tiles.spans(line, job.span)):
            # What ends where a tile begins is folded to its end; elsewhere further events are to come.
            closed, at = gap.end_us < job.span.end_us, gap.start_us
            while at is not None and at < gap.end_us:
                left = Span(at, gap.end_us)
                at = self._timed(table, partial(self._fold, table, job, line, left, closed))

    def _fold(self, table: EventTable, job: TileJob[Place], line: int, left: Span, closed: bool) -> int | None:
        """Fold the first events of a span; return the end of their tile, None when there is nothing more to fold."""
        if table.tiles.spans(line, left):
            return None
        end_us = self._end_us(table, job, left, closed)
        if end_us is None:
            return None
        span = Span(left.start_us, end_us)
        events = table.read_span(job.place, span)
        try:
            payload = job.plan.fold(events)
        except DamagedRow:
            return end_us  # Read as an event, it is reported.
        known_us = max(events.known, default=NEVER_US)
        table.tiles.put(line, FoldedTile(*span, events.times[-1] if events else None, known_us, payload))
        self._work.tiles_folded += 1
        self._work.events_folded += len(events)
        return end_us

    def _end_us(self, table: EventTable, job: TileJob[Place], left: Span, closed: bool) -> int | None:
        """Return where the first tile of a span ends, None when there are too few events for one."""
        if closed and table.nth_us(job.place, left, 2 * self._rules.events) is None:
            return left.end_us
        last_us = table.nth_us(job.place, left, self._rules.events)
        return None if last_us is None else last_us + 1

    def _merge(self, table: EventTable, job: TileJob[Place], line: int, below: int) -> None:
        made, parts = table.tiles.spans(line, job.span), table.tiles.spans(below, job.span)
        for span in tile_groups(parts, made, self._rules.fan_out):
            self._timed(table, partial(self._merge_one, table.tiles, job.plan, line, below, span))

    def _merge_one(self, tiles: TileTable, plan: TilePlan, line: int, below: int, span: Span) -> None:
        parts = tiles.parts(below, span)
        if tiles.spans(line, span) or any(gaps(span, parts)):
            return  # Another process was first, or an event came that took a part away.
        tiles.put(line, FoldedTile(*span, *merged_us(parts), plan.merge([part.payload for part in parts])))
        self._work.tiles_folded += 1

    def _timed(self, table: EventTable, call: Callable[[], _Result]) -> _Result:
        """Return what a call does in a transaction, then leave the file to others for as long as it took."""
        start = time.perf_counter()
        try:
            with table.transaction():
                result = call()
        finally:
            seconds = time.perf_counter() - start
            self._work.fold_seconds += seconds
        self._pause(seconds)
        return result


_Result = TypeVar("_Result")
