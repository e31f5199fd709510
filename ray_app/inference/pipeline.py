"""The inference pipeline, from rows to predictions; HTTP requests, shadows and batch scoring all use it.

The value of a feature comes from the request, else from the online store, else from its declared default; that of a
window from the event store, and that of an expression from other values. When a store fails, or what it holds is
damaged, a request is scored with defaults and its prediction is marked `degraded`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from data.errors import DamagedRow, DeadlineExceeded
from data.online_store.row_codec import OnlineRow
from data.schema.features.feature import FeatureType
from data.transform.encoding import Transform, as_floats, named_column
from data.transform.entity_key import entity_keys
from ray_app.inference.features.computed_features import ComputedFeatures
from ray_app.inference.features.feature_lookup import FeatureLookup
from ray_app.inference.stages import FeatureStage, ModelStage
from ray_app.monitoring.gateway_metrics import MODEL, GatewayMetrics
from ray_app.prediction import Lookup, Prediction, Row
from tune.registry.bundle import BundleManifest


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
            features: the feature stage; None for a use case without online features and windows.
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
        self._lookup = FeatureLookup(manifest, features, metrics, clock)
        self._stored_index = self._lookup.stored_index
        self._online_columns = self._lookup.online_columns
        self._computed = ComputedFeatures(manifest, transform, self._stored_index)

    async def score_table(self, table: pa.Table) -> np.ndarray:
        """Return the scores of a table's n rows, float32 of shape (n, width of the output); see `encode_table`."""
        return await self.score(await self.encode_table(table))

    async def score(self, matrix: np.ndarray) -> np.ndarray:
        """Return the scores of n encoded rows, float32 of shape (n, width of the model's output)."""
        return await self._model.score(matrix)

    async def encode_table(self, table: pa.Table) -> np.ndarray:
        """Return a table's n rows as the model takes them, float32 of shape (n, k).

        Columns are what a request sends, and the window features; an absent column or a missing value is a feature
        that a request leaves out. Unlike `predict`, this never takes defaults because of a failed read, reads no
        events and records none.

        Raises:
            DataError: a required column is missing, one of a window feature too, or a column's type does not fit.
            StoreUnavailable: online features are needed and the store failed.
            DamagedRow: a stored row that is needed cannot be read; the message names its entity.
        """
        self._computed.require_windows(table)
        table = self._with_absent_columns(table)
        missing = self._missing_online(table)
        stored = await self._stored_rows(table, missing)
        matrix = self._transform.matrix(self._computed.with_expressions(table, self._filled(table, missing, stored)))
        self._fill_online(matrix, missing, stored)
        return matrix

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
        # The stores get half of the time: the rest must be enough for the model to score with defaults.
        lookups = await self._lookup.look_up(rows, budget_s / 2)
        vectors = [self._vector(*pair) for pair in zip(rows, lookups, strict=True)]
        computed: Sequence[tuple[float, ...]] = [()] * len(rows)
        if self._computed.any:
            computed = [self._fill_computed(*each) for each in zip(vectors, rows, lookups, strict=True)]
        matrix = np.array(vectors, np.float32)
        started = time.perf_counter()
        if started >= deadline:
            raise DeadlineExceeded("the time allowed for the request is spent")
        scores = await self._model.score(matrix, deadline - started)
        self._metrics.stage(MODEL, time.perf_counter() - started)
        return [
            Prediction(row, score, lookup, self._count_stored(row, lookup.online), vector, values)
            for row, score, lookup, vector, values in zip(
                rows, scores.tolist(), lookups, vectors, computed, strict=True
            )
        ]

    def _with_absent_columns(self, table: pa.Table) -> pa.Table:
        for feature in self._transform.schema.features:
            absent = () if feature.required else [name for name in feature.inputs if name not in table.column_names]
            words = feature.type is FeatureType.CATEGORY or feature.is_derived
            for name in absent:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string() if words else pa.float64()))
        return table

    def _missing_online(self, table: pa.Table) -> np.ndarray:
        """Return which values of the online features a table of n rows lacks, as bool of shape (n, online features)."""
        missing = np.zeros((table.num_rows, len(self._online_columns)), bool)
        for column, (i, _) in enumerate(self._online_columns):
            encoder = self._transform.encoders[i]
            name = encoder.feature.name
            missing[:, column] = encoder.missing_mask(table.column(name)) if name in table.column_names else True
        return missing

    async def _stored_rows(self, table: pa.Table, missing: np.ndarray) -> dict[int, OnlineRow]:
        """Return the stored rows of the table's incomplete rows that have one, by the row's number."""
        incomplete = np.flatnonzero(missing.any(axis=1))
        if self._features is None or self._entity is None or not incomplete.size:
            return {}
        found = entity_keys(named_column(table, self._entity.column), self._entity)
        keys = found.keys.take(pa.array(incomplete)).to_pylist()
        payloads = await self._features.fetch([key or "" for key in keys])
        now_us, stored = self._clock() * 1e6, {}
        for row, key, payload in zip(incomplete.tolist(), keys, payloads, strict=True):
            try:
                online = self._lookup.unpack(payload, now_us).online
            except DamagedRow as exc:
                raise DamagedRow(f"entity {key!r}: {exc}; materialize it again") from exc
            if online is not None:
                stored[row] = online
        return stored

    def _filled(self, table: pa.Table, missing: np.ndarray, stored: Mapping[int, OnlineRow]) -> dict[str, np.ndarray]:
        """Return the online features that expressions read with their stored values, float64 of shape (n,) by name."""
        filled: dict[str, np.ndarray] = {}
        for column, (i, at) in enumerate(self._online_columns):
            name = self._transform.schema.names[i]
            if name in self._computed.read:
                values = as_floats(named_column(table, name), name).copy()
                for row in stored:
                    value = stored[row].values[at]
                    if missing[row, column] and value is not None:
                        values[row] = float(value)
                filled[name] = values
        return filled

    def _fill_online(self, matrix: np.ndarray, missing: np.ndarray, stored: Mapping[int, OnlineRow]) -> None:
        for row, online in stored.items():
            for column, (i, at) in enumerate(self._online_columns):
                if missing[row, column]:
                    matrix[row, i] = self._transform.encoders[i].encode(online.values[at])

    def _count_stored(self, row: Row, online: OnlineRow | None) -> int:
        if online is None:
            return 0
        return sum(row.encoded[i] is None and online.values[stored] is not None for i, stored in self._online_columns)

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

    def _fill_computed(self, vector: list[float], row: Row, lookup: Lookup) -> tuple[float, ...]:
        stored = lookup.online.values if lookup.online is not None else None
        return self._computed.fill(vector, row, stored, lookup.windows)
