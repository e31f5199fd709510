"""The audit log: one JSON line for each change of the traffic rules, committed or refused."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from pathlib import Path
from typing import Any

logger = logging.getLogger("ray.serve")

_SHOWN = 200


class AuditLog:
    """Appends to a file, a whole line at a time. A disk that takes no more is counted, and stops nothing.

    Args:
        file: made with its folder when it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.recent: deque[dict[str, Any]] = deque(_read_end(file), maxlen=_SHOWN)
        """The last entries, oldest first."""
        self.lost = 0
        """Entries that could not be written."""

    def __call__(self, entry: dict[str, Any]) -> None:
        """Write one entry down."""
        self.recent.append(entry)
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # One write to a file opened for appending: a kill leaves a whole line or none.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as exc:
            self.lost += 1
            logger.error("the audit log %s cannot be written: %s", self._file, exc)


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
