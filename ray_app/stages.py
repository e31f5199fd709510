"""The two stages behind the gateway, feature fetch and model, each local or at the far end of a transport.

A transport carries bytes to some replica of a deployment and bytes back; a Ray Serve handle is one.
What the bytes mean is known here alone, so that another transport needs no other code.
"""

from __future__ import annotations

import asyncio
import math
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgpack
import numpy as np

from data.errors import DeadlineExceeded, Overloaded, RayscoreError, StoreError, StoreUnavailable, VersionUnavailable
from data.settings import Settings
from data.store import OnlineStore, open_store
from ray_app.distribution import FINE_SECONDS, Distribution
from ray_app.link.membership import Transport
from ray_app.runtime import OnnxModel
from tune.bundle import BundleManifest

_SHAPE = struct.Struct("<8sI")
_OK, _ABSENT = b"\0", b"\1"


class FeatureStage(Protocol):
    """Reads the online store."""

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return packed rows, same length and order as `entities`; None where there is none.

        Args:
            entities: keys to read.
            timeout_s: time that the callers have left; a stage may allow itself less.

        Raises:
            StoreUnavailable: the store did not answer; predictions go on without online values.
        """
        ...


class ModelStage(Protocol):
    """Scores encoded rows."""

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Return probabilities, float32 of shape (n,), for float32 of shape (n, k).

        Args:
            matrix: encoded rows.
            timeout_s: time that the callers have left; a stage may allow itself less.

        Raises:
            VersionUnavailable: no replica that answers holds the bundle.
            Overloaded: no replica can be reached.
            DeadlineExceeded: none answered in time.
        """
        ...


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
        self.seconds = Distribution(FINE_SECONDS)
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
        except StoreUnavailable:
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


class LocalModel:
    """The model in this process."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score on the event loop: a batch takes less time than a hop to a thread."""
        return self._model.score(matrix)


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


class ModelServer:
    """Answers `RemoteModel`: bytes in, bytes out.

    Args:
        models: returns the model of a bundle by its digest's bytes, None for one that is not loaded here.
    """

    def __init__(self, models: Callable[[bytes], OnnxModel | None]) -> None:
        self._models = models

    def call(self, request: bytes) -> bytes:
        """Score a packed matrix by the bundle that it names, and by no other."""
        digest, rows = _SHAPE.unpack_from(request)
        model = self._models(digest)
        if model is None:
            return _ABSENT
        matrix = np.frombuffer(request, np.float32, offset=_SHAPE.size).reshape(rows, model.width)
        return _OK + model.score(matrix).tobytes()


def is_absent_version(answer: bytes) -> bool:
    """True when a model replica answered that it does not hold the bundle: another one may."""
    return answer[:1] == _ABSENT


class RemoteModel:
    """One bundle at the far end of a transport, bounded in time: a replica that hangs must not keep a batch slot."""

    def __init__(self, transport: Transport, digest: str, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._digest = bytes.fromhex(digest)

    async def score(self, matrix: np.ndarray, timeout_s: float = math.inf) -> np.ndarray:
        """Score on some replica; see ModelStage."""
        allowed = min(self._timeout_s, timeout_s)
        request = _SHAPE.pack(self._digest, len(matrix)) + matrix.tobytes()
        try:
            answer = await self._transport(request, allowed)
        except asyncio.TimeoutError as exc:
            raise DeadlineExceeded(f"the model did not answer in {allowed * 1000:.0f} ms") from exc
        if answer[:1] != _OK:
            raise VersionUnavailable("no model replica that answers holds this version; try again")
        return np.frombuffer(answer, np.float32, offset=1)


def _pack(value: object) -> bytes:
    packed = msgpack.packb(value)
    # The stubs allow for None, which msgpack returns only in its streaming mode.
    return b"" if packed is None else packed
