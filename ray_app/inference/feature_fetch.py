"""The feature stage: reads the online store in this process, or in a feature-fetch replica over a transport.

A transport carries bytes to a replica and bytes back, by a direct link or Ray Serve's handle. Both ends of the
encoding, `RemoteFeatures` and `FeatureServer`, are in this module.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgpack

from data.errors import Overloaded, RayscoreError, StoreError, StoreUnavailable
from data.online_store import OnlineStore, open_store
from data.settings import Settings
from ray_app.monitoring.histogram import FINE_SECONDS, Histogram
from ray_app.transport.connection_pool import Transport
from tune.registry.bundle import BundleManifest


class LocalFeatures:
    """Feature fetch in this process. While the store cannot be opened, a background thread keeps trying.

    Args:
        open_store: opens the store; a StoreError means that it cannot be opened now.
        limit_s: longest time for one fetch, in seconds.
        retry_s: seconds between two attempts to open the store.
    """

    def __init__(self, open_store: Callable[[], OnlineStore], limit_s: float = math.inf, retry_s: float = 2.0) -> None:
        self._open = open_store
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._store: OnlineStore | None = None
        self._problem = "the online store is not open yet"
        self._closed = threading.Event()
        self.seconds = Histogram(FINE_SECONDS)
        """Durations of reads, failed ones included."""
        self.keys = {"found": 0, "missing": 0, "failed": 0}
        """Number of keys read, by result."""
        if not self._try_open():
            threading.Thread(target=self._retry_open, name="open-store", daemon=True).start()

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

    @property
    def is_open(self) -> bool:
        """True once the store has been opened."""
        return self._store is not None

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store is not open or does not answer."""
        if self._store is None:
            raise StoreUnavailable(self._problem)
        await self._store.ping()

    def close(self) -> None:
        """Stop the attempts to open the store, and close it."""
        self._closed.set()
        if self._store is not None:
            self._store.close()

    async def _read(self, entities: Sequence[str], timeout_s: float) -> list[bytes | None]:
        if self._store is None:
            raise StoreUnavailable(self._problem)
        try:
            return await self._store.get_many(entities, timeout_s)
        except StoreUnavailable:
            raise
        except StoreError as exc:
            raise StoreUnavailable(str(exc)) from exc

    def _try_open(self) -> bool:
        try:
            store = self._open()
        except StoreError as exc:
            self._problem = str(exc)
            return False
        self._store = store
        # `close` may have run on another thread while the store was being opened, and found nothing to close.
        if self._closed.is_set():
            store.close()
        return True

    def _retry_open(self) -> None:
        while not self._closed.wait(self._retry_s):
            try:
                if self._try_open():
                    return
            except RayscoreError as exc:
                # Not only StoreError: a store that answers but refuses, say for a wrong setting, may be repaired later.
                self._problem = str(exc)


def local_features(settings: Settings, manifest: BundleManifest, limit_s: float = math.inf) -> LocalFeatures | None:
    """Return feature fetch in this process for a model, None when it has no online features.

    `limit_s` is the longest time for one fetch, in seconds.

    Raises:
        ConfigError: the settings name no known store.
    """
    if manifest.entity is None or not manifest.schema_.online:
        return None
    return LocalFeatures(partial(open_store, settings, manifest.view, manifest.entity.ttl_seconds), limit_s)


class FeatureServer:
    """The replica's end of `RemoteFeatures`."""

    def __init__(self, features: LocalFeatures) -> None:
        self._features = features

    async def call(self, request: bytes) -> bytes:
        """Answer a packed list of keys with a packed pair: error message or None, and the rows.

        StoreUnavailable is part of the answer, so that the gateway gets its message; as an exception it would count as
        a fault of the replica.
        """
        try:
            return _pack([None, await self._features.fetch(msgpack.unpackb(request))])
        except StoreUnavailable as exc:
            return _pack([str(exc), []])


class RemoteFeatures:
    """Feature fetch in another replica.

    Args:
        transport: calls some feature-fetch replica.
        timeout_s: longest time for one fetch, in seconds.
    """

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fetch packed rows from some replica; see `FeatureStage`.

        A replica that is overloaded or does not answer in time is reported as StoreUnavailable too.
        """
        allowed = min(self._timeout_s, timeout_s)
        try:
            answer = await self._transport(_pack(list(entities)), allowed)
        except asyncio.TimeoutError as exc:
            raise StoreUnavailable(f"feature fetch did not answer in {allowed * 1000:.0f} ms") from exc
        except Overloaded as exc:
            raise StoreUnavailable(f"feature fetch: {exc}") from exc
        problem, payloads = msgpack.unpackb(answer)
        if problem is not None:
            raise StoreUnavailable(problem)
        return payloads


def _pack(value: object) -> bytes:
    packed = msgpack.packb(value)
    # msgpack's stubs also allow None, which only the streaming mode returns.
    return b"" if packed is None else packed
