"""The files of a prediction log: a stream that is appended to, Parquet of a full one, and what crashes left."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.prediction_log.files import PARQUET, STREAM, read_file

logger = logging.getLogger(__name__)

_STALE_S = 600.0


class LogStream:
    """One Arrow stream on disk. Every method raises OSError when the disk refuses, but `abandon`."""

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


def free_share(folder: Path) -> float:
    """Free share of a folder's disk, also before the folder is there; NaN where it is not known."""
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
