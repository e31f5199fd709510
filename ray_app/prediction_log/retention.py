"""Retention of a prediction log: finished files beyond its age or size are removed, oldest first."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data.prediction_log.files import COLUMNS, PARQUET

logger = logging.getLogger(__name__)

AGE, SIZE = "age", "size"
"""Reasons why a file was removed: it was too old, or the log was too large."""

_DAY_FOLDER = re.compile(r"date=\d{4}-\d\d-\d\d")
_FINISHED = re.compile(rf".+-(\d{{16}})\{PARQUET}")
_PARTIAL = re.compile(rf"\..+-\d{{16}}\{PARQUET}\.\d+")
_DAY_S = 86_400
_OWN_COLUMNS = set(COLUMNS.names[:3])


class Retention(NamedTuple):
    """Limits of a log: files begun in the last `max_age_s` seconds, at most `max_bytes` together; 0 is no limit."""

    max_age_s: float = 0.0
    max_bytes: int = 0


KEEP_ALL = Retention()


class FinishedFile(NamedTuple):
    """A finished file, the time when it was begun in seconds since 1970, and its size in bytes."""

    begun_s: float
    path: Path
    bytes: int


def finished_files(folder: Path) -> list[FinishedFile]:
    """The finished files of a log, oldest first, by their names; open streams are not among them."""
    return sorted(_finished(folder))


def prune(folder: Path, keep: Retention, now: float) -> Counter[str]:
    """Remove the files beyond the limits at the time `now` (seconds since 1970); return their numbers by AGE and SIZE.

    Other replicas may prune the same folder at the same time: a file that is gone already is not counted.
    """
    files = finished_files(folder)
    excess = sum(file.bytes for file in files) - keep.max_bytes
    removed: Counter[str] = Counter()
    removed_bytes = 0
    for file in files:
        reason = _reason(file, keep, now, excess)
        if reason is None:
            break
        # Also when it is not removed, being no file of a log: it must not push out a file of the log instead.
        excess -= file.bytes
        if _remove(file.path):
            removed[reason] += 1
            removed_bytes += file.bytes
    if removed:
        logger.warning(
            "prediction log: %d files (%.1f MiB) of %s were removed: %d by age, %d by size",
            removed.total(),
            removed_bytes / 2**20,
            folder,
            removed[AGE],
            removed[SIZE],
        )
    _tidy(folder, now)
    return removed


def _reason(file: FinishedFile, keep: Retention, now: float, excess: int) -> str | None:
    if keep.max_age_s and now - file.begun_s > keep.max_age_s:
        return AGE
    return SIZE if keep.max_bytes and excess > 0 else None


def _finished(folder: Path) -> Iterator[FinishedFile]:
    for path in _in_day_folders(folder):
        named = _FINISHED.fullmatch(path.name)
        if named is None or path.is_symlink():
            continue
        try:
            yield FinishedFile(int(named[1]) / 1e6, path, path.stat().st_size)
        except FileNotFoundError:
            continue


def _in_day_folders(folder: Path) -> Iterator[Path]:
    for day in _day_folders(folder):
        try:
            yield from tuple(day.iterdir())
        except OSError as exc:
            logger.debug("prediction log: %s: %s", day, exc)


def _day_folders(folder: Path) -> list[Path]:
    try:
        return [day for day in folder.iterdir() if _DAY_FOLDER.fullmatch(day.name) and not day.is_symlink()]
    except FileNotFoundError:
        # Nothing was written yet.
        return []


def _remove(path: Path) -> bool:
    """Remove a file if it is Parquet of a prediction log; return whether it was removed."""
    try:
        if not set(pq.read_schema(path).names) >= _OWN_COLUMNS:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    except (OSError, pa.ArrowException) as exc:
        logger.warning("prediction log: %s is too old or too much, and cannot be removed: %s", path, exc)
        return False
    return True


def _tidy(folder: Path, now: float) -> None:
    """Remove partial Parquet files of dead writers, and empty folders of past days."""
    # The clocks of replicas differ: a folder of today or yesterday may be about to get a file.
    recent = time.strftime("date=%Y-%m-%d", time.gmtime(now - _DAY_S))
    for path in _in_day_folders(folder):
        if _PARTIAL.fullmatch(path.name):
            # Another replica may do the same at the same time.
            with suppress(OSError):
                if now - path.stat().st_mtime > _DAY_S:
                    path.unlink()
    for day in _day_folders(folder):
        if day.name < recent:
            # Fails for a folder that is not empty, which stays.
            with suppress(OSError):
                day.rmdir()
