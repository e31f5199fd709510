"""The feature stage: reads the online store and the event store in this process, or in a replica over a transport.

A transport carries bytes to a replica and bytes back, by a direct link or Ray Serve's handle; `feature_messages` has
the encoding.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from data.errors import Overloaded, StoreError, StoreUnavailable
from data.event_store import EventOutcome, RowQuery
from data.feature_views.events.event import Event
from data.online_store import OnlineStore, open_store
from data.schema.scratch_name import scratch_name
from data.settings import Settings
from ray_app.inference.features import feature_messages as messages
from ray_app.inference.features.event_windows import EventWindows, event_windows
from ray_app.inference.features.store_opening import StoreOpening
from ray_app.inference.stages import FetchedRows
from ray_app.monitoring.histogram import FINE_SECONDS, Histogram
from ray_app.prediction import RowWindows
from ray_app.transport.connection_pool import Transport
from tune.registry.bundle import BundleManifest

Result = TypeVar("Result")
_PATIENCE_MS = 10_000
"""How long a read of scratch stores may take: a proof is to find what differs, not what is slow."""


class LocalFeatures:
    """Feature fetch in this process. While a store cannot be opened, a background thread keeps trying.

    Args:
        open_store: opens the online store; a StoreError means that it cannot be opened now. None for a model without
            online features.
        limit_s: longest time for one fetch, in seconds.
        retry_s: seconds between two attempts to open the store.
        windows: the model's windows, None for a model without.
        open_scratch: makes the same over scratch stores; None where there are none.
    """

    def __init__(
        self,
        open_store: Callable[[], OnlineStore] | None,
        limit_s: float = math.inf,
        retry_s: float = 2.0,
        windows: EventWindows | None = None,
        open_scratch: Callable[[], LocalFeatures] | None = None,
    ) -> None:
        self._opening = StoreOpening(open_store, "online store", retry_s) if open_store is not None else None
        self._limit_s = limit_s
        self.windows = windows
        self._open_scratch = open_scratch
        self._scratch: LocalFeatures | None = None
        self._scratch_opening = asyncio.Lock()
        self.seconds = Histogram(FINE_SECONDS)
        """Durations of reads, failed ones included."""
        self.keys = {"found": 0, "missing": 0, "failed": 0}
        """Number of keys read, by result."""

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Read packed rows from the store; see `FeatureStage`."""
        started = time.perf_counter()
        try:
            payloads = await self._read(entities, min(self._limit_s, timeout_s))
        except Exception:
            self.keys["failed"] += len(entities)
            raise
        finally:
            self.seconds.observe(time.perf_counter() - started)
        missing = payloads.count(None)
        self.keys["missing"] += missing
        self.keys["found"] += len(payloads) - missing
        return payloads

    async def fetch_rows(
        self, entities: Sequence[str], queries: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> FetchedRows:
        """Read both stores, and record; see `WindowStage`."""
        windows = self._windows_of(queries, timeout_s)
        if not entities:
            return FetchedRows([], await windows)
        stored, computed = await asyncio.gather(_or_problem(self.fetch(entities, timeout_s)), windows)
        return FetchedRows(stored, computed)

    async def record(self, source: str, events: Sequence[Event], timeout_s: float = math.inf) -> list[EventOutcome]:
        """Store events; see `WindowStage`."""
        if self.windows is None:
            raise StoreUnavailable("the model has no windows, and no event store")
        return await self.windows.record(source, events)

    async def scratch(self) -> LocalFeatures:
        """Return the same over scratch stores, opened at the first call; see `HasScratch`."""
        if self._open_scratch is None:
            raise StoreUnavailable("this feature stage has no scratch stores")
        async with self._scratch_opening:
            if self._scratch is None:
                # In a thread: connecting to a store takes long, and live requests are answered here.
                self._scratch = await asyncio.to_thread(self._open_scratch)
        return self._scratch

    @property
    def is_open(self) -> bool:
        """True once the online store has been opened, or when none is needed."""
        return self._opening is None or self._opening.is_open

    async def ping(self) -> None:
        """Raise StoreUnavailable when a store is not open or does not answer."""
        if self._opening is not None:
            await self._opening.store.ping()
        if self.windows is not None:
            await self.windows.ping()

    def close(self) -> None:
        """Stop the attempts to open the stores, and close them."""
        if self._opening is not None:
            self._opening.close()
        if self.windows is not None:
            self.windows.close()
        if self._scratch is not None:
            self._scratch.close()

    async def _read(self, entities: Sequence[str], timeout_s: float) -> list[bytes | None]:
        if self._opening is None:
            raise StoreUnavailable("the model has no online features, and no online store")
        store = self._opening.store
        try:
            return await store.get_many(entities, timeout_s)
        except StoreUnavailable:
            raise
        except StoreError as exc:
            raise StoreUnavailable(str(exc)) from exc

    async def _windows_of(
        self, queries: Sequence[RowQuery], timeout_s: float
    ) -> Sequence[RowWindows] | StoreUnavailable:
        if self.windows is None:
            return StoreUnavailable("the model has no windows, and no event store")
        return await _or_problem(self.windows.fetch(queries, timeout_s))


def local_features(settings: Settings, manifest: BundleManifest, limit_s: float = math.inf) -> LocalFeatures | None:
    """Return feature fetch in this process for a model, None when it has neither online features nor windows.

    `limit_s` is the longest time for one fetch from the online store, in seconds.

    Raises:
        ConfigError: the settings name no known store.
    """
    windows, opened = event_windows(settings, manifest), None
    if manifest.entity is not None and manifest.schema_.online:
        opened = partial(open_store, settings, manifest.view, manifest.entity.ttl_seconds)
    if windows is None and opened is None:
        return None
    return LocalFeatures(opened, limit_s, windows=windows, open_scratch=partial(scratch_features, settings, manifest))


def scratch_features(settings: Settings, manifest: BundleManifest) -> LocalFeatures:
    """Return feature fetch over the scratch stores of a model that looks up; its rows may be of any age."""
    patience = {"feature_timeout_ms": _PATIENCE_MS, "cassandra_read_timeout_ms": _PATIENCE_MS}
    patient = settings.model_copy(update=patience)
    windows = event_windows(patient, manifest, scratch_name(manifest.name))
    opened = partial(open_store, patient, scratch_name(manifest.view)) if manifest.schema_.online else None
    return LocalFeatures(opened, windows=windows)


class FeatureServer:
    """The replica's end of `RemoteFeatures`."""

    def __init__(self, features: LocalFeatures) -> None:
        self._features = features

    async def call(self, request: bytes) -> bytes:
        """Answer a packed call: a list of keys, or a map of arguments of `fetch_rows` or `record`.

        StoreUnavailable is part of the answer, so that the gateway gets its message; as an exception it would count as
        a fault of the replica.
        """
        asked, features = messages.unpack(request), self._features
        if isinstance(asked, dict) and messages.SCRATCH in asked:
            asked, features = asked[messages.SCRATCH], await features.scratch()
        if isinstance(asked, dict) and messages.QUERIES in asked:
            queries = messages.queries_of(asked[messages.QUERIES])
            return messages.pack_fetched(await features.fetch_rows(asked[messages.KEYS], queries))
        try:
            if isinstance(asked, dict):
                events = messages.events_of(asked[messages.EVENTS])
                return messages.pack([None, await features.record(asked[messages.SOURCE], events)])
            return messages.pack([None, await features.fetch(asked)])
        except StoreUnavailable as exc:
            return messages.pack([str(exc), []])


class RemoteFeatures:
    """Feature fetch in another replica.

    Args:
        transport: calls some feature-fetch replica.
        timeout_s: longest time for one fetch, in seconds.
        of_scratch: whether the scratch stores are asked.
    """

    def __init__(self, transport: Transport, timeout_s: float, *, of_scratch: bool = False) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._of_scratch = of_scratch

    async def scratch(self) -> RemoteFeatures:
        """Return the same over scratch stores; see `HasScratch`."""
        return RemoteFeatures(self._transport, _PATIENCE_MS / 1000, of_scratch=True)

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fetch packed rows from some replica; see `FeatureStage`.

        A replica that is overloaded or does not answer in time is reported as StoreUnavailable too.
        """
        problem, payloads = messages.unpack(await self._call(list(entities), min(self._timeout_s, timeout_s)))
        if problem is not None:
            raise StoreUnavailable(problem)
        return payloads

    async def fetch_rows(
        self, entities: Sequence[str], queries: Sequence[RowQuery], timeout_s: float = math.inf
    ) -> FetchedRows:
        """Fetch rows and windows from some replica, which records; see `WindowStage`."""
        asked = {messages.KEYS: list(entities), messages.QUERIES: list(queries)}
        try:
            answer = await self._call(asked, min(self._timeout_s, timeout_s))
        except StoreUnavailable as exc:
            return FetchedRows(exc, exc)
        return messages.unpack_fetched(answer)

    async def record(self, source: str, events: Sequence[Event], timeout_s: float = math.inf) -> list[EventOutcome]:
        """Have some replica store events; see `WindowStage`."""
        asked = {messages.SOURCE: source, messages.EVENTS: list(events)}
        problem, outcomes = messages.unpack(await self._call(asked, timeout_s))
        if problem is not None:
            raise StoreUnavailable(problem)
        return messages.outcomes_of(outcomes)

    async def _call(self, asked: object, allowed: float) -> bytes:
        if self._of_scratch:
            asked = {messages.SCRATCH: asked}
        try:
            return await self._transport(messages.pack(asked), allowed)
        except asyncio.TimeoutError as exc:
            raise StoreUnavailable(f"feature fetch did not answer in {allowed * 1000:.0f} ms") from exc
        except Overloaded as exc:
            raise StoreUnavailable(f"feature fetch: {exc}") from exc


async def _or_problem(reading: Awaitable[list[Result]]) -> list[Result] | StoreUnavailable:
    try:
        return await reading
    except StoreUnavailable as exc:
        return exc
