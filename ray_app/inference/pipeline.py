"""The inference pipeline, from rows to predictions; HTTP requests, shadows and batch scoring all use it.

The value of a feature comes from the request, else from the online store, else from its declared default. When the
store fails, or a stored row is damaged, a request is scored with defaults and its prediction is marked `degraded`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from data.errors import DamagedRow, DeadlineExceeded, StoreUnavailable
from data.online_store.row_codec import OnlineRow, RowCodec
from data.schema.feature import FeatureType
from data.transform.encoding import Transform, named_column
from data.transform.entity_key import entity_keys
from ray_app.inference.stages import FeatureStage, ModelStage
from ray_app.monitoring.gateway_metrics import (
    DAMAGED_ROW,
    FEATURE_FETCH,
    MODEL,
    STAGE_ERROR,
    STORE_UNAVAILABLE,
    GatewayMetrics,
)
from ray_app.prediction import Lookup, Prediction, Row
from tune.registry.bundle import BundleManifest

logger = logging.getLogger(__name__)

_WARN_EVERY_S = 10.0
_MAX_DAMAGED_LOGGED = 20
"""Most damaged rows that one pipeline names in the log, so that a store full of them does not fill it."""

_NO_LOOKUP = Lookup()
_FAILED_LOOKUP = Lookup(degraded=True)


class InferencePipeline:
    """Looks up missing features, encodes and scores, for one model version. Called once for each micro-batch."""

    def __init__(
        self,
        manifest: BundleManifest,
        transform: Transform,
        features: FeatureStage | None,
        model: ModelStage,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect the stages.

        Args:
            manifest: manifest of the model's bundle.
            transform: encodes values by the manifest's schema.
            features: the feature stage; None for a use case without online features.
            model: the model stage.
            metrics: counts failed look-ups and observes the stages' durations.
            clock: returns the time in seconds since the epoch, for the age of stored rows.
        """
        self._transform = transform
        self._features = features
        self._model = model
        self._metrics = metrics
        self._clock = clock
        self._entity = manifest.entity
        self._ttl_s = manifest.entity.ttl_seconds if manifest.entity else None
        self._codec = RowCodec(manifest.schema_)
        online = {name: index for index, name in enumerate(self._codec.names)}
        # For each feature, its index in a stored row; None for a feature that the store does not have.
        self._stored_index = [online.get(name) for name in manifest.schema_.names]
        self._online_columns = [(i, stored) for i, stored in enumerate(self._stored_index) if stored is not None]
        self._next_warning = 0.0
        self._logged_damaged: set[str] = set()
        self._logged_errors: set[type[Exception]] = set()

    async def score_table(self, table: pa.Table) -> np.ndarray:
        """Return the probabilities of a table's n rows, float32 of shape (n,).

        Columns are what a request sends; an absent column or a missing value is a feature that a request leaves out.
        Unlike `predict`, this never scores with defaults because of a failed read.

        Raises:
            DataError: a required column is missing, or a column's type does not fit its feature.
            StoreUnavailable: online features are needed and the store failed.
            DamagedRow: a stored row that is needed cannot be read; the message names its entity.
        """
        matrix = self._transform.matrix(self._with_absent_columns(table))
        await self._fill_online(matrix, table)
        return await self._model.score(matrix)

    async def predict(self, rows: Sequence[Row], budget_s: float = math.inf) -> list[Prediction]:
        """Return one prediction per row, in order.

        Args:
            rows: rows that passed validation.
            budget_s: seconds that the callers have left.

        Raises:
            DeadlineExceeded: the time was spent before the model was called, or the model took longer.
            VersionUnavailable, Overloaded: no model replica could score the rows.
        """
        deadline = time.perf_counter() + budget_s
        # The store gets half of the time: the rest must be enough for the model to score with defaults.
        lookups = await self._look_up(rows, budget_s / 2)
        vectors = [self._vector(*pair) for pair in zip(rows, lookups, strict=True)]
        matrix = np.array(vectors, np.float32)
        started = time.perf_counter()
        if started >= deadline:
            raise DeadlineExceeded("the time allowed for the request is spent")
        scores = await self._model.score(matrix, deadline - started)
        self._metrics.stage(MODEL, time.perf_counter() - started)
        return [
            Prediction(row, score, lookup, self._count_stored(row, lookup.online), vector)
            for row, score, lookup, vector in zip(rows, scores.tolist(), lookups, vectors, strict=True)
        ]

    def _with_absent_columns(self, table: pa.Table) -> pa.Table:
        for feature in self._transform.schema.features:
            absent = () if feature.required else [name for name in feature.inputs if name not in table.column_names]
            words = feature.type is FeatureType.CATEGORY or feature.derive is not None
            for name in absent:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string() if words else pa.float64()))
        return table

    async def _fill_online(self, matrix: np.ndarray, table: pa.Table) -> None:
        if self._features is None or self._entity is None:
            return
        missing = np.zeros((len(matrix), len(self._online_columns)), bool)
        for column, (i, _) in enumerate(self._online_columns):
            encoder = self._transform.encoders[i]
            name = encoder.feature.name
            missing[:, column] = encoder.missing_mask(table.column(name)) if name in table.column_names else True
        incomplete = np.flatnonzero(missing.any(axis=1))
        if not incomplete.size:
            return
        found = entity_keys(named_column(table, self._entity.column), self._entity)
        keys = found.keys.take(pa.array(incomplete)).to_pylist()
        payloads = await self._features.fetch([key or "" for key in keys])
        now = self._clock()
        for row, key, payload in zip(incomplete.tolist(), keys, payloads, strict=True):
            try:
                online = self._unpack(payload, now).online
            except DamagedRow as exc:
                raise DamagedRow(f"entity {key!r}: {exc}; materialize it again") from exc
            for column, (i, stored) in enumerate(self._online_columns):
                if online is not None and missing[row, column]:
                    matrix[row, i] = self._transform.encoders[i].encode(online.values[stored])

    async def _look_up(self, rows: Sequence[Row], budget_s: float) -> list[Lookup]:
        if self._features is None:
            return [_NO_LOOKUP] * len(rows)
        incomplete = [i for i, row in enumerate(rows) if row.entity and self._needs_lookup(row)]
        lookups = [_NO_LOOKUP] * len(rows)
        if not incomplete:
            return lookups
        keys = list(dict.fromkeys(rows[i].entity or "" for i in incomplete))
        started = time.perf_counter()
        payloads = await self._fetch(keys, budget_s)
        self._metrics.stage(FEATURE_FETCH, time.perf_counter() - started)
        now = self._clock()
        by_key = {} if payloads is None else self._unpack_all(keys, payloads, now)
        for i in incomplete:
            lookups[i] = by_key.get(rows[i].entity or "", _FAILED_LOOKUP)
        return lookups

    async def _fetch(self, keys: Sequence[str], budget_s: float) -> Sequence[bytes | None] | None:
        """Return one packed row per key; None when the stage failed in any way, since answers must not depend on it."""
        assert self._features is not None
        try:
            payloads = await self._features.fetch(keys, budget_s)
            if len(payloads) != len(keys):
                raise RuntimeError(f"feature fetch returned {len(payloads)} rows for {len(keys)} keys")
        except StoreUnavailable as exc:
            self._metrics.lookup_failed(STORE_UNAVAILABLE, len(keys))
            self._warn(exc)
        except Exception as exc:  # noqa: BLE001  a faulty feature stage must not become a 500 for the whole batch
            self._metrics.lookup_failed(STAGE_ERROR, len(keys))
            self._log_error(exc)
        else:
            return payloads
        return None

    def _unpack_all(self, keys: Sequence[str], payloads: Sequence[bytes | None], now: float) -> dict[str, Lookup]:
        try:
            return {key: self._unpack(payload, now) for key, payload in zip(keys, payloads, strict=True)}
        except Exception:  # noqa: BLE001  unpacked again one by one, which finds the damaged row
            pairs = zip(keys, payloads, strict=True)
            return {key: self._unpack_alone(key, payload, now) for key, payload in pairs}

    def _unpack_alone(self, key: str, payload: bytes | None, now: float) -> Lookup:
        """Unpack one row; a damaged one is counted, logged and returned as a failed look-up."""
        try:
            return self._unpack(payload, now)
        except Exception as exc:  # noqa: BLE001  a stored row may hold any bytes
            self._metrics.lookup_failed(DAMAGED_ROW, 1)
            if key not in self._logged_damaged and len(self._logged_damaged) < _MAX_DAMAGED_LOGGED:
                self._logged_damaged.add(key)
                logger.error("the stored row of entity %r is damaged, materialize it again: %s", key, exc)
            return _FAILED_LOOKUP

    def _needs_lookup(self, row: Row) -> bool:
        return any(row.encoded[i] is None for i, _ in self._online_columns)

    def _count_stored(self, row: Row, online: OnlineRow | None) -> int:
        if online is None:
            return 0
        return sum(row.encoded[i] is None and online.values[stored] is not None for i, stored in self._online_columns)

    def _unpack(self, payload: bytes | None, now: float) -> Lookup:
        online = self._codec.unpack(payload) if payload is not None else None
        if online is None:
            return Lookup(found=False)
        age = now - online.event_us / 1e6
        if self._ttl_s is not None and age > self._ttl_s:
            return Lookup(found=False)
        return Lookup(online, True, age)

    def _vector(self, row: Row, lookup: Lookup) -> list[float]:
        online = lookup.online
        return [
            value
            if value is not None
            else encoder.encode(online.values[stored])
            if online is not None and stored is not None
            else encoder.missing
            for value, encoder, stored in zip(row.encoded, self._transform.encoders, self._stored_index, strict=True)
        ]

    def _warn(self, exc: StoreUnavailable) -> None:
        now = time.monotonic()
        if now >= self._next_warning:
            self._next_warning = now + _WARN_EVERY_S
            logger.warning("answering without online features: %s", exc)

    def _log_error(self, exc: Exception) -> None:
        if type(exc) not in self._logged_errors:
            self._logged_errors.add(type(exc))
            logger.error("feature fetch failed; further failures of this kind are counted, not logged", exc_info=exc)
