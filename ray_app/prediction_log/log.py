"""The prediction log of one gateway: samples answered rows and passes them to a separate process, which writes them.

It costs the event loop a tuple a row, and a write to a pipe every 64 rows; a thread that encodes rows would compete
with it for the interpreter lock. Rows beyond the limit are dropped and counted: answers never wait for the log, nor for
the start of its process, which a thread does.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data.distributed.child_process import start_child
from ray_app.inference.observers import Answered, Failed
from ray_app.prediction_log.log_entries import WriterOptions
from ray_app.prediction_log.retention import KEEP_ALL, Retention
from ray_app.prediction_log.writer_pipe import WriterPipe
from ray_app.prediction_log.writer_process import FREE, LOST, REMOVED, WRITTEN, frame
from tune.registry.bundle import BundleManifest

logger = logging.getLogger("ray.serve")

DROPPED = "dropped"
"""Outcome of a row for which there was no room; the writer reports the other outcomes."""
_WRITER = "ray_app.prediction_log.writer_process"

_CHUNK_ROWS = 64
_TICK_S = 0.25
"""Most seconds that rows wait for a chunk to be full."""
_RESTART_S = 2.0
_CLOSE_TIMEOUT_S = 30.0
_POLL_S = 0.01


class Sampling(NamedTuple):
    """Shares of the answers that are logged, from 0 to 1. Those that are marked are logged by the larger of the two.

    Which those are says the model's output (`marked`): of two labels the positive one.
    """

    all: float
    positive: float

    def takes(self, marked: bool, draw: float) -> bool:
        """Return whether a row is logged; `draw` is a uniform random number from 0 to 1."""
        return draw < (max(self.all, self.positive) if marked else self.all)


@dataclass(frozen=True)
class LogOptions:
    """Options of a log. `limit` is the most rows that wait for the writer; the others are those of WriterOptions."""

    folder: Path
    sampling: Sampling
    entity_key: bytes | None = None
    flush_s: float = 1.0
    limit: int = 20_000
    rotate_s: float = 600.0
    rotate_bytes: int = 64 * 1024 * 1024
    keep: Retention = KEEP_ALL
    prune_s: float = 60.0


Count = Callable[[str, int], None]
"""Called with an outcome of rows and their number: "written" (on disk), "dropped" (no room for them), or "lost" (their
flush failed, or the writer died with them; some may be readable all the same)."""


class PredictionLog:
    """An `Observer` that logs answers. Its constructor starts the writer; no file is made before the first row.

    Args:
        replica: the replica's id, part of the files' names.
        manifest: of the model that is served; every version has the same features.
        options: of the log.
        count: called with the outcome of rows.
        draw: returns uniform random numbers from 0 to 1, for the sampling.
        on_removed: called with the reason why files were removed ("age" or "size"), and their number.
    """

    def __init__(
        self,
        replica: str,
        manifest: BundleManifest,
        options: LogOptions,
        count: Count = lambda outcome, rows: None,
        draw: Callable[[], float] = random.random,
        on_removed: Count = lambda reason, files: None,
    ) -> None:
        schema = manifest.schema_
        self._options = options
        self._options_frame = frame(
            WriterOptions(
                replica,
                schema.names,
                tuple(feature.name for feature in schema.online),
                manifest.entity_columns,
                options.folder,
                options.entity_key,
                options.flush_s,
                options.rotate_s,
                options.rotate_bytes,
                options.keep,
                options.prune_s,
                tuple(window.name for window in manifest.windows),
                tuple(feature.name for feature in schema.expressions),
                manifest.event_time,
                manifest.output.labels,
            )
        )
        self._count = count
        self._draw = draw
        self._on_removed = on_removed
        self._sequence = 0
        self._rows: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        """Guards the rows and the pipe, which the event loop and the thread share."""
        self._writer: WriterPipe | None = None
        """None until the thread has started a writer; rows wait meanwhile."""
        self._closing = threading.Event()
        self.disk_free = math.nan
        """Free share of the folder's disk, from 0 to 1, updated with every flush; NaN while it is not known."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def answered(self, rows: Sequence[Answered]) -> None:
        """Sample the rows of a request, and queue them for the writer."""
        at_us = time.time_ns() // 1000
        with self._lock:
            for row in rows:
                if not self._options.sampling.takes(row.renderer.output.marked(row.code), self._draw()):
                    continue
                self._sequence += 1
                if self.waiting >= self._options.limit:
                    self._count(DROPPED, 1)
                    continue
                self._rows.append(_entry(self._sequence, at_us, row))
                if len(self._rows) >= _CHUNK_ROWS:
                    self._send()

    def failed(self, failure: Failed) -> None:
        """Do nothing: only answers are logged."""

    @property
    def waiting(self) -> int:
        """Number of rows that are not in the writer's pipe yet."""
        return len(self._rows) + (self._writer.waiting if self._writer is not None else 0)

    @property
    def writer_pid(self) -> int | None:
        """Process id of the writer; None until one has been started."""
        return self._writer.pid if self._writer is not None else None

    def close(self) -> None:
        """Write all rows and finish the file, as far as that is possible within half a minute; blocks meanwhile."""
        self._closing.set()
        self._thread.join()
        writer = self._writer
        if writer is not None:
            self._finish(writer, time.monotonic() + _CLOSE_TIMEOUT_S)
        elif self._rows:
            self._count(DROPPED, len(self._rows))

    def _finish(self, writer: WriterPipe, deadline: float) -> None:
        while self._rows:
            self._send()
        while writer.waiting and not writer.ended and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            writer.push()
        if writer.waiting:
            self._count(DROPPED, writer.waiting)
        self._handle(writer.finish(max(deadline - time.monotonic(), 0.0)))
        if writer.ended and writer.unreported:
            self._count(LOST, writer.unreported)

    def _run(self) -> None:
        self._start()
        while not self._closing.wait(_TICK_S):
            writer = self._writer
            if writer is not None:
                self._exchange(writer)
            if writer is None or writer.ended:
                self._restart()

    def _exchange(self, writer: WriterPipe) -> None:
        with self._lock:
            self._send()
            reports = writer.read()
        while len(self._rows) >= _CHUNK_ROWS:
            # Rows that waited for the start of the process: a chunk at a time, so that the event loop gets the lock
            # in between.
            with self._lock:
                self._send()
        self._handle(reports)

    def _send(self) -> None:
        """Send a chunk of rows, or without rows what the pipe had no room for; does nothing while no process runs."""
        if self._writer is None:
            return
        if rows := self._rows[:_CHUNK_ROWS]:
            del self._rows[:_CHUNK_ROWS]
            self._writer.put(frame(rows), len(rows))
        else:
            self._writer.push()

    def _handle(self, reports: Sequence[dict[str, Any]]) -> None:
        for report in reports:
            self.disk_free = report.get(FREE, self.disk_free)
            for outcome in (WRITTEN, LOST):
                if rows := report.get(outcome):
                    self._count(outcome, rows)
            for reason, files in report.get(REMOVED, {}).items():
                self._on_removed(reason, files)

    def _restart(self) -> None:
        if self._writer is not None:
            logger.warning(
                "prediction log: the process that writes it has ended; another one starts in %g s", _RESTART_S
            )
        if not self._closing.wait(_RESTART_S):
            self._start()

    def _start(self) -> None:
        """Start a writer, and pass it the rows that the one before did not take."""
        try:
            # Not under the lock, which the event loop takes for every answer: a start takes tens of milliseconds.
            process = start_child(_WRITER)
        except OSError as exc:
            logger.warning("prediction log: no process can be started; tried again in %g s: %s", _RESTART_S, exc)
            return
        with self._lock:
            previous = self._writer
            reports = previous.read() if previous is not None else []
            self._writer = WriterPipe(process, self._options_frame, previous.retire() if previous is not None else ())
        self._handle(reports)
        if previous is not None and previous.unreported:
            self._count(LOST, previous.unreported)


def _entry(sequence: int, at_us: int, row: Answered) -> tuple[Any, ...]:
    """The fields of `Entry` in its order; a plain tuple is cheaper to make."""
    prediction = row.prediction
    sent, lookup = prediction.row, prediction.lookup
    probability = row.renderer.output.probability(prediction.scores)
    said = probability is not None and len(prediction.scores) == 1
    return (
        sequence,
        at_us,
        row.request_id,
        sent.entity,
        row.version,
        row.epoch,
        probability,
        row.code,
        None if said else prediction.scores,
        row.latency_s,
        lookup.degraded,
        lookup.age_s,
        prediction.vector,
        sent.encoded,
        sent.values,
        lookup.online.values if lookup.online is not None else None,
        *((lookup.windows.time_us, lookup.windows.values) if lookup.windows is not None else (None, ())),
        prediction.computed,
    )
