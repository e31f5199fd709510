"""Reads the slices of rows from a Cassandra event store, in rounds of queries, and has tiles made of hot entities."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from data.event_store import RowQuery, TileWork, is_storable
from data.event_store.cassandra.event_rows import EventRows
from data.event_store.cassandra.hot_entities import HotEntities
from data.event_store.cassandra.late_marks import MarkRows
from data.event_store.cassandra.shelf_maker import ShelfMaker
from data.event_store.cassandra.slice_reads import PlainRead, SliceQuery, TiledRead
from data.event_store.cassandra.tile_rows import HotPlace
from data.event_store.tile_folder import TileFolder
from data.event_store.tile_making import TileJob, TileRules
from data.event_store.tile_spans import Span
from data.feature_views.online.online_windows import Slice
from data.online_store.cassandra.driver import DRIVER_ERRORS

if TYPE_CHECKING:
    from cassandra.query import Statement

_LONG_READ_S = 15.0
SliceRead = PlainRead | TiledRead


class Tiling(NamedTuple):
    """What a store has for the tiles of its hot entities."""

    entities: HotEntities
    """Those whose tiles are in memory."""
    maker: ShelfMaker
    folder: TileFolder[HotPlace]
    """Has tiles made in its thread."""
    rules: TileRules
    work: TileWork
    clock: Callable[[], int]
    """Returns the time in microseconds since 1970 UTC."""


class SliceReader:
    """Reads slices.

    Args:
        rows: makes the statements for events.
        marks: makes those for marks.
        tiling: the tiles.
        ask: sends statements and returns their answers in order, within so many seconds.
        timeout_s: longest time for a round of queries for what an ordinary entity has, in seconds.
    """

    def __init__(
        self,
        rows: EventRows,
        marks: MarkRows,
        tiling: Tiling,
        ask: Callable[[Sequence[Statement], float], Awaitable[list[Sequence[Any]]]],
        timeout_s: float,
    ) -> None:
        self._rows, self._marks, self._tiling = rows, marks, tiling
        self._ask, self._timeout_s = ask, timeout_s

    async def read(
        self, slices: Sequence[Slice], rows: Sequence[RowQuery], deadline: float
    ) -> list[list[SliceRead | None]]:
        """Return for each row, for each slice, what was read up to the row's time; None where it names no entity.

        Args:
            slices: what is read of each row.
            rows: rows with their times.
            deadline: until when it may take, by `time.monotonic`.
        """
        found = [
            None if key is None or not is_storable(key) else self._slice_read(self._slice_query(wanted, key, row))
            for row in rows
            for wanted, key in zip(slices, row.entities, strict=True)
        ]
        while asked := [(at, each) for at, each in enumerate(found) if each is not None and each.statements]:
            statements = [every for _, each in asked for every in each.statements]
            most_s = _LONG_READ_S if any(each.long for _, each in asked) else self._timeout_s
            answers = iter(await self._ask(statements, min(deadline - time.monotonic(), most_s)))
            for at, each in asked:
                each.take([next(answers) for _ in each.statements])
                if each.over:
                    found[at] = await self._read_again(each, deadline)
        for each in found:
            if each is not None:
                self._offer(each)
        return [found[at * len(slices) : (at + 1) * len(slices)] for at in range(len(rows))]

    def _slice_query(self, wanted: Slice, key: str, row: RowQuery) -> SliceQuery:
        place = HotPlace(
            self._rows.place(wanted.source, wanted.entity, key), wanted.tiles.fingerprint if wanted.tiles else ""
        )
        own = tuple(own.event.key for own in row.own if own.source == wanted.source)
        return SliceQuery(place, wanted.tiles, wanted.reach_us, row.time_us or 0, own)

    def _slice_read(self, query: SliceQuery) -> SliceRead:
        if query.plan is None:
            return PlainRead(self._rows, query, few=False)
        entity = self._tiling.entities.get(query.place)
        if entity is None:
            return PlainRead(self._rows, query, few=True)
        return TiledRead(self._rows, self._marks, entity, query, query.plan)

    async def _read_again(self, read: SliceRead, deadline: float) -> SliceRead:
        """Return another way to read a slice, after one that found too many events or tiles that are none any more."""
        if isinstance(read, TiledRead):
            self._tiling.entities.drop(read.query.place)
            return self._slice_read(read.query)
        job = self._job(read.query)
        if job is not None:
            # Without tiles the events are read, which takes longer, no more.
            with contextlib.suppress(asyncio.TimeoutError, *DRIVER_ERRORS):
                await asyncio.wait_for(asyncio.to_thread(self._tiling.maker.load, job), deadline - time.monotonic())
            self._tiling.folder.offer(job)
        if self._tiling.entities.get(read.query.place) is not None:
            return self._slice_read(read.query)
        return PlainRead(self._rows, read.query, few=False)

    def _offer(self, read: SliceRead) -> None:
        """Have tiles made where they would save work."""
        self._tiling.work.tiles_read += len(read.tiles)
        if read.query.plan is not None and self._tiling.rules.wanted(len(read.events), len(read.tiles), read.spans):
            job = self._job(read.query)
            if job is not None:
                self._tiling.folder.offer(job)

    def _job(self, query: SliceQuery) -> TileJob[HotPlace] | None:
        span = Span(query.span.start_us, min(query.span.end_us, self._tiling.clock() - self._tiling.rules.settle_us))
        if query.plan is None or span.start_us >= span.end_us:
            return None
        return TileJob(query.place, query.plan, span)
