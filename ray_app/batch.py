"""Batch scoring of Parquet through the inference path of serving. A piece is scored in a worker; no Ray here."""

from __future__ import annotations

import asyncio
import atexit
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.features import Transform
from data.parquet import Chunk, ParquetSource, read_chunk
from data.settings import Settings
from ray_app.inference import Inference
from ray_app.metrics import Metrics
from ray_app.runtime import OnnxModel
from ray_app.stages import LocalModel, local_features
from tune.bundle import Bundle, BundleManifest

PROBABILITY = "probability"
LABEL = "label"
MODEL_VERSION = "model_version"
_ADDED = (PROBABILITY, LABEL, MODEL_VERSION)


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs to score a chunk; `packed` is `Bundle.to_bytes()`."""

    settings: Settings
    packed: bytes
    version: str
    columns: tuple[str, ...]
    carried: tuple[str, ...]
    folder: Path


def plan(settings: Settings, bundle: Bundle, version: str, source: ParquetSource, folder: Path) -> ScoringJob:
    """Check the table against the model and say what is read and carried along.

    Raises:
        DataError: a required column is missing, or one to carry has a name that scoring adds.
    """
    manifest = bundle.manifest
    required = [feature.name for feature in manifest.schema_.features if feature.required]
    source.require(required)
    entity = manifest.entity.column if manifest.entity else None
    if _store_needed(manifest, source) and entity is not None:
        source.require([entity])
    there = set(source.schema.names)
    carried = [name for name in (manifest.key, entity, manifest.event_time) if name in there]
    clash = [name for name in carried if name in _ADDED]
    if clash:
        raise DataError(f"{source.path}: column '{clash[0]}' has the name of a column that scoring adds; rename it")
    columns = [name for name in manifest.schema_.names if name in there]
    read = tuple(dict.fromkeys([*columns, *(name for name in carried if name)]))
    return ScoringJob(settings, bundle.to_bytes(), version, read, tuple(n for n in carried if n), folder)


def score_chunk(chunk: Chunk, job: ScoringJob) -> int:
    """Score one chunk into `part-<index>.parquet` of the job's folder and return its rows."""
    scorer = _scorer(job)
    table = read_chunk(chunk, job.columns)
    try:
        scores = asyncio.run(scorer.inference.score_table(table))
    except DataError as exc:
        raise DataError(f"{chunk.path}: {exc}") from exc
    out = table.select(list(job.carried))
    out = out.append_column(PROBABILITY, pa.array(scores, pa.float32()))
    # Compared as Python floats are in the HTTP answer: the threshold is a float64.
    labels = (scores.astype(np.float64) >= scorer.threshold).astype(np.int8)
    out = out.append_column(LABEL, pa.array(labels))
    version = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(scores), np.int8)), [job.version])
    out = out.append_column(MODEL_VERSION, version)
    pq.write_table(out, part_path(job.folder, chunk.index), compression="zstd")
    return chunk.rows


def part_path(folder: Path, index: int) -> Path:
    """Where a chunk's scores go; in name order they are in the order of the source."""
    return folder / f"part-{index:05d}.parquet"


@dataclass(frozen=True)
class _Scorer:
    inference: Inference
    threshold: float


@cache
def _scorer(job: ScoringJob) -> _Scorer:
    """The model and the store, opened once a worker."""
    bundle = Bundle.from_bytes(job.packed)
    manifest = bundle.manifest
    features = local_features(job.settings, manifest)
    if features is not None:
        atexit.register(features.close)
    metrics = Metrics("batch", manifest.name, job.version)
    model = LocalModel(OnnxModel(bundle))
    return _Scorer(Inference(manifest, Transform(manifest.schema_), features, model, metrics), manifest.threshold)


def _store_needed(manifest: BundleManifest, source: ParquetSource) -> bool:
    return any(feature.name not in source.schema.names for feature in manifest.schema_.online)
