"""The prediction log of one gateway: answered rows, sampled, handed to a process of its own that writes them.

The event loop pays for a tuple a row, and for a write to a pipe every 64 rows; a thread that encodes would take the
interpreter from it again and again. What finds no room is dropped and counted: answers never wait for the log, nor for
the start of its process, which a thread sees to.
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
from ray_app.prediction_log.retention import KEEP_ALL, Retention
from ray_app.prediction_log.writer_pipe import WriterPipe
from ray_app.prediction_log.writer_process import FREE, LOST, REMOVED, WRITTEN, WriterOptions, frame
from tune.registry.bundle import BundleManifest

logger = logging.getLogger("ray.serve")

DROPPED = "dropped"
"""Outcome of a row that found no room; the writer tells of the others."""
_WRITER = "ray_app.prediction_log.writer_process"

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
    keep: Retention = KEEP_ALL
    prune_s: float = 60.0


Count = Callable[[str, int], None]
"""Told how rows ended, and how many: "written" (on disk), "dropped" (no room for them), "lost" (the disk refused the
flush that they were to be in, or the writer died with them; some may be readable all the same)."""


class PredictionLog:
    """An Observer that keeps what it sees. Opened by its construction; nothing is written before the first row.

    Args:
        replica: its name, part of the files' names.
        manifest: of the model that is served; every version has the same features.
        options: how it is kept.
        count: told what became of rows.
        draw: uniform numbers for the sampling.
        on_removed: called with why files were removed ("age" or "size"), and how many.
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
        self._first = frame(
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
                options.keep,
                options.prune_s,
            )
        )
        self._count = count
        self._draw = draw
        self._on_removed = on_removed
        self._sequence = 0
        self._rows: list[tuple[Any, ...]] = []
        self._lock = threading.Lock()
        """Over the rows and the pipe, between the event loop and the thread that looks after the rest."""
        self._writer: WriterPipe | None = None
        """None until the thread has started one: rows wait meanwhile."""
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
                if self.waiting >= self._options.limit:
                    self._count(DROPPED, 1)
                    continue
                self._rows.append(_entry(self._sequence, at_us, row))
                if len(self._rows) >= _CHUNK:
                    self._send()

    def failed(self, failure: Failed) -> None:
        """Nothing: the log is of answers."""

    @property
    def waiting(self) -> int:
        """Rows that no writer has taken yet."""
        return len(self._rows) + (self._writer.waiting if self._writer is not None else 0)

    @property
    def writer_pid(self) -> int | None:
        """Id of the process that writes; None until one has been started."""
        return self._writer.pid if self._writer is not None else None

    def close(self) -> None:
        """Have all of it written and the file finished, as far as the disk takes it within half a minute."""
        self._ending.set()
        self._thread.join()
        writer = self._writer
        if writer is not None:
            self._finish(writer, time.monotonic() + _CLOSE_S)
        elif self._rows:
            self._count(DROPPED, len(self._rows))

    def _finish(self, writer: WriterPipe, deadline: float) -> None:
        while self._rows:
            self._send()
        while writer.waiting and not writer.ended and time.monotonic() < deadline:
            time.sleep(_PATIENCE_S)
            writer.push()
        if writer.waiting:
            self._count(DROPPED, writer.waiting)
        self._hear(writer.finish(max(deadline - time.monotonic(), 0.0)))
        if writer.ended and writer.unheard:
            self._count(LOST, writer.unheard)

    def _run(self) -> None:
        self._start()
        while not self._ending.wait(_TICK_S):
            writer = self._writer
            if writer is not None:
                self._exchange(writer)
            if writer is None or writer.ended:
                self._start_again()

    def _exchange(self, writer: WriterPipe) -> None:
        with self._lock:
            self._send()
            reports = writer.read()
        while len(self._rows) >= _CHUNK:
            # They waited for the process to start: a chunk at a time, for the event loop to get the lock in between.
            with self._lock:
                self._send()
        self._hear(reports)

    def _send(self) -> None:
        """Hand over a chunk of rows, or what the pipe had no room for; nothing while no process runs."""
        if self._writer is None:
            return
        if rows := self._rows[:_CHUNK]:
            del self._rows[:_CHUNK]
            self._writer.put(frame(rows), len(rows))
        else:
            self._writer.push()

    def _hear(self, reports: Sequence[dict[str, Any]]) -> None:
        for report in reports:
            self.disk_free = report.get(FREE, self.disk_free)
            for outcome in (WRITTEN, LOST):
                if rows := report.get(outcome):
                    self._count(outcome, rows)
            for reason, files in report.get(REMOVED, {}).items():
                self._on_removed(reason, files)

    def _start_again(self) -> None:
        if self._writer is not None:
            logger.warning("prediction log: the process that writes it has ended; another one starts in %g s", _AGAIN_S)
        if not self._ending.wait(_AGAIN_S):
            self._start()

    def _start(self) -> None:
        """Start a writer, with what the one before has left."""
        try:
            # Not under the lock: it takes tens of milliseconds, more on a busy machine, and the event loop takes the
            # lock for every answer.
            process = start_child(_WRITER)
        except OSError as exc:
            logger.warning("prediction log: no process can be started; tried again in %g s: %s", _AGAIN_S, exc)
            return
        with self._lock:
            before = self._writer
            reports = before.read() if before is not None else []
            self._writer = WriterPipe(process, self._first, before.retire() if before is not None else ())
        self._hear(reports)
        if before is not None and before.unheard:
            self._count(LOST, before.unheard)


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
