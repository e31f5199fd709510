"""Windows in this process: records rows' own events, reads the events of their entities, computes window features."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from data.errors import DamagedRow, StoreError, StoreUnavailable
from data.event_store import EventOutcome, EventStore, RowEvents, RowQuery, open_events
from data.event_store.event_stats import EventCounts, EventStats
from data.event_store.tile_making import TileWork
from data.feature_views.events.event import Event
from data.feature_views.online.online_windows import WindowPlan
from data.feature_views.online.stored_events import StoredEvents
from data.settings import Settings
from ray_app.inference.features.store_opening import StoreOpening
from ray_app.monitoring.histogram import FINE_SECONDS, Histogram
from ray_app.prediction import RowWindows
from tune.registry.bundle import BundleManifest

_EVENTS = (0, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 100_000, 1_000_000)


def window_plan(manifest: BundleManifest) -> WindowPlan:
    """Return what the windows of a model read, in the order in which gateway and feature stage pass it on."""
    return WindowPlan(manifest.windows, manifest.events)


class EventWindows:
    """The windows of a model over its event store. While the store cannot be opened, a background thread keeps trying.

    Args:
        open_store: opens the store; a StoreError means that it cannot be opened now.
        manifest: of the model: its windows and sources of events.
        limit_s: longest time for one fetch, in seconds.
        retry_s: seconds between two attempts to open the store.
        clock: returns the time in microseconds since 1970 UTC, by which an event is late.
    """

    def __init__(
        self,
        open_store: Callable[[], EventStore],
        manifest: BundleManifest,
        limit_s: float = math.inf,
        retry_s: float = 2.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._opening = StoreOpening(open_store, "event store", retry_s)
        self._plan = window_plan(manifest)
        self._limit_s = limit_s
        self._clock = clock
        self._stats = {each.source: EventStats() for each in self._plan.slices}
        self._slice_stats = [self._stats[each.source] for each in self._plan.slices]
        self.seconds = Histogram(FINE_SECONDS)
        """Durations of fetches, recording included, failed ones too."""
        self.events_read = Histogram(_EVENTS)
        """Events that were read for a row."""
        self.failures = 0
        """Calls of the store that failed."""

    @property
    def is_open(self) -> bool:
        """True once the store has been opened."""
        return self._opening.is_open

    @property
    def tile_work(self) -> TileWork:
        """The work of the store's tiles in this process; nothing while the store is not open."""
        return self._opening.store.tile_work if self.is_open else TileWork()

    @property
    def expired(self) -> int:
        """Events that this process removed for their age."""
        return self._opening.store.expired if self.is_open else 0

    def counts(self) -> dict[str, EventCounts]:
        """What came to the store by this process, by source; and the newest event that it stored or read."""
        return {source: stats.counts for source, stats in self._stats.items()}

    async def fetch(self, queries: Sequence[RowQuery], timeout_s: float = math.inf) -> list[RowWindows]:
        """Record and compute n rows, in order.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error; what was recorded is not known.
        """
        started = time.perf_counter()
        try:
            found = await self._opening.store.fetch(self._plan.slices, queries, min(self._limit_s, timeout_s))
        except StoreError as exc:
            raise self._failed(exc) from exc
        finally:
            self.seconds.observe(time.perf_counter() - started)
        now_us = self._clock()
        for query, events in zip(queries, found, strict=True):
            self._count(query, events, now_us)
        return [self._compute(query, events) for query, events in zip(queries, found, strict=True)]

    async def record(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store n events of a source; returns what became of each, in order.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error; recording them again is safe.
        """
        try:
            outcomes = await asyncio.to_thread(self._opening.store.append, source, events)
        except StoreError as exc:
            raise self._failed(exc) from exc
        self._stats[source].stored(events, outcomes, self._clock())
        return outcomes

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store is not open or does not answer."""
        await self._opening.store.ping()

    def close(self) -> None:
        """Stop the attempts to open the store, and close it."""
        self._opening.close()

    def _failed(self, exc: StoreError) -> StoreUnavailable:
        """Count a failure of the store, and return it as one that may be over at the next call."""
        self.failures += 1
        return StoreUnavailable(str(exc))

    def _count(self, query: RowQuery, found: RowEvents, now_us: int) -> None:
        if found.outcomes:
            # A time that the store set is that of its clock, whatever it is here: such a row is never late.
            taken_us = found.time_us if query.time_us is None else now_us
            recorded = (own for own in query.own if own.record)
            for own, outcome in zip(recorded, found.outcomes, strict=True):
                self._stats[own.source].count(outcome, found.time_us, found.time_us, taken_us)
        read = 0
        for stats, events in zip(self._slice_stats, found.events, strict=True):
            if events:
                read += len(events)
                stats.seen(events.times[-1])
        self.events_read.observe(read)

    def _compute(self, query: RowQuery, found: RowEvents) -> RowWindows:
        newest_us = max((_newest_us(each, found.time_us, query.key) for each in found.events), default=-math.inf)
        tiles = (tile.last_us for each in found.tiles for tile in each if tile.last_us is not None)
        newest_us = max(newest_us, max(tiles, default=-math.inf))
        newest = None if math.isinf(newest_us) else int(newest_us)
        try:
            computed = self._plan.compute(found.events, found.time_us, query.key, query.own, found.tiles)
        except DamagedRow:
            missing = [math.nan] * len(self._plan.features)
            return RowWindows(found.time_us, missing, [0] * len(missing), newest, found.outcomes, damaged=True)
        values, counts = [each.value for each in computed], [each.events for each in computed]
        return RowWindows(found.time_us, values, counts, newest, found.outcomes)


def event_windows(settings: Settings, manifest: BundleManifest, name: str | None = None) -> EventWindows | None:
    """Return the windows of a model in this process, None when it has none.

    `name` is that of the event store, by default the model's.

    Raises:
        ConfigError: the settings name no known store.
    """
    if not manifest.windows:
        return None
    keep_us = max(window.reach_us for window in manifest.windows)
    opened = partial(open_events, settings, name or manifest.name, manifest.events, keep_us=keep_us, create=True)
    return EventWindows(opened, manifest, settings.feature_timeout_ms / 1000)


def _newest_us(events: StoredEvents, time_us: int, key: bytes) -> float:
    for other_us, other in zip(reversed(events.times), reversed(events.keys), strict=True):
        if (other_us, other) != (time_us, key):
            return other_us
    return -math.inf
