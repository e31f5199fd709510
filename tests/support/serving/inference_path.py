"""The inference path of the card model over a store of one's own, and what the model itself says of raw values."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from data.online_store.row_codec import RowCodec
from data.schema.features.feature import Scalar
from data.transform.encoding import Transform
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.inference.stages import FeatureStage
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import Prediction
from ray_app.protocol.row_parser import RowParser
from tests.support.serving.metrics import samples, text
from tests.support.serving.predict_app import (
    CountingStage,
    card_bundle,
    manifest,
    run,
)
from tune.registry.bundle import Bundle

NOW = 1_700_000_000.0
TTL_S = 365 * 86_400


@functools.cache
def model() -> OnnxModel:
    """The loaded model."""
    return OnnxModel(card_bundle())


def inference(
    features: FeatureStage | None,
    bundle: Bundle | None = None,
    now: float = NOW,
    metrics: GatewayMetrics | None = None,
) -> InferencePipeline:
    """The path over a feature stage, at a fixed time."""
    declared = (bundle or card_bundle()).manifest
    onnx = model() if bundle is None else OnnxModel(bundle)
    metrics = metrics or GatewayMetrics("r", declared.name, "1")
    return InferencePipeline(declared, Transform(declared.schema_), features, LocalModel(onnx), metrics, lambda: now)


def lookup_failures(metrics: GatewayMetrics) -> dict[str, float]:
    """Keys whose look-up failed, by reason."""
    return {
        labels.removeprefix("reason="): value
        for (name, labels), value in samples(text(metrics.registry)).items()
        if name == "rayscore_lookup_failures_total"
    }


def predict(path: InferencePipeline, *items: dict[str, Any]) -> list[Prediction]:
    """Parse and predict."""
    parser = RowParser(manifest(), Transform(manifest().schema_))
    return run(path.predict([parser.parse(item) for item in items]))


def expected(**values: Scalar | None) -> list[float]:
    """The model's scores of raw values, without any of the serving path."""
    schema = manifest().schema_
    matrix = Transform(schema).rows([[values.get(name) for name in schema.names]])
    return model().score(matrix)[0].tolist()


def stored(age_s: float = 60.0, **entities: Mapping[str, Scalar | None]) -> CountingStage:
    """A store that holds the entities."""
    codec = RowCodec(manifest().schema_)
    event_us = int((NOW - age_s) * 1e6)
    return CountingStage(
        {key: codec.pack(event_us, [row.get(name) for name in codec.names]) for key, row in entities.items()}
    )
