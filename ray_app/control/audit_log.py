"""The audit log: one JSON line for each change of the traffic rules, committed or refused."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

logger = logging.getLogger("ray.serve")

_SHOWN = 200
_FILE_BYTES = 10_000_000
_OLDER_FILES = 5
"""Together about fifty thousand changes; the oldest file is removed when the one in use is full."""
_LINE_BYTES = 1 << 20
_MODE = 0o640


class AuditLog:
    """Appends to a file, a whole line at a time. An entry that the disk does not take is counted, and stops nothing.

    A file that is full becomes `<name>.1`, and what was that `<name>.2`: `older_files` of them are kept.

    Args:
        file: made with its folder when it is not there.
        file_bytes: most that one file may hold.
        older_files: full ones that are kept.
    """

    def __init__(self, file: Path, file_bytes: int = _FILE_BYTES, older_files: int = _OLDER_FILES) -> None:
        self._lines = _LineFile(file, file_bytes, older_files, self._lose)
        self.recent: deque[dict[str, Any]] = deque(maxlen=_SHOWN)
        """The last entries, oldest first."""
        for each in (file.with_name(f"{file.name}.1"), file):
            self.recent.extend(_read_end(each))
        self.lost = 0
        """Entries that could not be written."""

    def __call__(self, entry: dict[str, Any]) -> None:
        """Append one entry."""
        self.recent.append(entry)
        self._lines.handle(logging.makeLogRecord({"msg": json.dumps(entry, separators=(",", ":"))}))

    def _lose(self, exc: BaseException | None) -> None:
        self.lost += 1
        logger.error("the audit log %s cannot be written: %s", self._lines.baseFilename, exc)


class _LineFile(RotatingFileHandler):
    """Rotates by size as the standard library does; each line is opened for, written in one piece, and closed after.

    Not kept open: a file that somebody moves away or deletes is made anew with the next line.
    """

    def __init__(self, file: Path, most: int, older: int, on_error: Callable[[BaseException | None], None]) -> None:
        super().__init__(file, maxBytes=most, backupCount=older, encoding="utf-8", delay=True)
        self._on_error = on_error

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        super().emit(record)
        if self.stream is not None:
            # What could not be written was counted; closing tries it once more.
            with suppress(OSError):
                self.stream.close()
            self.stream = None  # pyright: ignore[reportAttributeAccessIssue]  the library does so itself

    def handleError(self, record: logging.LogRecord) -> None:
        """Count what the library would print."""
        self._on_error(sys.exc_info()[1])

    def _open(self) -> TextIOWrapper:
        file = Path(self.baseFilename)
        file.parent.mkdir(parents=True, exist_ok=True)
        # A buffer larger than any line: the flush after a line is one write, and a kill leaves all of it or none.
        stream = open(file, "a", _LINE_BYTES, "utf-8", opener=partial(os.open, mode=_MODE))  # noqa: SIM115
        if _ends_within_a_line(file):
            # A full disk took half a line: the next would be unreadable with it.
            stream.write("\n")
        return stream


def _ends_within_a_line(file: Path) -> bool:
    with file.open("rb") as bytes_of:
        size = bytes_of.seek(0, os.SEEK_END)
        bytes_of.seek(max(size - 1, 0))
        return bytes_of.read(1) not in (b"", b"\n")


def _read_end(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_bytes().splitlines()[-_SHOWN:]
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries
