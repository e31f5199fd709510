"""Code that all peers share: validation of a request, store read, feature vector, scoring and response.

A framework is compared by what it adds to this. It is what a good engineer writes by hand for one model: no metrics,
limits, detail, roll-out or fallbacks, and one inlined SQLite read, so that nothing slows a peer down.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

from benchmarks.peers.given import given
from data.online_store.row_codec import RowCodec
from data.schema.features.feature import Feature, FeatureType, Scalar, Source
from data.transform.encoding import Transform
from ray_app.inference.models.onnx_model import OnnxModel
from tune.registry.bundle import Bundle, BundleManifest

_TYPES: dict[FeatureType, type] = {
    FeatureType.NUMBER: float,
    FeatureType.INTEGER: int,
    FeatureType.BOOLEAN: bool,
    FeatureType.CATEGORY: str,
}
_READ = "SELECT payload FROM feature_rows WHERE entity = ? AND view = ?"


class Model(Protocol):
    """Scores a float32 matrix of shape (n, k); returns scores of shape (n, 1)."""

    def score(self, matrix: np.ndarray) -> np.ndarray: ...


class Stored(NamedTuple):
    """The online features that are stored for an entity."""

    values: tuple[Scalar | None, ...]
    age_s: float


class OnlineFeatures:
    """The rows of one view in a SQLite file, read and decoded."""

    def __init__(self, manifest: BundleManifest, store: Path) -> None:
        if manifest.entity is None:
            raise ValueError(f"{manifest.name} has no entity: peers read the online store for every request")
        self._codec = RowCodec(manifest.schema_)
        self._view, self._ttl_s = manifest.view, manifest.entity.ttl_seconds
        self._reader = sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def get(self, entity: str) -> Stored | None:
        """Read an entity's features; None when it has none, or they are older than the TTL."""
        row = self._reader.execute(_READ, (entity, self._view)).fetchone()
        online = self._codec.unpack(row[0]) if row else None
        if online is None:
            return None
        age_s = time.time() - online.event_us / 1e6
        return None if self._ttl_s is not None and age_s > self._ttl_s else Stored(online.values, age_s)

    def close(self) -> None:
        self._reader.close()


class Answers:
    """Builds the model's input vector from request and stored values, and the response from the scores."""

    def __init__(self, manifest: BundleManifest, version: str = "1") -> None:
        self._output, self._key = manifest.output, manifest.key
        self._shown = {"name": manifest.name, "version": version}
        stored = {name: at for at, name in enumerate(RowCodec(manifest.schema_).names)}
        encoders = Transform(manifest.schema_).encoders
        self._columns = [(e.feature.name, e.encode, stored.get(e.feature.name)) for e in encoders]

    def vector(self, values: dict[str, Any], stored: Stored | None) -> list[float]:
        """Input vector: each value from the request, else from the store, else the default."""
        vector = []
        for name, encode, at in self._columns:
            value = values.get(name)
            if value is None and stored is not None and at is not None:
                value = stored.values[at]
            vector.append(encode(value))
        return vector

    def render(self, values: dict[str, Any], stored: Stored | None, scores: list[float]) -> dict[str, Any]:
        """The response, in the product's format."""
        answer = {
            **self._output.fields(scores),
            "model": self._shown,
            "entity_found": stored is not None,
            "online_age_s": stored.age_s if stored else None,
            "degraded": False,
            "request_id": os.urandom(8).hex(),
        }
        key = values.get(self._key) if self._key else None
        return answer if key is None else {**answer, "key": key}


class Scorer:
    """Everything from request to response, in one process."""

    def __init__(self, manifest: BundleManifest, store: Path, model: Model) -> None:
        self.Item = request_model(manifest)
        self._online = OnlineFeatures(manifest, store)
        self._answers = Answers(manifest)
        self._model = model
        self._entity = manifest.entity.column if manifest.entity else ""

    def check(self, body: object) -> dict[str, Any]:
        """Validate a request body and return its values; raises pydantic's ValidationError."""
        # vars() instead of model_dump(): the fields are flat, and this is a tenth of its cost.
        return vars(self.Item.model_validate(body))

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Response to one validated request."""
        return self.answers([values])[0]

    def answers(self, batch: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Responses to validated requests, in order, with one call of the model."""
        stored = [self._online.get(str(values[self._entity])) for values in batch]
        vectors = [self._answers.vector(*pair) for pair in zip(batch, stored, strict=True)]
        scores = self._model.score(np.array(vectors, np.float32)).tolist()
        return [self._answers.render(*row) for row in zip(batch, stored, scores, strict=True)]

    def close(self) -> None:
        """Close the store."""
        self._online.close()


def open_scorer() -> Scorer:
    """Open the scorer of this process's parameters (`given`), on ONNX Runtime."""
    bundle = Bundle.load(given().bundle)
    return Scorer(bundle.manifest, given().store, OnnxModel(bundle))


def request_model(manifest: BundleManifest) -> type[BaseModel]:
    """Make the pydantic model of a request body from the bundle's schema; strict about types and names."""
    fields: dict[str, Any] = {f.name: _field(f) for f in manifest.schema_.features if f.source is not Source.ONLINE}
    if manifest.entity:
        kind = str if manifest.entity.type == "string" else int
        fields[manifest.entity.column] = (kind, ...)
    if manifest.key:
        fields[manifest.key] = (Any, None)
    return create_model("Item", __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields)


def _field(feature: Feature) -> tuple[Any, Any]:
    kind: Any = _TYPES[feature.type]
    if feature.min is not None or feature.max is not None:
        kind = Annotated[kind, Field(ge=feature.min, le=feature.max)]
    return (kind, ...) if feature.required else (kind | None, None)
