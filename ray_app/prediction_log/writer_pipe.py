"""The gateway's end of the process that writes its prediction log: rows into a pipe, reports out of another."""

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
    """A frame for the writer, and how many rows are in it."""

    data: memoryview
    rows: int


class WriterPipe:
    """A running writer, and the rows that are on their way to it. Never waits, but in `finish`.

    Args:
        process: just started.
        first: the frame with its options.
        waiting: chunks of rows that a writer before it has not taken.
    """

    def __init__(self, process: subprocess.Popen[bytes], first: bytes, waiting: Sequence[Chunk] = ()) -> None:
        self._process = process
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._in, self._out):
            os.set_blocking(end, False)
        self._chunks = deque([Chunk(memoryview(first), 0), *waiting])
        self._offset = 0
        self._heard = b""
        self.waiting = sum(chunk.rows for chunk in waiting)
        """Rows that are not in the pipe yet."""
        self.unheard = 0
        """Rows that it was given, and has not said what became of."""

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True when the process is gone."""
        return self._process.poll() is not None

    def put(self, data: bytes, rows: int) -> None:
        """Have a frame of so many rows sent, now or when there is room in the pipe."""
        self._chunks.append(Chunk(memoryview(data), rows))
        self.waiting += rows
        self.push()

    def push(self) -> None:
        """Write what the pipe has room for, without waiting."""
        while self._chunks:
            data, rows = self._chunks[0]
            try:
                self._offset += os.write(self._in, data[self._offset :])
            except (BlockingIOError, BrokenPipeError):
                # Full, or nobody reads any more: whoever looks after the process sees that.
                return
            if self._offset < len(data):
                return
            self._chunks.popleft()
            self._offset = 0
            self.waiting -= rows
            self.unheard += rows

    def read(self) -> list[dict[str, Any]]:
        """Return what it has said since the last time."""
        try:
            while got := os.read(self._out, 1 << 16):
                self._heard += got
        except BlockingIOError:
            pass
        *lines, self._heard = self._heard.split(b"\n")
        reports = [json.loads(line) for line in lines]
        self.unheard -= sum(report.get(WRITTEN, 0) + report.get(LOST, 0) for report in reports)
        return reports

    def retire(self) -> list[Chunk]:
        """Let go of a process that has ended, and return the rows that it did not take."""
        self._close()
        return [chunk for chunk in self._chunks if chunk.rows]

    def finish(self, timeout_s: float) -> list[dict[str, Any]]:
        """Have it write and end, and return what it still said; one that takes longer goes on by itself."""
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
