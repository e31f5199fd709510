"""Temporary folders for files that are uploaded to MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from data.errors import disk_error


@contextmanager
def scratch_folder(within: Path | None) -> Iterator[Path]:
    """Yield an empty folder in `within` (None: the system's temporary folder); it is removed after the block.

    Raises:
        DataError: a file could not be written inside the block; the message names the folder and what to do.
    """
    try:
        if within is not None:
            within.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".scratch-", dir=within, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as exc:
        place = within or Path(str(exc.filename or "the folder for temporary files"))
        raise disk_error(place, exc, "nothing was registered; finished trials are kept for --resume") from exc
