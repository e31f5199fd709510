"""Score blocks of a Parquet table with the same inference pipeline as the server, and as strictly as HTTP.

`plan` checks the table and makes a job that can be pickled; `score_rows` runs in a worker process. No Ray here.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.errors import naming
from data.schema.reason_codes import ReasonCodes
from data.settings import Settings
from data.sources.parquet import ParquetSource
from data.sources.partial_output import write_part
from data.sources.row_origin import FILE, ROW, Origin, origin_of, without_origin
from data.transform.encoding import Transform
from data.transform.table_columns import free_name
from ray_app.batch.explained_rows import EXPLANATION, RowExplainer, explanation_type
from ray_app.batch.job_fingerprint import job_fingerprint
from ray_app.batch.refused_rows import REASONS, BlockCounts, Refusals, refusals
from ray_app.batch.table_windows import HeldWindows, ScoredTable, table_windows
from ray_app.batch.written_windows import WrittenWindows
from ray_app.inference.features.feature_fetch import local_features
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.pipeline import InferencePipeline
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from tune.registry.bundle import Bundle, BundleManifest

MODEL_VERSION = "model_version"
_WORDS = pa.dictionary(pa.int8(), pa.string())
_PREFIX = "predicted_"
_BATCH_ROWS = 65_536
KEYS = "keys"
ALL = "all"
COUNTS = b"rayscore.counts"
"""Metadata key of a part's `BlockCounts`."""


@dataclass(frozen=True)
class ScoringModel:
    """What scores: `packed` is `Bundle.to_bytes()`, `version` is written beside each score.

    `reasons` are the use case's reason codes where rows are explained, else None.
    """

    settings: Settings
    packed: bytes
    version: str
    reasons: ReasonCodes | None = None

    def __hash__(self) -> int:
        # Without the reason codes, whose texts are a dict.
        return hash((self.packed, self.version))


@dataclass(frozen=True)
class ScoringJob:
    """What a worker needs to score blocks of the table.

    `columns` are read, `carried` of them are copied to the output; `schema` is the Arrow schema of a part;
    `fingerprint` is that of the job; `folder` takes the parts; `first_rows` are the source's.
    """

    model: ScoringModel
    columns: tuple[str, ...]
    carried: tuple[str, ...]
    schema: pa.Schema
    fingerprint: str
    folder: Path
    first_rows: Mapping[str, int]
    windows: HeldWindows | WrittenWindows | None = None
    """The windows of the table's rows; None where it holds them already, or the model has none."""

    @property
    def added(self) -> list[str]:
        """Names of the output's own columns: what the model answers, and `model_version`; or these with a prefix."""
        return self.schema.names[len(self.carried) :]

    def first_row(self, origin: Origin) -> int:
        """Return the number of a row in the whole table."""
        return self.first_rows[origin.file] + origin.row


def plan(
    settings: Settings,
    bundle: Bundle,
    version: str,
    table: ScoredTable,
    folder: Path,
    carry: str = KEYS,
    reasons: ReasonCodes | None = None,
) -> ScoringJob:
    """Check the table against the model and make the job that scores it.

    Args:
        settings: name the online store.
        bundle: the model.
        version: value of the output column `model_version`.
        table: the table, and what its windows need.
        folder: where the parts of the output go.
        carry: columns to copy: `keys` (key, entity and event time, if present), `all`, or names joined by commas.
        reasons: the use case's reason codes, when rows are to be explained.

    Raises:
        ConfigError: events are not given, or are not needed.
        DataError: a required or carried column is missing, or the windows cannot be computed.
    """
    manifest, source = bundle.manifest, table.source
    scored, carried = _scored_columns(manifest, source), _carried(carry, manifest, source)
    windows = table_windows(table, scored, manifest, settings)
    columns = tuple(dict.fromkeys([*windows.columns, *carried]))
    fingerprint = job_fingerprint(manifest, version, source, carried, settings, windows.files.sources, reasons)
    schema = pa.schema([*(source.schema.field(name) for name in carried), *_added(carried, manifest, reasons)])
    model = ScoringModel(settings, bundle.to_bytes(), version, reasons)
    first_rows = source.first_rows
    return ScoringJob(model, columns, carried, schema, fingerprint, folder, first_rows, windows.computed)


def _scored_columns(manifest: BundleManifest, source: ParquetSource) -> list[str]:
    """Return the columns of the table that are scored; raises DataError when one that is required is missing."""
    source.require([name for feature in manifest.schema_.features if feature.required for name in feature.inputs])
    entity = [manifest.entity.column] if manifest.entity else []
    if any(feature.name not in source.schema.names for feature in manifest.schema_.online):
        # Values that the table lacks are read from the store, by the entity.
        source.require(entity)
    present = set(source.schema.names)
    return [name for name in (*manifest.schema_.columns, *entity) if name in present]


def part_name(first_row: int) -> str:
    """Return the name of the part of the block that begins with row `first_row` of the table."""
    return f"part-{first_row:012d}.parquet"


def refused_name(first_row: int) -> str:
    """Return the name of the part with the refused rows of the block that begins with row `first_row`."""
    return f"refused-{first_row:012d}.parquet"


