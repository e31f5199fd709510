"""Batch scoring of Parquet through the inference path of serving. A piece is scored in a worker; no Ray here."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.errors import DataError
from data.settings import Settings
from data.sources.parquet import Chunk, ParquetSource, atomic_file, chunk_batches
from data.transform.encoding import Transform
from ray_app.batch.job_fingerprint import job_fingerprint
from ray_app.batch.partial_output import JOB, part_path, part_writer
from ray_app.inference.feature_fetch import local_features
from ray_app.inference.model_scoring import LocalModel
from ray_app.inference.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from tune.registry.bundle import Bundle, BundleManifest

PROBABILITY = "probability"
LABEL = "label"
MODEL_VERSION = "model_version"
_ADDED = pa.schema(
    [(PROBABILITY, pa.float32()), (LABEL, pa.int8()), (MODEL_VERSION, pa.dictionary(pa.int8(), pa.string()))]
)
KEYS = "keys"
ALL = "all"
_BATCH_ROWS = 65_536
_ROW_GROUP_BATCHES = 8


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs to score a chunk; `packed` is `Bundle.to_bytes()`, `schema` that of a part."""

    settings: Settings
    packed: bytes
    version: str
    columns: tuple[str, ...]
    carried: tuple[str, ...]
    schema: pa.Schema
    fingerprint: str


def plan(settings: Settings, bundle: Bundle, version: str, source: ParquetSource, carry: str = KEYS) -> ScoringJob:
    """Check the table against the model and say what is read and carried along.

    Args:
        settings: where the online store is.
        bundle: the model.
        version: what the column of the model's version shall say.
        source: the table.
        carry: `keys` (key, entity and event time, where there), `all`, or names separated by commas.

    Raises:
        DataError: a required column or one to carry is missing, or one to carry has a name that scoring adds.
    """
    manifest = bundle.manifest
    source.require([feature.name for feature in manifest.schema_.features if feature.required])
    entity = manifest.entity.column if manifest.entity else None
    if _store_needed(manifest, source) and entity is not None:
        source.require([entity])
    carried = _carried(carry, manifest, source)
    there = set(source.schema.names)
    needed = [*manifest.schema_.names, *([entity] if entity else [])]
    read = tuple(dict.fromkeys([name for name in needed if name in there] + list(carried)))
    fingerprint = job_fingerprint(manifest, version, source, carried, settings)
    fields = [*(source.schema.field(name) for name in carried), *_ADDED]
    schema = pa.schema(fields, {JOB: fingerprint.encode()})
    return ScoringJob(settings, bundle.to_bytes(), version, read, carried, schema, fingerprint)


def score_chunk(chunk: Chunk, job: ScoringJob, folder: Path) -> int:
    """Score one chunk into its part in `folder`, a batch in memory at a time, and return its rows.

    Raises:
        DataError: the chunk cannot be read, a column cannot hold its feature, or the part cannot be written.
        StoreUnavailable: online features are needed and the store failed.
    """
    asyncio.run(_write_part(chunk, job, part_path(folder, chunk.index)))
    return chunk.rows


async def _write_part(chunk: Chunk, job: ScoringJob, path: Path) -> None:
    with atomic_file(path) as file, part_writer(file, job.schema) as writer:
        group: list[pa.Table] = []
        async for scored in _scored(chunk, job):
            group.append(scored)
            if len(group) == _ROW_GROUP_BATCHES:
                writer.write_table(pa.concat_tables(group))
                group.clear()
        if group:
            writer.write_table(pa.concat_tables(group))


async def _scored(chunk: Chunk, job: ScoringJob) -> AsyncIterator[pa.Table]:
    scorer = _scorer(job)
    for table in chunk_batches(chunk, job.columns, _BATCH_ROWS):
        try:
            scores = await scorer.inference.score_table(table)
        except DataError as exc:
            raise DataError(f"{chunk.path}: {exc}") from exc
        # Compared as Python floats are in the HTTP answer: the threshold is a float64.
        labels = (scores.astype(np.float64) >= scorer.threshold).astype(np.int8)
        version = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(scores), np.int8)), [job.version])
        columns = [*(table.column(name) for name in job.carried), pa.array(scores), pa.array(labels), version]
        yield pa.table(columns, schema=job.schema)


@dataclass(frozen=True)
class _Scorer:
    inference: InferencePipeline
    threshold: float


@cache
def _scorer(job: ScoringJob) -> _Scorer:
    """The model and the store, opened once a worker."""
    bundle = Bundle.from_bytes(job.packed)
    manifest = bundle.manifest
    features = local_features(job.settings, manifest)
    if features is not None:
        atexit.register(features.close)
    metrics = GatewayMetrics("batch", manifest.name, job.version)
    model = LocalModel(OnnxModel(bundle))
    return _Scorer(
        InferencePipeline(manifest, Transform(manifest.schema_), features, model, metrics), manifest.threshold
    )


def _carried(carry: str, manifest: BundleManifest, source: ParquetSource) -> tuple[str, ...]:
    if carry == KEYS:
        entity = manifest.entity.column if manifest.entity else None
        declared = [name for name in (manifest.key, entity, manifest.event_time) if name in source.schema.names]
        names = [name for name in declared if name]
    elif carry == ALL:
        names = source.schema.names
    else:
        names = [name.strip() for name in carry.split(",") if name.strip()]
        source.require(names)
    clash = [name for name in names if name in _ADDED.names]
    if clash:
        raise DataError(
            f"{source.path}: column '{clash[0]}' has the name of a column that scoring adds; "
            "rename it, or leave it out with --carry"
        )
    return tuple(dict.fromkeys(names))


def _store_needed(manifest: BundleManifest, source: ParquetSource) -> bool:
    return any(feature.name not in source.schema.names for feature in manifest.schema_.online)
