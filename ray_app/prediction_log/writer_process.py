"""The writer process of a gateway's prediction log: reads rows from stdin, writes an Arrow stream, then Parquet.

It appends to a stream on disk, flushed every second, and converts a full one to Parquet. It reports the outcome of rows
as JSON lines on stdout. When the gateway is gone, stdin ends: the process then finishes the file and ends.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import select
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from data.errors import DataError
from data.prediction_log.files import STREAM, log_schema
from data.schema.value_source import ValueSource
from ray_app.prediction_log.retention import Retention, prune
from ray_app.prediction_log.stream_files import LogStream, free_share, recover, to_parquet

logger = logging.getLogger(__name__)

WRITTEN, LOST, FREE, REMOVED = "written", "lost", "free", "removed"
"""Keys of a report: rows written to disk or lost since the last report, and the free share of the disk; or files that
were removed, by reason."""

_LENGTH_BYTES = 4
_RETRY_S = 10.0
_READ_BYTES = 1 << 20
_NICE = 5
"""A lower priority than the gateway's: answers go first."""
_SENT, _STORED, _DEFAULT = ValueSource.REQUEST.letter, ValueSource.ONLINE.letter, ValueSource.DEFAULT.letter
_EVENTS, _COMPUTED = ValueSource.EVENTS.letter, ValueSource.COMPUTED.letter


class Entry(NamedTuple):
    """One row as it is logged; it is sent as a plain tuple.

    `encoded` and `online` are as in Row and OnlineRow (None: the store had no row, or was not asked); `sent` is the
    decoded JSON object of the request. `at_us` is microseconds since 1970. `windows` has the values of the windows and
    `time_us` the time as of which they were computed (None: no windows, or no answer); `computed` the values of the
    expressions; NaN = missing.
    """

    sequence: int
    at_us: int
    request_id: str
    entity: str | None
    version: str
    epoch: int
    probability: float
    label: int
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


def frame(content: object) -> bytes:
    """Encode a message to the writer: first its WriterOptions, then lists of entries. Length prefix, then pickle."""
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def serve() -> None:
    """Main function of the process: read options and rows from stdin and write them, until stdin ends."""
    os.nice(_NICE)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    pipe = _Pipe(sys.stdin.fileno())
    frames: list[Any] = []
    while not frames and not pipe.ended:
        frames = pipe.read(None)
    if frames:
        options, *entries = frames
        _Writer(options).run(pipe, entries)


