"""Decisions that would be others as a Parquet table, with the vector that was scored and the one of now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.feature_views.events.event import shown_key
from data.sources.atomic_output import atomic_file
from ray_app.late_events.version_replay import LateDecision

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string()),
        pa.field("key", pa.string()),
        pa.field("version", pa.string()),
        pa.field("answered_at", pa.timestamp("us", tz="UTC")),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("probability", pa.float32()),
        pa.field("present_probability", pa.float32()),
        pa.field("label", pa.int8()),
        pa.field("present_label", pa.int8()),
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("present_scores", pa.list_(pa.float32())),
        pa.field("changed", pa.list_(pa.string())),
        pa.field("features", pa.list_(pa.string())),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("present_vector", pa.list_(pa.float32())),
    ]
)
"""Probabilities and labels are as in the prediction log; `scores` has all numbers of the model, also where the
probability says them. `time` is that of the windows; `features` names the places of both vectors; `changed` those whose
values differ."""
_BLOCK_ROWS = 1000


def write_decisions(decisions: Iterable[LateDecision], path: Path) -> int:
    """Write decisions as one Parquet file; without any, nothing is written.

    Returns their number.

    Raises:
        DataError: the file cannot be written.
    """
    blocks = _blocks(decisions)
    first = next(blocks, None)
    if first is None:
        return 0
    rows = 0
    with atomic_file(path) as partial, pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for block in chain([first], blocks):
            writer.write_table(pa.Table.from_pylist(block, SCHEMA))
            rows += len(block)
    return rows


def _blocks(decisions: Iterable[LateDecision]) -> Iterator[list[dict[str, Any]]]:
    rows = (_row(each) for each in decisions)
    while block := list(islice(rows, _BLOCK_ROWS)):
        yield block


def _row(late: LateDecision) -> dict[str, Any]:
    logged, output = late.logged, late.manifest.output
    return {
        "request_id": logged.request_id,
        "key": str(shown_key(late.query.key)),
        "version": logged.version,
        "answered_at": logged.answered_at,
        "time": logged.time_us,
        "probability": output.probability(logged.scores),
        "present_probability": output.probability(late.scores),
        "label": logged.code,
        "present_label": late.code,
        "scores": logged.scores,
        "present_scores": late.scores,
        "changed": [each.name for each in late.changed],
        "features": late.manifest.schema_.names,
        "vector": logged.vector,
        "present_vector": late.vector.tolist(),
    }
