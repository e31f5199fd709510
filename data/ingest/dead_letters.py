"""Dead letters: the messages that are no event, set aside in a file of JSON lines with where they were and why."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from data.errors import StoreUnavailable


class DeadLetter(NamedTuple):
    """One message that was set aside."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The message's own, milliseconds since 1970 UTC."""
    reason: str
    message: bytes | None

    @property
    def identity(self) -> tuple[str, int, int, int]:
        """What tells it from every other: offsets begin anew when a topic is made again, times do not."""
        return self.topic, self.partition, self.offset, self.timestamp_ms


class DeadLetterFile:
    """A file of dead letters, to which lines are added alone; a message that is read again is not set aside twice.

    Args:
        path: the file; its folder is made when it is not there.

    Raises:
        StoreUnavailable: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            self._known, self._cut = _read(path)
        except OSError as exc:
            raise StoreUnavailable(f"{path}: dead letters cannot be kept: {exc.strerror}") from exc

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Set messages aside, durably when this returns; returns how many of them were not there yet.

        Raises:
            StoreUnavailable: the file cannot be written; adding them again is safe.
        """
        new = [each for each in letters if each.identity not in self._known]
        if not new:
            return 0
        lines = b"".join(map(_line, new))
        try:
            # A process that was killed may have left a line without its end.
            _write(self._file, b"\n" + lines if self._cut else lines)
            os.fsync(self._file)
        except OSError as exc:
            self._cut = True
            raise StoreUnavailable(f"{self.path}: dead letters cannot be kept: {exc.strerror}") from exc
        self._cut = False
        self._known.update(each.identity for each in new)
        return len(new)

    def close(self) -> None:
        """Close the file; calling it twice is fine."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _write(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _line(letter: DeadLetter) -> bytes:
    # The topic's bytes as they are where they are text, else in base64.
    raw = letter.message or b""
    try:
        content = {"message": raw.decode()}
    except UnicodeDecodeError:
        content = {"message_base64": base64.b64encode(raw).decode()}
    head = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
    return orjson.dumps({**head, "timestamp_ms": letter.timestamp_ms, "reason": letter.reason, **content}) + b"\n"


def _read(path: Path) -> tuple[set[tuple[str, int, int, int]], bool]:
    """Return the messages that a file has, and whether its last line has no end."""
    known: set[tuple[str, int, int, int]] = set()
    line = b"\n"
    with path.open("rb") as file:
        for line in file:
            try:
                item = orjson.loads(line)
                known.add((item["topic"], item["partition"], item["offset"], item["timestamp_ms"]))
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # a line that was cut off: its message comes again
    return known, not line.endswith(b"\n")
