"""The process that writes a gateway's prediction log: rows in by a pipe, an Arrow stream and Parquet out.

It appends to a stream on disk, flushed every second, and makes Parquet of a full one. What becomes of rows is said by
the lines it prints. When the gateway is gone, the pipe ends, and so does the file.
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
"""Keys of a printed line: rows on disk and rows that it refused since the line before, free share of the disk; or files
that were removed because of their age or size."""

_LENGTH = 4
_AGAIN_S = 10.0
_READ_BYTES = 1 << 20
_NICE = 5
"""Callers go first."""
_SENT, _STORED, _DEFAULT = (source.letter for source in ValueSource)


class Entry(NamedTuple):
    """What is logged of one row; it travels as a plain tuple.

    `encoded` and `online` are as in Row and OnlineRow (None: the store had none or was not asked); `sent` is what was
    sent, by name.
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


class WriterOptions(NamedTuple):
    """What a writer writes, and how.

    `features` and `online`: names in the order of the vector and of the stored values; `entity`: the request's column
    with the entity. `entity_key`: key to hash entities with, None to write them as they are. `flush_s`: seconds
    between flushes; a crash loses no more. A stream becomes Parquet after `rotate_s` seconds or `rotate_bytes`. What is
    not to be kept is removed every `prune_s` seconds.
    """

    replica: str
    features: tuple[str, ...]
    online: tuple[str, ...]
    entity: str | None
    folder: Path
    entity_key: bytes | None
    flush_s: float
    rotate_s: float
    rotate_bytes: int
    keep: Retention
    prune_s: float


def frame(content: object) -> bytes:
    """What the writer reads: first a WriterOptions, then lists of entries."""
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return len(body).to_bytes(_LENGTH, "big") + body


def serve() -> None:
    """Be the process: options and rows from standard input, until it ends."""
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
    """Frames out of a pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._hang_up = select.poll()
        self._hang_up.register(fd, 0)
        self.ended = False

    def hung_up(self, timeout_s: float) -> bool:
        """Wait for so long that the other side is gone; what it had written can still be read."""
        return bool(self._hang_up.poll(timeout_s * 1000))

    def read(self, timeout_s: float | None) -> list[Any]:
        """Return the frames that are whole, after waiting for so long, or for ever, that something comes."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return []
        got = os.read(self._fd, _READ_BYTES)
        self.ended = not got
        self._buffer += got
        frames, at = [], 0
        while len(self._buffer) >= at + _LENGTH:
            end = at + _LENGTH + int.from_bytes(self._buffer[at : at + _LENGTH], "big")
            if len(self._buffer) < end:
                break
            frames.append(pickle.loads(bytes(self._buffer[at + _LENGTH : end])))
            at = end
        del self._buffer[:at]
        return frames


class _Writer:
    """Rows to files."""

    def __init__(self, options: WriterOptions) -> None:
        self._options = options
        self._schema = log_schema(options.features)
        stored_at = {name: at for at, name in enumerate(options.online)}
        self._stored_at = [stored_at.get(name) for name in options.features]
        self._stream: LogStream | None = None
        self._unflushed = 0
        self._again_at = 0.0
        self._prune_at = 0.0

    def run(self, pipe: _Pipe, frames: list[Any]) -> None:
        """Write what comes until the pipe ends, and finish the file."""
        recover(self._options.folder)
        pending = deque(frames)
        flush_at = 0.0
        while pending or not pipe.ended:
            now = time.monotonic()
            if now < self._again_at:
                # The disk is left alone for a while: rows wait in the pipe, and then with the gateway.
                if pipe.hung_up(min(self._again_at - now, self._options.flush_s)):
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
            self._tell(LOST)
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
        self._tell(WRITTEN)
        if stream is not None and (
            stream.bytes >= self._options.rotate_bytes or stream.age_s() >= self._options.rotate_s
        ):
            self._finish(stream)

    def _prune(self) -> None:
        """Remove what is not to be kept, every now and then."""
        if time.monotonic() < self._prune_at:
            return
        try:
            if removed := prune(self._options.folder, self._options.keep, time.time()):
                _say({REMOVED: removed})
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
            # It stays as it is, and is read as it is.
            logger.warning("prediction log: %s could not be made Parquet: %s", stream.path, exc)

    def _tell(self, outcome: str) -> None:
        """Say what became of the rows since the last flush: small ones wait in a buffer, only a flush tells of them."""
        _say({outcome: self._unflushed, FREE: free_share(self._options.folder)})
        self._unflushed = 0

    def _give_up(self, exc: Exception) -> None:
        """The disk refuses: it is tried again later."""
        self._tell(LOST)
        self._again_at = time.monotonic() + _AGAIN_S
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abandon()
        folder = self._options.folder
        logger.warning("prediction log: %s cannot be written; tried again in %g s: %s", folder, _AGAIN_S, exc)

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
        """Where each feature's value came from, a letter a feature."""
        stored = row.online or ()
        return "".join(
            _SENT if sent is not None else _STORED if stored and at is not None and stored[at] is not None else _DEFAULT
            for sent, at in zip(row.encoded, self._stored_at, strict=True)
        )

    def _online(self, row: Entry) -> bytes | None:
        if row.online is None:
            return None
        return orjson.dumps(dict(zip(self._options.online, row.online, strict=True)))

    def _sent(self, row: Entry) -> bytes:
        sent = row.sent
        if self._options.entity_key is not None and self._options.entity is not None:
            sent = {name: value for name, value in sent.items() if name != self._options.entity}
        return orjson.dumps(sent)

    def _entity(self, entity: str | None) -> str | None:
        key = self._options.entity_key
        if entity is None or key is None:
            return entity
        return hashlib.blake2b(entity.encode(), digest_size=16, key=key).hexdigest()


def _say(report: dict[str, Any]) -> None:
    # The gateway may be gone, and what it gave is written all the same.
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")
