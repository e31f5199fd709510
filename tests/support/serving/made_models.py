"""Bundles of every kind of target with a hand-made linear model, for tests of what is answered."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from data.schema.entity import Entity
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.output import Output
from data.schema.outputs.base_output import SCORE_EDGES
from data.schema.outputs.binary_output import BinaryOutput
from data.schema.outputs.multiclass_output import MulticlassOutput
from data.schema.outputs.ranking_output import RankingOutput
from data.schema.outputs.regression_output import RegressionOutput
from data.schema.prediction_interval import PredictionInterval
from tune.registry.bundle import INPUT_NAME, OUTPUT_NAME, Bundle, BundleManifest, Probe

SCHEMA = FeatureSchema(
    features=(Feature(name="amount", type=FeatureType.NUMBER), Feature(name="age", type=FeatureType.NUMBER))
)
ROWS = [{"customer": f"c{at}", "amount": amount, "age": 1.0} for at, amount in enumerate((-3.0, -0.4, 0.3, 2.5))]
"""Requests whose answers differ, by every kind of model."""
DIGITS = BinaryOutput(threshold=0.5)
WORDS = BinaryOutput(classes=("no", "yes"), threshold=0.25)
CLASSES = MulticlassOutput(classes=("low", "mid", "high"), common=1)
GRADES = MulticlassOutput(classes=(3, 1, 2))
AMOUNT = RegressionOutput(
    interval=PredictionInterval(coverage=0.9, at=(0.0,), below=(-2.0,), above=(3.0,), least=0.0),
    quantiles=tuple(map(float, range(SCORE_EDGES))),
)
ORDER = RankingOutput(quantiles=tuple(map(float, range(SCORE_EDGES))))
OUTPUTS = {"digits": DIGITS, "words": WORDS, "classes": CLASSES, "grades": GRADES, "amount": AMOUNT, "order": ORDER}
"""An output of every kind, and of every type of label."""


@functools.cache
def made_bundle(kind: str, shift: float = 0.0, **changes: Any) -> Bundle:
    """A model whose output is that of `OUTPUTS`, changed; `shift` is added to its margins."""
    output = OUTPUTS[kind].model_copy(update=changes)
    scores = linear_scores(np.array([[1.0, 2.0]], np.float32), output, shift)
    manifest = BundleManifest(
        name="made",
        schema_=SCHEMA,
        label="target",
        entity=Entity(column="customer"),
        view="made",
        output=output,
        metrics={},
        created_at="2026-01-01T00:00:00+00:00",
        versions={},
        data_fingerprint="0" * 16,
        probe=Probe(rows=[[1.0, 2.0]], scores=scores.tolist()),
    )
    onnx_bytes = _linear(output, shift)
    return Bundle.assemble(manifest, onnx_bytes, b"", onnx_bytes, "")


def linear_scores(matrix: np.ndarray, output: Output, shift: float = 0.0) -> np.ndarray:
    """The scores of a made model for (n, 2), float64 of shape (n, width): margins from `_weights`, through its link."""
    weights, bias = _weights(output.width, shift)
    margins = matrix.astype(np.float64) @ weights + bias
    if output.labels is None:
        return margins
    if output.width == 1:
        return 1 / (1 + np.exp(-margins))
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _weights(width: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    slopes = np.linspace(-1, 1, width) if width > 1 else np.array([1.0])
    return np.stack([slopes, np.zeros(width)]), np.linspace(0, shift, width) if width > 1 else np.array([shift])


def _linear(output: Output, shift: float) -> bytes:
    weights, bias = _weights(output.width, shift)
    link = "Identity" if output.labels is None else "Sigmoid" if output.width == 1 else "Softmax"
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", [INPUT_NAME, "weights", "bias"], ["margins"]),
            helper.make_node(link, ["margins"], [OUTPUT_NAME]),
        ],
        "made",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [None, output.width])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
