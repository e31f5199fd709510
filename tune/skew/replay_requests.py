"""Replay requests: the rows of a table as the JSON objects that clients would send, beside the encoded rows.

Every feature that a request may carry is sent, of a derived one the times or the text that it comes from. A feature of
source `either` is sent in every other row and left to the store in the rest; in a second pass over the table it is the
other way round.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from data.schema.features.feature import Scalar, Source
from data.transform.encoding import Transform, named_column
from data.transform.json_values import json_keys, json_values
from data.transform.text_scores import text_column
from data.transform.time_values import json_times
from tune.registry.bundle import BundleManifest
from tune.skew.row_comparison import SentRow


class ReplayRequests:
    """The requests that can be made from a table.

    Args:
        table: raw rows.
        manifest: names features and entity.
    """

    def __init__(self, table: pa.Table, manifest: BundleManifest) -> None:
        self._table = table
        self._entity = manifest.entity
        schema = manifest.schema_
        self._features = [f for f in schema.features if f.source is not Source.ONLINE and not f.is_derived]
        self._times, self._texts = schema.times, schema.texts
        self._open = {f.name for f in self._features if f.source is Source.EITHER}
        self._transform = Transform(schema)

    @property
    def forms(self) -> int:
        """Number of different requests: the rows, twice when some features may or may not be sent."""
        return self._table.num_rows * (2 if self._open else 1)

    def slice(self, start: int, count: int) -> tuple[np.ndarray, list[SentRow]]:
        """Return encoded rows, float32 of shape (n, k), and their requests, from request number `start` on.

        n is `count`, or less at the end of the table.

        Raises:
            DataError: a column is missing, or cannot hold its feature.
        """
        turn, first = divmod(start, self._table.num_rows)
        part = self._table.slice(first, count)
        columns = [(f.name, json_values(named_column(part, f.name), f)) for f in self._features]
        columns += [(name, json_times(named_column(part, name), name)) for name in self._times]
        columns += [(name, text_column(named_column(part, name), name).to_pylist()) for name in self._texts]
        entities = self._entities(part)
        sent = []
        for at, entity in enumerate(entities):
            left_out = self._open if (first + at + turn) % 2 else ()
            body = {name: values[at] for name, values in columns if name not in left_out}
            sent.append(_sent(first + at, body, entity, self._entity.column if self._entity else None))
        return self._transform.matrix(part), sent

    def _entities(self, part: pa.Table) -> list[Scalar | None]:
        if self._entity is None:
            return [None] * part.num_rows
        return json_keys(named_column(part, self._entity.column), self._entity)


def _sent(row: int, values: dict[str, Scalar | None], entity: Scalar | None, column: str | None) -> SentRow:
    body = {name: value for name, value in values.items() if value is not None}
    if any(isinstance(value, float) and math.isinf(value) for value in body.values()):
        return SentRow(row, None, None)
    if column is not None and entity is not None:
        body[column] = entity
    return SentRow(row, body, None if entity is None else str(entity))
