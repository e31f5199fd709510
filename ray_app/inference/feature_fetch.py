"""Feature fetch: in this process, or at the far end of a transport.

A transport carries bytes to some replica of a deployment and bytes back; a Ray Serve handle is one.
What the bytes mean is known here alone, so that another transport needs no other code.
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
    """Feature fetch in this process. A store that cannot be opened is tried again for ever, in the background.

    Args:
        open_store: opens it.
        limit_s: longest time for a fetch, whatever the callers have left.
        retry_s: between two attempts to open it.
    """

    def __init__(self, open_store: Callable[[], OnlineStore], limit_s: float = math.inf, retry_s: float = 2.0) -> None:
        self._open = open_store
        self._limit_s = limit_s
        self._retry_s = retry_s
        self._store: OnlineStore | None = None
        self._problem = "the online store is not open yet"
        self._closed = threading.Event()
        self.seconds = Histogram(FINE_SECONDS)
        """How long each read took, those that failed included."""
        self.keys = {"found": 0, "missing": 0, "failed": 0}
        """Keys that were read, by what came of it."""
        if not self._try_open():
            threading.Thread(target=self._keep_trying, name="open-store", daemon=True).start()

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Read from the store; see FeatureStage."""
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
        """True once the store could be opened."""
        return self._store is not None

    async def ping(self) -> None:
        """Raise StoreUnavailable when the store does not answer."""
        if self._store is None:
            raise StoreUnavailable(self._problem)
        await self._store.ping()

    def close(self) -> None:
        """Stop trying and close the store."""
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
        if self._closed.is_set():
            store.close()
        return True

    def _keep_trying(self) -> None:
        while not self._closed.wait(self._retry_s):
            try:
                if self._try_open():
                    return
            except RayscoreError as exc:
                # It answers by now, and refuses: that may be mended on its side.
                self._problem = str(exc)


def local_features(settings: Settings, manifest: BundleManifest, limit_s: float = math.inf) -> LocalFeatures | None:
    """Feature fetch in this process for one model, `limit_s` seconds at most; None when it has no online features."""
    if manifest.entity is None or not manifest.schema_.online:
        return None
    return LocalFeatures(partial(open_store, settings, manifest.view, manifest.entity.ttl_seconds), limit_s)


class FeatureServer:
    """Answers `RemoteFeatures`: bytes in, bytes out."""

    def __init__(self, features: LocalFeatures) -> None:
        self._features = features

    async def call(self, request: bytes) -> bytes:
        """Fetch the entities that `request` names; a store that fails is part of the answer, not an error."""
        try:
            return _pack([None, await self._features.fetch(msgpack.unpackb(request))])
        except StoreUnavailable as exc:
            return _pack([str(exc), []])


class RemoteFeatures:
    """Feature fetch at the far end of a transport, bounded in time."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fetch from some replica; see FeatureStage. No replica in time is an unavailable store."""
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
    # The stubs allow for None, which msgpack returns only in its streaming mode.
    return b"" if packed is None else packed
