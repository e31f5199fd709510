"""Folders that one run at a time works in: a kernel lock, freed however the process ends, so none is ever stale."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import DataError
from data.sources.atomic_output import cannot_write
from data.sources.filesystems import named

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""Name of the file that is locked."""


@contextmanager
def locked_folder(folder: Path, out: Path) -> Iterator[None]:
    """Make a folder where there is none, and lock it against other runs that write `out`, for the block.

    Raises:
        DataError: another run has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as exc:
        raise cannot_write(out, exc) from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise DataError(
                f"{named(out)}: another run is writing it; wait for its end or name another output"
            ) from exc
        except OSError as exc:
            # Some network file systems have no locks: go on without one, and leave it to the user to avoid two runs.
            logger.debug("%s cannot be locked: %s", folder, exc)
        yield


@contextmanager
def scratch_folder(beside: Path, out: Path | None = None) -> Iterator[Path]:
    """Yield an empty hidden folder for what is needed until the end of the block, then remove it.

    What a killed run left in it is removed first.

    Args:
        beside: absolute path on this machine, beside which the folder lies; its name is made of this one's.
        out: what a run that has the folder is writing; `beside` itself where there is none.

    Raises:
        DataError: another run writes the output, or the folder cannot be made.
    """
    folder = beside.with_name(f".{beside.name}.scratch")
    with locked_folder(folder, beside if out is None else out):
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
