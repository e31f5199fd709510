"""Entries of the prediction log: what a gateway sends to its writer, and the columns that they become."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from data.prediction_log.files import Labels, log_schema
from data.schema.features.value_source import ValueSource
from ray_app.prediction_log.retention import Retention

_SENT, _STORED, _DEFAULT = ValueSource.REQUEST.letter, ValueSource.ONLINE.letter, ValueSource.DEFAULT.letter
_EVENTS, _COMPUTED = ValueSource.EVENTS.letter, ValueSource.COMPUTED.letter


class Entry(NamedTuple):
    """One row as it is logged; it is sent as a plain tuple.

    `encoded` and `online` are as in Row and OnlineRow (None: the store had no row, or was not asked); `sent` is the
    decoded JSON object of the request. `at_us` is microseconds since 1970. `windows` has the values of the windows and
    `time_us` the time as of which they were computed (None: no windows, or no answer); `computed` the values of the
    expressions; NaN = missing. `probability`, `label` (a code) and `scores` are as in the log's columns.
    """

    sequence: int
    at_us: int
    request_id: str
    entity: str | None
    version: str
    epoch: int
    probability: float | None
    label: int | None
    scores: Sequence[float] | None
    latency_s: float
    degraded: bool
    age_s: float | None
    vector: Sequence[float]
    encoded: Sequence[float | None]
    sent: dict[str, Any]
    online: Sequence[Any] | None
    time_us: int | None = None
    windows: Sequence[float | str] = ()
    computed: Sequence[float] = ()


class WriterOptions(NamedTuple):
    """Options of a writer.

    `features` and `online`: names in the order of the vector and of the stored values; `entities`: the columns of a
    request that name entities. `entity_key`: key to hash entities with, None to write them as they are. `flush_s`:
    seconds between flushes; a crash loses no more. A stream becomes Parquet after `rotate_s` seconds or
    `rotate_bytes`. Files beyond `keep` are removed every `prune_s` seconds.
    """

    replica: str
    features: tuple[str, ...]
    online: tuple[str, ...]
    entities: tuple[str, ...]
    folder: Path
    entity_key: bytes | None
    flush_s: float
    rotate_s: float
    rotate_bytes: int
    keep: Retention
    prune_s: float
    windows: tuple[str, ...] = ()
    """Names in the order of an entry's values of windows."""
    computed: tuple[str, ...] = ()
    """Names in the order of an entry's values of expressions."""
    event_time: str | None = None
    """The request's column with the time; `online` holds the time in force under its name."""
    labels: Labels = (0, 1)
    """The labels by their codes."""


class EntryColumns:
    """Turns entries into record batches of the log."""

    def __init__(self, options: WriterOptions) -> None:
        self._options = options
        self.schema = log_schema(options.features, options.labels)
        """The log's columns."""
        stored_at = {name: at for at, name in enumerate(options.online)}
        self._stored_at = [stored_at.get(name) for name in options.features]
        self._served = {name: _EVENTS for name in options.windows} | {name: _COMPUTED for name in options.computed}

    def batch(self, rows: Sequence[Entry]) -> pa.RecordBatch:
        """Return n entries as the n rows of a record batch of the log's schema."""
        columns: list[Any] = [
            [self._options.replica] * len(rows),
            [row.sequence for row in rows],
            [row.at_us for row in rows],
            [row.request_id for row in rows],
            [self._entity(row.entity) for row in rows],
            [row.version for row in rows],
            [row.epoch for row in rows],
            [row.probability for row in rows],
            [row.label for row in rows],
            [row.scores for row in rows],
            [row.latency_s * 1000 for row in rows],
            [row.degraded for row in rows],
            [row.age_s for row in rows],
            [row.vector for row in rows],
            [self._sources(row) for row in rows],
            [self._sent(row) for row in rows],
            [self._online(row) for row in rows],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _sources(self, row: Entry) -> str:
        """The source of each feature's value, one letter a feature; see `ValueSource.letter`."""
        stored = row.online or ()
        letters = [
            _SENT if sent is not None else _STORED if stored and at is not None and stored[at] is not None else _DEFAULT
            for sent, at in zip(row.encoded, self._stored_at, strict=True)
        ]
        if self._served:
            values = self._served_values(row)
            for at, name in enumerate(self._options.features):
                if values.get(name) is not None:
                    letters[at] = self._served[name]
        return "".join(letters)

    def _served_values(self, row: Entry) -> dict[str, Any]:
        """Values of windows and expressions by name, None = missing; of windows only those that were answered."""
        pairs = [
            *zip(self._options.windows, row.windows, strict=False),
            *zip(self._options.computed, row.computed, strict=True),
        ]
        return {name: None if value != value else value for name, value in pairs}

    def _online(self, row: Entry) -> bytes | None:
        if row.online is None and not self._served:
            return None
        stored = dict(zip(self._options.online, row.online, strict=True)) if row.online is not None else {}
        if self._options.event_time is not None and row.time_us is not None:
            stored[self._options.event_time] = row.time_us
        return orjson.dumps(stored | self._served_values(row))

    def _sent(self, row: Entry) -> bytes:
        sent = row.sent
        if self._options.entity_key is not None and self._options.entities:
            sent = {name: value for name, value in sent.items() if name not in self._options.entities}
        return orjson.dumps(sent)

    def _entity(self, entity: str | None) -> str | None:
        key = self._options.entity_key
        if entity is None or key is None:
            return entity
        return hashlib.blake2b(entity.encode(), digest_size=16, key=key).hexdigest()
