"""The gateway's end of the writer process of its prediction log: rows go to its stdin, reports come from its stdout."""

from __future__ import annotations

import json
import os
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ray_app.prediction_log.writer_process import LOST, WRITTEN


class Chunk(NamedTuple):
    """A frame for the writer, and the number of rows in it."""

    data: memoryview
    rows: int


class WriterPipe:
    """A writer process, and the rows that are on their way to it. Only `finish` blocks.

    Args:
        process: the process, just started.
        options: the frame with its `WriterOptions`.
        waiting: chunks of rows that an earlier writer did not take.
    """

    def __init__(self, process: subprocess.Popen[bytes], options: bytes, waiting: Sequence[Chunk] = ()) -> None:
        self._process = process
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._stdin, self._stdout):
            os.set_blocking(end, False)
        self._chunks = deque([Chunk(memoryview(options), 0), *waiting])
        self._offset = 0
        self._received = b""
        self.waiting = sum(chunk.rows for chunk in waiting)
        """Number of rows that are not in the pipe yet."""
        self.unreported = 0
        """Number of rows in the pipe or the process, whose outcome it has not reported."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True when the process has ended."""
        return self._process.poll() is not None

    def put(self, data: bytes, rows: int) -> None:
        """Send a frame of `rows` rows, now or when there is room in the pipe."""
        self._chunks.append(Chunk(memoryview(data), rows))
        self.waiting += rows
        self.push()

    def push(self) -> None:
        """Write what the pipe has room for, without blocking."""
        while self._chunks:
            data, rows = self._chunks[0]
            try:
                self._offset += os.write(self._stdin, data[self._offset :])
            except (BlockingIOError, BrokenPipeError):
                # The pipe is full, or the process has died, which the log's thread notices by `ended`.
                return
            if self._offset < len(data):
                return
            self._chunks.popleft()
            self._offset = 0
            self.waiting -= rows
            self.unreported += rows

    def read(self) -> list[dict[str, Any]]:
        """Return the reports since the last call, without blocking."""
        try:
            while data := os.read(self._stdout, 1 << 16):
                self._received += data
        except BlockingIOError:
            pass
        *lines, self._received = self._received.split(b"\n")
        reports = [json.loads(line) for line in lines]
        self.unreported -= sum(report.get(WRITTEN, 0) + report.get(LOST, 0) for report in reports)
        return reports

    def retire(self) -> list[Chunk]:
        """Close the pipes of a process that has ended, and return the chunks that it did not take."""
        self._close()
        # Without the options, which have no rows: the next writer gets its own.
        return [chunk for chunk in self._chunks if chunk.rows]

    def finish(self, timeout_s: float) -> list[dict[str, Any]]:
        """Close its input, wait until it has ended, and return its last reports. After `timeout_s` it goes on alone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        reports = self.read()
        self._close()
        return reports

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
