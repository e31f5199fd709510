"""Putting a bundle together from what training ended with, refusing one whose ONNX model says otherwise."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version

import pyarrow as pa

from data.schema.features.feature import Scalar
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.training_profile import TrainingProfile
from data.schema.model_policy import Calibration
from data.schema.use_case import UseCase
from data.transform.encoding import Transform
from data.transform.text_model import pack_text_scorers
from tune.metrics.figures import Difference
from tune.pipeline.made_up_rows import common_words, example_times, example_values, probe_rows, typical_values
from tune.registry.bundle import BaselineDifference, Bundle, BundleManifest, Probe
from tune.training.final_model import FinalModel
from tune.training.onnx_export import OnnxScorer

_LIBRARIES = ("xgboost", "onnx", "onnxruntime", "numpy", "pyarrow", "rayscore")


def pack(
    use_case: UseCase,
    schema: FeatureSchema,
    model: FinalModel,
    metrics: Mapping[str, float],
    baselines: Mapping[str, Difference],
    card: str,
    data_fingerprint: str,
    learned_until_us: int | None,
    table: pa.Table,
    profile: TrainingProfile,
) -> Bundle:
    """Assemble a bundle.

    Args:
        use_case: what is predicted.
        schema: its fitted features.
        model: the trained model.
        metrics: figures on the holdout.
        baselines: its metric minus that of each baseline.
        card: the model card, Markdown.
        data_fingerprint: `TrainingTable.fingerprint`.
        learned_until_us: `tune.promotion.holdout_overlap.last_learned_us`.
        table: raw rows, from which typical values are taken; no row of it gets into the bundle.
        profile: what the development rows held.
    """
    common = common_words(use_case, schema, table)
    typical = typical_values(schema, table, common)
    manifest = BundleManifest(
        name=use_case.name,
        schema_=schema,
        label=use_case.label,
        key=use_case.key,
        event_time=use_case.event_time,
        entity=use_case.entity,
        view=use_case.view,
        events=use_case.events,
        calibration=model.calibrator.method if model.calibrator else Calibration.NONE,
        output=model.output,
        metrics=dict(metrics),
        baselines={name: BaselineDifference(**each._asdict()) for name, each in baselines.items()},
        description=use_case.description,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        data_fingerprint=data_fingerprint,
        learned_until_us=learned_until_us,
        common_words=common,
        example=example_values(schema, typical) | example_times(schema, table),
        training_profile=profile,
        probe=_probe(schema, model.onnx, typical),
    )
    booster, texts = bytes(model.booster.save_raw("ubj")), pack_text_scorers(schema)
    return Bundle.assemble(manifest, model.onnx, booster, model.measured, card, texts)


def _probe(schema: FeatureSchema, onnx: bytes, typical: Sequence[Sequence[Scalar]]) -> Probe:
    rows = probe_rows(schema, typical)
    return Probe(rows=rows, scores=OnnxScorer(onnx).scores(Transform(schema).rows(rows)).tolist())
