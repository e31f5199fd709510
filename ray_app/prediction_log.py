"""The prediction log of one gateway: answered rows, sampled, written by a thread of its own.

The event loop pays for an append to a queue. The thread turns rows into Arrow a few at a time, so that it never
keeps the interpreter for long, appends them to a stream on disk at every flush, and makes Parquet of a full stream.
What finds no room in the queue or on the disk is dropped and counted: answers never wait for the log.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import random
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.predictions import PARQUET, STREAM, log_schema, read_file
from ray_app.observer import Answered, Failed

logger = logging.getLogger("ray.serve")

_CHUNK = 64
"""Rows converted before others get their turn; some 0.3 ms."""
_STALE_S = 600.0
_AGAIN_S = 10.0
_TAKE_S = 0.02
"""Full chunks are encoded this soon. All at once at the flush they held up callers: p99 of 64 was 27 ms, now 16."""


class Sampling(NamedTuple):
    """Shares of the answers that are logged, between 0 and 1; of those with label 1 the larger of the two."""

    all: float
    positive: float

    def takes(self, label: int, draw: float) -> bool:
        """Whether a row is logged; `draw` is uniform between 0 and 1."""
        return draw < (max(self.all, self.positive) if label else self.all)


@dataclass(frozen=True)
class LogOptions:
    """How a log is kept.

    `entity_key`: key to hash entities with, None to write them as they are. `limit`: most rows in the queue.
    `flush_s`: seconds between writes; a crash loses no more. A stream becomes Parquet after `rotate_s` seconds or
    `rotate_bytes`.
    """

    folder: Path
    sampling: Sampling
    entity_key: bytes | None = None
    flush_s: float = 1.0
    limit: int = 20_000
    rotate_s: float = 600.0
    rotate_bytes: int = 64 * 1024 * 1024


Count = Callable[[str, int], None]
"""Told how rows ended, and how many: "written" (on disk), "dropped" (no room in the queue), "lost" (the disk refused
the flush that they were to be in, of which some may be readable all the same)."""


class _Waiting(NamedTuple):
    sequence: int
    at_us: int
    answered: Answered


class PredictionLog:
    """An Observer that keeps what it sees. Opened by its construction; nothing is written before the first row.

    Args:
        replica: its name, part of the files' names.
        features: names of the features in the order of the vector.
        options: how it is kept.
        count: told what became of rows.
        draw: uniform numbers for the sampling.
    """

    def __init__(
        self,
        replica: str,
        features: tuple[str, ...],
        options: LogOptions,
        count: Count = lambda outcome, rows: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._replica = replica
        self._schema = log_schema(features)
        self._options = options
        self._count = count
        self._draw = draw
        self._queue: deque[_Waiting] = deque()
        self._sequence = 0
        self._unflushed = 0
        self._ending = threading.Event()
        self._stream: _Stream | None = None
        self._again_at = 0.0
        self.disk_free = math.nan
        """Free share of the folder's disk, looked up with every write; NaN while it is not known."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def answered(self, rows: Sequence[Answered]) -> None:
        """Queue the rows that the sampling takes."""
        at_us = 0
        for row in rows:
            if not self._options.sampling.takes(row.label, self._draw()):
                continue
            self._sequence += 1
            if len(self._queue) >= self._options.limit:
                self._count("dropped", 1)
                continue
            at_us = at_us or time.time_ns() // 1000
            self._queue.append(_Waiting(self._sequence, at_us, row))

    def failed(self, failure: Failed) -> None:
        """Nothing: the log is of answers."""

    def close(self) -> None:
        """Write what is queued and finish the file."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        recover(self._options.folder)
        flush_at = time.monotonic() + self._options.flush_s
        while not self._ending.wait(min(self._options.flush_s, _TAKE_S)):
            self._take(_CHUNK)
            if time.monotonic() >= flush_at:
                self._take(1)
                self._flush()
                flush_at = time.monotonic() + self._options.flush_s
        self._take(1)
        self._flush()
        if self._stream is not None:
            self._finish(self._stream)

    def _take(self, least: int) -> None:
        """Encode what is queued, for as long as there are so many rows."""
        while len(self._queue) >= least and time.monotonic() >= self._again_at:
            rows = [self._queue.popleft() for _ in range(min(len(self._queue), _CHUNK))]
            self._unflushed += len(rows)
            try:
                self._opened().append(self._batch(rows))
            except (OSError, pa.ArrowException) as exc:
                self._give_up(exc)
            # Another thread may have waited for the interpreter.
            time.sleep(0)

    def _flush(self) -> None:
        # Here, not where it is shown: a network disk that hangs must not stop the event loop.
        self.disk_free = _free_share(self._options.folder)
        stream = self._stream
        if stream is None:
            return
        try:
            stream.flush()
        except OSError as exc:
            self._give_up(exc)
            return
        self._tell("written")
        if stream.bytes >= self._options.rotate_bytes or stream.age_s() >= self._options.rotate_s:
            self._finish(stream)

    def _opened(self) -> _Stream:
        if self._stream is None:
            day = self._options.folder / time.strftime("date=%Y-%m-%d", time.gmtime())
            day.mkdir(parents=True, exist_ok=True)
            self._stream = _Stream(day / f"{self._replica}-{time.time_ns() // 1000}{STREAM}", self._schema)
        return self._stream

    def _finish(self, stream: _Stream) -> None:
        self._stream = None
        try:
            stream.close()
            to_parquet(stream.path)
        except (OSError, pa.ArrowException, DataError) as exc:
            # It stays as it is, and is read as it is.
            logger.warning("prediction log: %s could not be made Parquet: %s", stream.path, exc)

    def _tell(self, outcome: str) -> None:
        """Count the rows since the last flush: small ones wait in a buffer, so that only a flush tells of the disk."""
        if self._unflushed:
            self._count(outcome, self._unflushed)
        self._unflushed = 0

    def _give_up(self, exc: Exception) -> None:
        """The disk refuses: what is queued meanwhile is dropped when the queue is full, and it is tried again."""
        self._tell("lost")
        self._again_at = time.monotonic() + _AGAIN_S
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abandon()
        logger.warning(
            "prediction log: %s cannot be written; tried again in %g s: %s", self._options.folder, _AGAIN_S, exc
        )

    def _batch(self, waiting: Sequence[_Waiting]) -> pa.RecordBatch:
        rows = [each.answered for each in waiting]
        predictions = [row.prediction for row in rows]
        online = [prediction.lookup.online for prediction in predictions]
        columns: list[Any] = [
            [self._replica] * len(rows),
            [each.sequence for each in waiting],
            [each.at_us for each in waiting],
            [row.request_id for row in rows],
            [self._entity(prediction.row.entity) for prediction in predictions],
            [row.version for row in rows],
            [row.epoch for row in rows],
            [prediction.probability for prediction in predictions],
            [row.label for row in rows],
            [row.latency_s * 1000 for row in rows],
            [prediction.lookup.degraded for prediction in predictions],
            [prediction.lookup.age_s for prediction in predictions],
            [list(prediction.vector) for prediction in predictions],
            [row.answers.source_letters(row.prediction) for row in rows],
            [self._sent(row) for row in rows],
            [
                orjson.dumps(row.answers.stored(row.prediction)) if has else None
                for row, has in zip(rows, online, strict=True)
            ],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _sent(self, row: Answered) -> bytes:
        values = row.prediction.row.values
        if self._options.entity_key is not None and row.answers.entity is not None:
            values = {name: value for name, value in values.items() if name != row.answers.entity}
        return orjson.dumps(values)

    def _entity(self, entity: str | None) -> str | None:
        key = self._options.entity_key
        if entity is None or key is None:
            return entity
        return hashlib.blake2b(entity.encode(), digest_size=16, key=key).hexdigest()


class _Stream:
    """One Arrow stream on disk."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._file = path.open("xb")
        self._born = time.monotonic()
        try:
            self._writer = pa.ipc.new_stream(self._file, schema)
        except BaseException:
            self._file.close()
            raise

    @property
    def bytes(self) -> int:
        """Bytes written."""
        return self._file.tell()

    def age_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._born

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows; they are on disk after the next flush."""
        self._writer.write_batch(batch)

    def flush(self) -> None:
        """Have all rows on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the stream."""
        self._writer.close()
        self.flush()
        self._file.close()

    def abandon(self) -> None:
        """Let go of a file that cannot be written; what is on disk stays readable."""
        try:
            self._file.close()
        except OSError as exc:
            logger.debug("prediction log: closing %s: %s", self.path, exc)


def _free_share(folder: Path) -> float:
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        usage = shutil.disk_usage(there)
    except OSError:
        return math.nan
    return usage.free / usage.total if usage.total else math.nan


def to_parquet(stream: Path) -> Path:
    """Make Parquet of a stream and remove the stream; what a crash cut off its end is left out.

    Raises:
        OSError: the disk refuses; the stream is still there.
        DataError: it is none of a prediction log, or of another release's; it stays as it is.
    """
    found = read_file(stream)
    target = stream.with_suffix(PARQUET)
    # Of its own: two replicas that start at once may find the same stream.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        pq.write_table(found.table, partial, compression="zstd")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    stream.unlink()
    return target


def recover(folder: Path) -> None:
    """Make Parquet of the streams that replicas of this machine left behind when they died."""
    now = time.time()
    for stream in folder.rglob(f"*{STREAM}"):
        try:
            if now - stream.stat().st_mtime > _STALE_S:
                to_parquet(stream)
        except OSError as exc:
            # Another replica was faster, or the disk is full: it stays readable as it is.
            logger.debug("prediction log: %s: %s", stream, exc)
        except (pa.ArrowException, DataError) as exc:
            if not stream.exists():
                continue
            logger.warning("prediction log: %s is left as it is: %s", stream, exc)
