"""Putting a bundle together from what training ended with, refusing one whose ONNX model says otherwise."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import xgboost

from data.schema.feature_schema import FeatureSchema, FeatureType, Scalar
from data.schema.use_case import UseCase
from data.transform.encoding import Transform, named_column
from tune.registry.bundle import Bundle, BundleManifest, Probe
from tune.training.onnx_export import OnnxScorer

_LIBRARIES = ("xgboost", "onnx", "onnxruntime", "numpy", "pyarrow", "rayscore")
_PROBE_ROWS = 12


def pack(
    use_case: UseCase,
    schema: FeatureSchema,
    booster: xgboost.Booster,
    onnx: bytes,
    threshold: float,
    metrics: Mapping[str, float],
    card: str,
    data_fingerprint: str,
    learned_until_us: int | None,
    sample: pa.Table,
) -> Bundle:
    """Assemble a bundle.

    Args:
        use_case: what is predicted.
        schema: its fitted features.
        booster: the trained model, already cut to its best round.
        onnx: the same model with its calibration, exported and found equal (`verify_parity`).
        threshold: probability from which a row is labelled 1.
        metrics: figures on the holdout.
        card: the model card, Markdown.
        data_fingerprint: `TrainingTable.fingerprint`.
        learned_until_us: `tune.promotion.holdout_overlap.last_learned_us`.
        sample: raw rows; the first few become the probe.
    """
    manifest = BundleManifest(
        name=use_case.name,
        schema_=schema,
        label=use_case.label,
        key=use_case.key,
        event_time=use_case.event_time,
        entity=use_case.entity,
        view=use_case.view,
        calibration=use_case.calibration,
        threshold=threshold,
        metrics=dict(metrics),
        description=use_case.description,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        data_fingerprint=data_fingerprint,
        learned_until_us=learned_until_us,
        probe=make_probe(schema, onnx, sample),
    )
    return Bundle.assemble(manifest, onnx, bytes(booster.save_raw("ubj")), card)


def make_probe(schema: FeatureSchema, onnx: bytes, sample: pa.Table) -> Probe:
    """Score the first rows of `sample`, one row without any value, and one with words never seen."""
    rows = raw_rows(schema, sample.slice(0, _PROBE_ROWS - 2))
    rows.append([None] * len(schema.features))
    if rows[:-1]:
        unseen = [
            "\x00unseen" if f.type is FeatureType.CATEGORY else v for f, v in zip(schema.features, rows[0], strict=True)
        ]
        rows.append(unseen)
    scores = OnnxScorer(onnx).probabilities(Transform(schema).rows(rows))
    return Probe(rows=rows, probabilities=[float(score) for score in scores])


def raw_rows(schema: FeatureSchema, table: pa.Table) -> list[list[Scalar | None]]:
    """The raw values of `table` in schema order, typed as the features declare; None where absent or not finite."""
    columns = [
        [_raw(value, feature.type) for value in named_column(table, feature.name).to_pylist()]
        for feature in schema.features
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def _raw(value: object, kind: FeatureType) -> Scalar | None:
    if value is None:
        return None
    if kind is FeatureType.CATEGORY:
        return _word(value)
    number = float(value)  # pyright: ignore[reportArgumentType]  # numeric by the schema, Decimal included
    if not np.isfinite(number):
        return None
    if kind is FeatureType.BOOLEAN:
        return bool(number)
    return int(number) if kind is FeatureType.INTEGER and number.is_integer() else number


def _word(value: object) -> str:
    # Arrow writes booleans in lower case when it casts them to strings.
    return str(value).lower() if isinstance(value, bool) else str(value)
