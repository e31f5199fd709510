"""Windows in this process: records rows' own events, reads the events of their entities, computes window features."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from data.errors import DamagedRow, StoreError, StoreUnavailable
from data.event_store import EventOutcome, EventStore, RowEvents, RowQuery, open_events
from data.feature_views.event import Event
from data.feature_views.online_windows import StoredEvent, WindowPlan
from data.settings import Settings
from ray_app.inference.store_opening import StoreOpening
from ray_app.monitoring.histogram import FINE_SECONDS, Histogram
from ray_app.prediction import RowWindows
from tune.registry.bundle import BundleManifest


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
    """

    def __init__(
        self,
        open_store: Callable[[], EventStore],
        manifest: BundleManifest,
        limit_s: float = math.inf,
        retry_s: float = 2.0,
    ) -> None:
        self._opening = StoreOpening(open_store, "event store", retry_s)
        self._plan = window_plan(manifest)
        self._limit_s = limit_s
        self.seconds = Histogram(FINE_SECONDS)
        """Durations of fetches, recording included, failed ones too."""

    @property
    def is_open(self) -> bool:
        """True once the store has been opened."""
        return self._opening.is_open

    async def fetch(self, queries: Sequence[RowQuery], timeout_s: float = math.inf) -> list[RowWindows]:
        """Record and compute n rows, in order.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error; what was recorded is not known.
        """
        started = time.perf_counter()
        try:
            found = await self._opening.store.fetch(self._plan.slices, queries, min(self._limit_s, timeout_s))
        except StoreUnavailable:
            raise
        except StoreError as exc:
            raise StoreUnavailable(str(exc)) from exc
        finally:
            self.seconds.observe(time.perf_counter() - started)
        return [self._compute(query, events) for query, events in zip(queries, found, strict=True)]

    async def record(self, source: str, events: Sequence[Event]) -> list[EventOutcome]:
        """Store n events of a source; returns what became of each, in order.

        Raises:
            StoreUnavailable: the store did not answer in time, or with an error; recording them again is safe.
        """
        try:
            return await asyncio.to_thread(self._opening.store.append, source, events)
        except StoreUnavailable:
            raise
        except StoreError as exc:
            raise StoreUnavailable(str(exc)) from exc

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store is not open or does not answer."""
        await self._opening.store.ping()

    def close(self) -> None:
        """Stop the attempts to open the store, and close it."""
        self._opening.close()

    def _compute(self, query: RowQuery, found: RowEvents) -> RowWindows:
        newest_us = max((_newest_us(each, found.time_us, query.key) for each in found.events), default=-math.inf)
        newest = None if math.isinf(newest_us) else int(newest_us)
        try:
            computed = self._plan.compute(found.events, found.time_us, query.key, query.own)
        except DamagedRow:
            missing = [math.nan] * len(self._plan.features)
            return RowWindows(found.time_us, missing, [0] * len(missing), newest, found.outcomes, damaged=True)
        values, counts = [each.value for each in computed], [each.events for each in computed]
        return RowWindows(found.time_us, values, counts, newest, found.outcomes)


def event_windows(settings: Settings, manifest: BundleManifest) -> EventWindows | None:
    """Return the windows of a model in this process, None when it has none.

    Raises:
        ConfigError: the settings name no known store.
    """
    if not manifest.windows:
        return None
    keep_us = max(window.reach_us for window in manifest.windows)
    opened = partial(open_events, settings, manifest.name, manifest.events, keep_us=keep_us, create=True)
    return EventWindows(opened, manifest, settings.feature_timeout_ms / 1000)


def _newest_us(line: Sequence[StoredEvent], time_us: int, key: bytes) -> float:
    for event in reversed(line):
        if (event.time_us, event.key) != (time_us, key):
            return event.time_us
    return -math.inf
