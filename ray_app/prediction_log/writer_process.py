"""The writer process of a gateway's prediction log: reads rows from stdin, writes an Arrow stream, then Parquet.

It appends to a stream on disk, flushed every second, and converts a full one to Parquet. It reports the outcome of rows
as JSON lines on stdout. When the gateway is gone, stdin ends: the process then finishes the file and ends.
"""

from __future__ import annotations

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
from typing import Any

import pyarrow as pa

from data.errors import DataError
from data.prediction_log.files import STREAM
from ray_app.prediction_log.log_entries import Entry, EntryColumns, WriterOptions
from ray_app.prediction_log.retention import prune
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
        self._columns = EntryColumns(options)
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
            self._opened().append(self._columns.batch(rows))
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
            self._stream = LogStream(day / name, self._columns.schema)
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


def _print_report(report: dict[str, Any]) -> None:
    # The gateway may be gone; its rows are written all the same.
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")
