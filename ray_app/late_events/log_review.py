"""The prediction log, made again of the events that are there now: counts, and the decisions that would be others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from data.errors import BundleError, ModelNotFound, SchemaMismatch
from data.prediction_log.files import LogFile
from ray_app.late_events.logged_decision import LoggedDecision, Unread
from ray_app.late_events.version_replay import LateDecision, Reviewed, VersionReplay

UNKNOWN_VERSION = "of a version whose bundle the registry does not have"
NO_WINDOWS = "of a version without windows"
_BATCH_ROWS = 64
"""Rows made again at once: the events of all their windows are in memory."""


@dataclass
class ReviewTally:
    """What came of the rows of a log."""

    looked_at: int = 0
    windows: int = 0
    """Decisions in which a window has another value now."""
    vectors: int = 0
    """Decisions in which that gives another vector: those that would be others."""
    scores: int = 0
    labels: int = 0
    dropped: int = 0
    """Windows that were not looked at, since the store has dropped events that they counted."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not looked at, by reason."""


class LogReview:
    """Makes the decisions of a log again.

    Args:
        open_version: returns the replay of a version by its number, None for a version without windows; raises
            ModelNotFound, BundleError or SchemaMismatch for one that is not to be had.
    """

    def __init__(self, open_version: Callable[[str], VersionReplay | None]) -> None:
        self.tally = ReviewTally()
        self._open_version = open_version
        self._versions: dict[str, VersionReplay | str] = {}

    def late(self, files: Iterable[LogFile], advance: Callable[[int], None]) -> Iterator[LateDecision]:
        """Yield the decisions that would be others, file by file.

        Args:
            files: the files of the log, with the rows that are wanted.
            advance: called with the number of rows that are done.

        Raises:
            StoreUnavailable: the store could not be reached.
            StoreError: the store answered with an error.
            RegistryUnavailable: the registry could not be reached.
        """
        for file in files:
            for start in range(0, file.table.num_rows, _BATCH_ROWS):
                part = file.table.slice(start, _BATCH_ROWS)
                yield from self._batch(part, file.features)
                advance(part.num_rows)

    def _batch(self, rows: pa.Table, features: Sequence[str]) -> Iterator[LateDecision]:
        by_version: dict[str, list[LoggedDecision]] = {}
        for logged in rows.to_pylist():
            replay = self._version(logged["version"])
            read = Unread(replay) if isinstance(replay, str) else replay.reader.read(logged, features)
            if isinstance(read, Unread):
                self.tally.left_out[read.reason] += 1
            else:
                by_version.setdefault(read.version, []).append(read)
        for version, decisions in by_version.items():
            replay = self._version(version)
            if isinstance(replay, VersionReplay):
                for each in replay.review(decisions, time.time_ns() // 1000):
                    yield from self._counted(each)

    def _counted(self, reviewed: Reviewed | Unread) -> Iterator[LateDecision]:
        if isinstance(reviewed, Unread):
            self.tally.left_out[reviewed.reason] += 1
            return
        late, tally = reviewed.late, self.tally
        tally.looked_at += 1
        tally.dropped += reviewed.dropped
        if late is not None:
            tally.windows += 1
            tally.vectors += late.other_vector
            tally.scores += late.other_score
            tally.labels += late.other_label
            if late.other_vector:
                yield late

    def _version(self, version: str) -> VersionReplay | str:
        """Return the replay of a version, or why its rows are left out."""
        if version not in self._versions:
            try:
                self._versions[version] = self._open_version(version) or NO_WINDOWS
            except (ModelNotFound, BundleError, SchemaMismatch):
                self._versions[version] = UNKNOWN_VERSION
        return self._versions[version]
