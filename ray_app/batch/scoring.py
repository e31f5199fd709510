"""Score chunks of a Parquet table with the same inference pipeline as the server.

`plan` checks the table and makes a job that can be pickled; `score_chunk` runs in a worker process. No Ray here.
"""

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
    """What a worker needs to score a chunk of the table.

    `packed` is `Bundle.to_bytes()`; `version` is written beside each score; `columns` are read, `carried` of them are
    copied to the output; `schema` is the Arrow schema of a part; `fingerprint` is that of the job.
    """

    settings: Settings
    packed: bytes
    version: str
    columns: tuple[str, ...]
    carried: tuple[str, ...]
    schema: pa.Schema
    fingerprint: str


def plan(settings: Settings, bundle: Bundle, version: str, source: ParquetSource, carry: str = KEYS) -> ScoringJob:
    """Check the table against the model and make the job that scores it.

    Args:
        settings: name the online store.
        bundle: the model.
        version: value of the output column `model_version`.
        source: the table.
        carry: columns to copy: `keys` (key, entity and event time, if present), `all`, or names joined by commas.

    Raises:
        DataError: a required or carried column is missing, or a carried one is named like an added one.
    """
    manifest = bundle.manifest
    source.require([feature.name for feature in manifest.schema_.features if feature.required])
    entity = manifest.entity.column if manifest.entity else None
    if _store_needed(manifest, source) and entity is not None:
        source.require([entity])
    carried = _carried(carry, manifest, source)
    present = set(source.schema.names)
    needed = [*manifest.schema_.names, *([entity] if entity else [])]
    columns = tuple(dict.fromkeys([name for name in needed if name in present] + list(carried)))
    fingerprint = job_fingerprint(manifest, version, source, carried, settings)
    fields = [*(source.schema.field(name) for name in carried), *_ADDED]
    schema = pa.schema(fields, {JOB: fingerprint.encode()})
    return ScoringJob(settings, bundle.to_bytes(), version, columns, carried, schema, fingerprint)


def score_chunk(chunk: Chunk, job: ScoringJob, folder: Path) -> int:
    """Score one chunk into its part in `folder`, one batch in memory at a time, and return its number of rows.

    Raises:
        DataError: the chunk cannot be read, a column does not have its feature's type, or writing failed.
        StoreUnavailable: the table lacks online features and the store cannot be read.
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
        # Compare in float64, as the HTTP response does: in float32 a score at the threshold could get another label.
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
    """Load the model and open the store, once per worker process."""
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
