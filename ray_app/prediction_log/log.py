"""The prediction log of one gateway: answered rows, sampled, handed to a process of its own that writes them.

The event loop pays for a tuple a row, and for a write to a pipe every 64 rows; a thread that encodes would take the
interpreter from it again and again. What finds no room is dropped and counted: answers never wait for the log.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data.distributed.child_process import start_child
from ray_app.inference.observers import Answered, Failed
from ray_app.prediction_log.writer_process import FREE, LOST, WRITTEN, WriterOptions, frame
from tune.registry.bundle import BundleManifest

logger = logging.getLogger("ray.serve")

_CHUNK = 64
_TICK_S = 0.25
"""How long rows wait for their chunk to be full at most."""
_AGAIN_S = 2.0
_CLOSE_S = 30.0
_PATIENCE_S = 0.01


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

    `limit`: most rows that wait for the writer; the others as in WriterOptions.
    """

    folder: Path
    sampling: Sampling
    entity_key: bytes | None = None
    flush_s: float = 1.0
    limit: int = 20_000
    rotate_s: float = 600.0
    rotate_bytes: int = 64 * 1024 * 1024


Count = Callable[[str, int], None]
"""Told how rows ended, and how many: "written" (on disk), "dropped" (no room for them), "lost" (the disk refused the
flush that they were to be in, or the writer died with them; some may be readable all the same)."""


class _Chunk(NamedTuple):
    data: memoryview
    rows: int


class PredictionLog:
    """An Observer that keeps what it sees. Opened by its construction; nothing is written before the first row.

    Args:
        replica: its name, part of the files' names.
        manifest: of the model that is served; every version has the same features.
        options: how it is kept.
        count: told what became of rows.
        draw: uniform numbers for the sampling.
    """

    def __init__(
        self,
        replica: str,
        manifest: BundleManifest,
        options: LogOptions,
        count: Count = lambda outcome, rows: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        schema = manifest.schema_
        self._options = options
        first = frame(
            WriterOptions(
                replica,
                schema.names,
                tuple(feature.name for feature in schema.online),
                manifest.entity.column if manifest.entity else None,
                options.folder,
                options.entity_key,
                options.flush_s,
                options.rotate_s,
                options.rotate_bytes,
            )
        )
        self._count = count
        self._draw = draw
        self._sequence = 0
        self._rows: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        """Over the rows and the pipe, between the event loop and the thread that looks after the rest."""
        self._writer = _WriterProcess(first)
        self._ending = threading.Event()
        self.disk_free = math.nan
        """Free share of the folder's disk, looked up with every flush; NaN while it is not known."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def answered(self, rows: Sequence[Answered]) -> None:
        """Take the rows that the sampling takes."""
        at_us = time.time_ns() // 1000
        with self._lock:
            for row in rows:
                if not self._options.sampling.takes(row.label, self._draw()):
                    continue
                self._sequence += 1
                if len(self._rows) + self._writer.waiting >= self._options.limit:
                    self._count("dropped", 1)
                    continue
                self._rows.append(_entry(self._sequence, at_us, row))
                if len(self._rows) >= _CHUNK:
                    self._send()

    def failed(self, failure: Failed) -> None:
        """Nothing: the log is of answers."""

    def close(self) -> None:
        """Have all of it written and the file finished, as far as the disk takes it within half a minute."""
        self._ending.set()
        self._thread.join()
        deadline = time.monotonic() + _CLOSE_S
        self._send()
        while self._writer.waiting and not self._writer.ended and time.monotonic() < deadline:
            time.sleep(_PATIENCE_S)
            self._writer.push()
        if unsent := self._writer.waiting:
            self._count("dropped", unsent)
        self._hear(self._writer.finish(max(deadline - time.monotonic(), 0.0)))
        if self._writer.ended and self._writer.unheard:
            self._count(LOST, self._writer.unheard)

    def _run(self) -> None:
        while not self._ending.wait(_TICK_S):
            with self._lock:
                self._send()
                reports = self._writer.read()
            self._hear(reports)
            if self._writer.ended:
                self._replace()

    def _send(self) -> None:
        if self._rows:
            self._writer.put(frame(self._rows), len(self._rows))
            self._rows = []
        else:
            self._writer.push()

    def _hear(self, reports: Sequence[dict[str, Any]]) -> None:
        for report in reports:
            self.disk_free = report[FREE]
            for outcome in (WRITTEN, LOST):
                if rows := report.get(outcome):
                    self._count(outcome, rows)

    def _replace(self) -> None:
        logger.warning("prediction log: the process that writes it has ended; another one starts in %g s", _AGAIN_S)
        if self._ending.wait(_AGAIN_S):
            return
        with self._lock:
            reports, ended = self._writer.read(), self._writer
            try:
                self._writer = ended.successor()
            except OSError as exc:
                logger.warning("prediction log: no process can be started: %s", exc)
        self._hear(reports)
        if self._writer is not ended and ended.unheard:
            self._count(LOST, ended.unheard)


class _WriterProcess:
    """The process, and the rows that are on their way to it.

    Args:
        first: the frame with its options.
        waiting: chunks of rows that another one has not taken.
    """

    def __init__(self, first: bytes, waiting: Sequence[_Chunk] = ()) -> None:
        self._first = first
        self._process = start_child("ray_app.prediction_log.writer_process")
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for end in (self._in, self._out):
            os.set_blocking(end, False)
        self._chunks = deque([_Chunk(memoryview(first), 0), *waiting])
        self._offset = 0
        self._heard = b""
        self.waiting = sum(chunk.rows for chunk in waiting)
        """Rows that are not in the pipe yet."""
        self.unheard = 0
        """Rows that it was given, and has not said what became of."""

    @property
    def ended(self) -> bool:
        """True when the process is gone."""
        return self._process.poll() is not None

    def put(self, data: bytes, rows: int) -> None:
        """Have a frame of so many rows sent, now or when there is room in the pipe."""
        self._chunks.append(_Chunk(memoryview(data), rows))
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

    def successor(self) -> _WriterProcess:
        """Another process in place of one that has ended, for the rows that this one did not take; raises OSError."""
        other = _WriterProcess(self._first, [chunk for chunk in self._chunks if chunk.rows])
        self._close()
        return other

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


def _entry(sequence: int, at_us: int, row: Answered) -> tuple[Any, ...]:
    """As Entry has it, in the same order."""
    prediction = row.prediction
    asked, lookup = prediction.row, prediction.lookup
    return (
        sequence,
        at_us,
        row.request_id,
        asked.entity,
        row.version,
        row.epoch,
        prediction.probability,
        row.label,
        row.latency_s,
        lookup.degraded,
        lookup.age_s,
        prediction.vector,
        asked.encoded,
        asked.values,
        lookup.online.values if lookup.online is not None else None,
    )
