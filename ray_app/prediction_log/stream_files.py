"""The files that a log's writer makes: an Arrow stream, Parquet of a full one, and of those that crashes left."""

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
    """One Arrow stream on disk. Every method but `abandon` raises OSError when the disk fails or is full."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._file = path.open("xb")
        self._opened_at = time.monotonic()
        try:
            self._writer = pa.ipc.new_stream(self._file, schema)
        except BaseException:
            self._file.close()
            raise

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def age_s(self) -> float:
        """Seconds since it was opened."""
        return time.monotonic() - self._opened_at

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows; they are on disk after the next flush."""
        self._writer.write_batch(batch)

    def flush(self) -> None:
        """Sync all rows to disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """End the stream, sync and close the file."""
        self._writer.close()
        self.flush()
        self._file.close()

    def abandon(self) -> None:
        """Close a file that cannot be written any more; what is on disk stays readable."""
        try:
            self._file.close()
        except OSError as exc:
            logger.debug("prediction log: closing %s: %s", self.path, exc)


def free_share(folder: Path) -> float:
    """Free share of a folder's disk, from 0 to 1, also before the folder exists; NaN where it is not known."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        usage = shutil.disk_usage(existing)
    except OSError:
        return math.nan
    return usage.free / usage.total if usage.total else math.nan


def to_parquet(stream: Path) -> Path:
    """Convert a stream to Parquet, remove the stream, and return the Parquet file.

    A last batch that a crash cut short is left out.

    Raises:
        OSError: the disk fails or is full; the stream is still there.
        DataError: the file is not of a prediction log of this release; it stays as it is.
    """
    log_file = read_file(stream)
    target = stream.with_suffix(PARQUET)
    # A name of this process alone: two replicas that start at once may recover the same stream.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        pq.write_table(log_file.table, partial, compression="zstd")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    stream.unlink()
    return target


def recover(folder: Path) -> None:
    """Convert the streams that dead replicas left: those without a write for ten minutes."""
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
