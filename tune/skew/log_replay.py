"""The skew proof from the prediction log: logged answers and the vectors scored for them, compared with training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.prediction_log.files import LogFile, log_files, logged_scores, read_file, sources
from data.schema.features.feature import FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.value_source import ValueSource
from data.transform.encoding import Transform
from data.transform.missing import is_blank, is_missing
from data.transform.text_scores import derived_sent
from data.transform.time_values import time_us
from tune.registry.bundle import Bundle
from tune.skew.row_comparison import RowComparer, SentRow, ServedRow, SkewProof, UsedValue

_BATCH_ROWS = 1000


def prove_log(
    bundle: Bundle, version: str, folder: Path, rows: int, advance: Callable[[int], None] = lambda _: None
) -> SkewProof:
    """Compare logged rows of one version with training, newest files first, until `rows` are compared.

    Args:
        bundle: the bundle of the version.
        version: number of the version.
        folder: the prediction log.
        rows: number of rows to compare.
        advance: called with the number of rows compared after each batch.

    Raises:
        DataError: the folder holds no log, or one of its files is broken.
    """
    comparer = RowComparer(bundle, version, rows)
    schema, transform = bundle.manifest.schema_, Transform(bundle.manifest.schema_)
    for part in _parts(folder, version, schema):
        left = rows - comparer.proof.compared
        if left <= 0:
            break
        logged = part.slice(0, left).to_pylist()
        first = comparer.proof.compared
        sent = [SentRow(first + at, _sent(row, schema), None) for at, row in enumerate(logged)]
        matrix = transform.matrix(_as_table([row.body or {} for row in sent], schema))
        comparer.compare(matrix, sent, [_served(row, schema) for row in logged])
        advance(len(logged))
    return comparer.proof


def _parts(folder: Path, version: str, schema: FeatureSchema) -> Iterator[pa.Table]:
    for file in sorted(log_files(folder), key=lambda file: file.name.rpartition("-")[2], reverse=True):
        log: LogFile = read_file(file)
        own = log.table.filter(pc.call_function("equal", [log.table.column("version"), version]))
        width = pc.call_function("list_value_length", [own.column("vector")]).to_numpy()
        own = own.filter(pa.array(width == len(schema.names)))
        for start in range(0, own.num_rows, _BATCH_ROWS):
            yield own.slice(start, _BATCH_ROWS)


def _sent(row: dict[str, Any], schema: FeatureSchema) -> dict[str, Any]:
    """Return the features, and the times and texts that some are derived from, that the request had a value of."""
    sent = json.loads(row["sent"] or "{}")
    own = [f for f in schema.features if not f.is_derived and not is_missing(sent.get(f.name), f.empty_is_value)]
    times = {name: sent[name] for name in schema.times if not is_blank(sent.get(name))}
    texts = {name: sent[name] for name in schema.texts if not is_missing(sent.get(name))}
    return {f.name: sent[f.name] for f in own} | times | texts


def _served(row: dict[str, Any], schema: FeatureSchema) -> ServedRow:
    sent, online = _sent(row, schema), json.loads(row["online"] or "{}")
    sent |= {feature.name: derived_sent(feature, sent) for feature in (*schema.derived, *schema.scores)}
    used = {}
    for feature, source in zip(schema.features, sources(row["sources"]), strict=True):
        values = {ValueSource.REQUEST: sent, ValueSource.ONLINE: online}.get(source, {feature.name: feature.default})
        used[feature.name] = UsedValue(values.get(feature.name), source)
    return ServedRow(str(row["request_id"]), logged_scores(row), used, row["vector"])


def _as_table(bodies: list[dict[str, Any]], schema: FeatureSchema) -> pa.Table:
    """Return the sent values as a table like that of training, null where a value was not sent."""
    columns = {}
    for name in schema.times:
        # One request may send a string and another one a number.
        times = [None if name not in body else time_us(body[name]) for body in bodies]
        columns[name] = pa.array(times, pa.timestamp("us"))
    for name in schema.texts:
        columns[name] = pa.array([body.get(name) for body in bodies], pa.string())
    for feature in schema.features:
        if feature.is_derived:
            continue
        values = [body.get(feature.name) for body in bodies]
        if feature.type is FeatureType.CATEGORY:
            columns[feature.name] = pa.array(values, pa.string())
        else:
            floats = np.array([np.nan if value is None else float(value) for value in values])
            columns[feature.name] = pa.array(floats)
    return pa.table(columns)
