"""The progress line of a search: finished trials, best score, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.status import Status

from data.cli.terminal import err, note
from tune.search.trial import Trial, best_trial

_PLAIN_EVERY_S = 5.0


class TrialProgress:
    """Context manager that shows one line: rewritten in place on a terminal, else printed every few seconds.

    Args:
        total: trials of the search.
        metric: name of its metric.
        finished: trials that an interrupted search had finished.
    """

    def __init__(self, total: int, metric: str, finished: Sequence[Trial]) -> None:
        self._total, self._metric = total, metric
        self._trials = list(finished)
        self._before = len(finished)
        self._started = self._shown = time.monotonic()
        self._status = Status("starting the trial workers", console=err)

    def __enter__(self) -> TrialProgress:
        if err.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()
        if self._trials:
            note(self._line())

    def advance(self, trial: Trial) -> None:
        """Count one finished trial."""
        self._trials.append(trial)
        if err.is_terminal:
            self._status.update(self._line())
        elif time.monotonic() - self._shown >= _PLAIN_EVERY_S:
            self._shown = time.monotonic()
            note(self._line())

    def _line(self) -> str:
        done, best = len(self._trials), best_trial(self._trials)
        seconds = time.monotonic() - self._started
        left = (self._total - done) * seconds / max(done - self._before, 1)
        tail = f"about {left:.0f} s left" if done < self._total else "done"
        found = f"best {self._metric} {best.score:.4f} (trial {best.number})"
        return f"trials: {done} of {self._total}, {found}, {seconds:.0f} s, {tail}"