class _Pipe:
    """Reads frames from a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        # Registered for no event: poll then reports a hang-up alone, not data, which may be left in the pipe.
        self._hang_up = select.poll()
        self._hang_up.register(fd, 0)
        self.ended = False

    def hung_up(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the other side to close; True when it has. What it wrote can still be read."""
        return bool(self._hang_up.poll(timeout_s * 1000))

    def read(self, timeout_s: float | None) -> list[Any]:
        """Return the complete frames, after waiting for data up to `timeout_s` seconds, None for no limit."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return []
        data = os.read(self._fd, _READ_BYTES)
        self.ended = not data
        self._buffer += data
        frames, at = [], 0
        while len(self._buffer) >= at + _LENGTH_BYTES:
            end = at + _LENGTH_BYTES + int.from_bytes(self._buffer[at : at + _LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                break
            frames.append(pickle.loads(bytes(self._buffer[at + _LENGTH_BYTES : end])))
            at = end
        del self._buffer[:at]
        return frames


class _Writer:
    """Writes rows to the files of a log."""

    def __init__(self, options: WriterOptions) -> None:
        self._options = options
        self._schema = log_schema(options.features)
        stored_at = {name: at for at, name in enumerate(options.online)}
        self._stored_at = [stored_at.get(name) for name in options.features]
        self._served = {name: _EVENTS for name in options.windows} | {name: _COMPUTED for name in options.computed}
        self._stream: LogStream | None = None
        self._unflushed = 0
        self._retry_at = 0.0
        self._prune_at = 0.0

    def run(self, pipe: _Pipe, frames: list[Any]) -> None:
        """Write rows until the pipe ends, then finish the file. `frames` were read already."""
        recover(self._options.folder)
        pending = deque(frames)
        flush_at = 0.0
        while pending or not pipe.ended:
            now = time.monotonic()
            if now < self._retry_at:
                # After a failure the disk is left alone for a while: rows wait in the pipe, then in the gateway.
                if pipe.hung_up(min(self._retry_at - now, self._options.flush_s)):
                    break
            elif pending:
                self._append([Entry._make(row) for row in pending.popleft()])
            else:
                pending += pipe.read(max(flush_at - now, 0.0))
            if now >= flush_at:
                self._flush()
                self._prune()
                flush_at = time.monotonic() + self._options.flush_s
        while not pipe.ended:
            pending += pipe.read(None)
        if pending:
            self._unflushed += sum(len(rows) for rows in pending)
            self._report(LOST)
        self._flush()
        if self._stream is not None:
            self._finish(self._stream)

    def _append(self, rows: Sequence[Entry]) -> None:
        self._unflushed += len(rows)
        try:
            self._opened().append(self._batch(rows))
        except (OSError, pa.ArrowException) as exc:
            self._give_up(exc)

    def _flush(self) -> None:
        stream = self._stream
        if stream is not None:
            try:
                stream.flush()
            except OSError as exc:
                self._give_up(exc)
                return
        self._report(WRITTEN)
        if stream is not None and (
            stream.bytes >= self._options.rotate_bytes or stream.age_s() >= self._options.rotate_s
        ):
            self._finish(stream)

    def _prune(self) -> None:
        """Remove files beyond the retention, every `prune_s` seconds."""
        if time.monotonic() < self._prune_at:
            return
        try:
            if removed := prune(self._options.folder, self._options.keep, time.time()):
                _print_report({REMOVED: removed})
        except OSError as exc:
            logger.warning("prediction log: what is too old in %s stays: %s", self._options.folder, exc)
        self._prune_at = time.monotonic() + self._options.prune_s

    def _opened(self) -> LogStream:
        if self._stream is None:
            day = self._options.folder / time.strftime("date=%Y-%m-%d", time.gmtime())
            day.mkdir(parents=True, exist_ok=True)
            name = f"{self._options.replica}-{time.time_ns() // 1000}{STREAM}"
            self._stream = LogStream(day / name, self._schema)
        return self._stream

    def _finish(self, stream: LogStream) -> None:
        self._stream = None
        try:
            stream.close()
            to_parquet(stream.path)
        except (OSError, pa.ArrowException, DataError) as exc:
            # It stays a stream, which readers of the log read as well.
            logger.warning("prediction log: %s could not be made Parquet: %s", stream.path, exc)

    def _report(self, outcome: str) -> None:
        """Report the outcome of the rows since the last flush. Before it is unknown: small batches wait in a buffer."""
        _print_report({outcome: self._unflushed, FREE: free_share(self._options.folder)})
        self._unflushed = 0

    def _give_up(self, exc: Exception) -> None:
        """After a failed write: count the rows as lost, and try again later with a new stream."""
        self._report(LOST)
        self._retry_at = time.monotonic() + _RETRY_S
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abandon()
        folder = self._options.folder
        logger.warning("prediction log: %s cannot be written; tried again in %g s: %s", folder, _RETRY_S, exc)

    def _batch(self, rows: Sequence[Entry]) -> pa.RecordBatch:
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
            [row.latency_s * 1000 for row in rows],
            [row.degraded for row in rows],
            [row.age_s for row in rows],
            [row.vector for row in rows],
            [self._sources(row) for row in rows],
            [self._sent(row) for row in rows],
            [self._online(row) for row in rows],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

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


def _print_report(report: dict[str, Any]) -> None:
    # The gateway may be gone; its rows are written all the same.
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")