def score_rows(block: pa.Table, job: ScoringJob) -> tuple[int, BlockCounts]:
    """Score consecutive rows of one file into a part; those that HTTP would refuse go into a part of their own.

    Returns the number of the first row in the whole table, and the counts.

    Args:
        block: the job's columns, and those of the rows' origin; one row at least.
        job: what to score with, and where the parts go.

    Raises:
        DataError: a column does not have its feature's type, windows cannot be read, or writing failed.
        StoreUnavailable: the table lacks online features and the store cannot be read.
    """
    origin, table = origin_of(block), without_origin(block)
    scorer, first = _scorer(job.model), job.first_row(origin)
    with naming(origin.file):
        found = refusals(table, scorer.manifest, scorer.transform)
    kept = table if found.clean else table.filter(pa.array(~found.refused))
    rows = _with_windows(kept, found.refused, job, first)
    with naming(origin.file):
        scores, explained = asyncio.run(_scores(scorer, rows))
    # The refused first: a scored part says that the block is done.
    if not found.clean:
        write_part(job.folder, refused_name(first), _refused(block, found), job.fingerprint)
    answered = [_arrow(values) for values in scorer.manifest.output.columns(scores).values()]
    scored = _scored(kept, answered, explained, job, found.counts)
    write_part(job.folder, part_name(first), scored, job.fingerprint)
    return first, found.counts


def _with_windows(kept: pa.Table, refused: np.ndarray, job: ScoringJob, first: int) -> pa.Table:
    """Return the rows of a block that are scored with their windows, in place of columns of the same names."""
    if job.windows is None:
        return kept
    windows = job.windows.of(first, refused)
    others = kept.drop_columns([name for name in windows.column_names if name in kept.column_names])
    return pa.table({**_by_name(others), **_by_name(windows)})


def _by_name(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


async def _scores(scorer: _Scorer, table: pa.Table) -> tuple[np.ndarray, list[pa.ChunkedArray]]:
    """Return the scores of a table's n rows, float32 of shape (n, width), and the columns that explain them.

    A matrix of one batch is in memory at a time. There is one column that explains, or none.
    """
    scores = np.empty((table.num_rows, scorer.manifest.output.width), np.float32)
    explained: list[pa.ChunkedArray] = []
    for first in range(0, table.num_rows, _BATCH_ROWS):
        batch = table.slice(first, _BATCH_ROWS)
        matrix = await scorer.inference.encode_table(batch)
        scores[first : first + batch.num_rows] = await scorer.inference.score(matrix)
        if scorer.explainer is not None:
            explained.append(scorer.explainer.column(matrix))
    if scorer.explainer is None:
        return scores, []
    chunks = [chunk for column in explained for chunk in column.chunks]
    return scores, [pa.chunked_array(chunks, explanation_type(scorer.manifest))]


def _scored(
    table: pa.Table,
    answered: Sequence[pa.Array],
    explained: Sequence[pa.ChunkedArray],
    job: ScoringJob,
    counts: BlockCounts,
) -> pa.Table:
    version = pa.DictionaryArray.from_arrays(pa.array(np.zeros(table.num_rows, np.int8)), [job.model.version])
    columns = [*(table.column(name) for name in job.carried), *answered, version, *explained]
    return pa.table(columns, schema=job.schema.with_metadata({COUNTS: counts.to_json()}))


def _arrow(values: np.ndarray) -> pa.Array:
    """Return a column of answers; words, which repeat, are encoded by a dictionary."""
    array = pa.array(np.ascontiguousarray(values))
    return array.dictionary_encode().cast(_WORDS) if pa.types.is_string(array.type) else array


def _refused(block: pa.Table, found: Refusals) -> pa.Table:
    rows = block.filter(pa.array(found.refused))
    # The file as plain text: parts of several files are joined.
    rows = rows.set_column(rows.column_names.index(FILE), FILE, rows.column(FILE).cast(pa.string()))
    order = [FILE, ROW, *(name for name in rows.column_names if name not in (FILE, ROW))]
    return rows.select(order).append_column(free_name(REASONS, order), pa.array(found.reasons(), pa.string()))


@dataclass(frozen=True)
class _Scorer:
    manifest: BundleManifest
    transform: Transform
    inference: InferencePipeline
    explainer: RowExplainer | None


@cache
def _scorer(given: ScoringModel) -> _Scorer:
    """Load the model and open the store, once per worker process."""
    bundle = Bundle.from_bytes(given.packed)
    manifest = bundle.manifest
    features = local_features(given.settings, manifest)
    if features is not None:
        atexit.register(features.close)
    metrics = GatewayMetrics("batch", manifest.name, given.version)
    transform, model = Transform(manifest.schema_), LocalModel(OnnxModel(bundle))
    inference = InferencePipeline(manifest, transform, features, model, metrics)
    explainer = RowExplainer(bundle, given.reasons) if given.reasons is not None else None
    return _Scorer(manifest, transform, inference, explainer)


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
    return tuple(dict.fromkeys(names))


def _added(carried: Sequence[str], manifest: BundleManifest, reasons: ReasonCodes | None) -> list[pa.Field]:
    """Return the fields that scoring adds, with as many prefixes as it takes to differ from what is carried."""
    empty = manifest.output.columns(np.empty((0, manifest.output.width), np.float32))
    types = {name: _arrow(values).type for name, values in empty.items()} | {MODEL_VERSION: _WORDS}
    if reasons is not None:
        types[EXPLANATION] = explanation_type(manifest)
    prefix = ""
    while any(f"{prefix}{name}" in carried for name in types):
        prefix += _PREFIX
    return [pa.field(f"{prefix}{name}", kind) for name, kind in types.items()]
