"""Upload of finished trials to MLflow in the background: a slow or absent server does not delay the search."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from data.errors import RegistryRefused, RegistryUnavailable
from tune.search.mlflow_runs import MlflowRuns
from tune.search.trial import Trial

Say = Callable[[str], None]
"""Shows one line to the user."""

_RETRY_S = 2.0
_PATIENCE_S = 60.0
_FAREWELL_S = 3.0


class MlflowUploader:
    """Context manager with one upload thread, which retries while MLflow does not answer.

    Args:
        tracker: the MLflow experiment.
        run_id: the parent run.
        metric: name of the search's metric.
        say: called with a line when MLflow first stops answering, and for each trial that it refuses.
    """

    def __init__(self, tracker: MlflowRuns, run_id: str, metric: str, say: Say) -> None:
        self._tracker, self._run_id, self._metric, self._say = tracker, run_id, metric, say
        self._waiting: deque[Trial] = deque()
        self._changed = threading.Condition()
        self._closing = self._ended = False
        self._first_error: RegistryUnavailable | None = None
        self._thread = threading.Thread(target=self._write_all, name="mlflow-uploader", daemon=True)

    def __enter__(self) -> MlflowUploader:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: object, trace: object) -> None:
        # After an error what was not logged stays in the trial log; a moment is given to what is nearly done.
        self._close(_FAREWELL_S if kind else _PATIENCE_S)

    def put(self, trials: Iterable[Trial]) -> None:
        """Queue finished trials for upload; returns at once."""
        with self._changed:
            self._waiting.extend(trials)
            self._changed.notify()

    def drain(self, patience_s: float = _PATIENCE_S) -> None:
        """Wait until all trials are uploaded, `patience_s` seconds at most.

        Raises:
            RegistryUnavailable: not all were; the message has the first error and the number left.
        """
        if self._first_error is not None and self._waiting:
            self._say(f"waiting up to {patience_s:.0f} s for MLflow to take {len(self._waiting)} trials")
        self._close(patience_s)
        if self._waiting:
            raise RegistryUnavailable(
                f"{len(self._waiting)} trials are not in MLflow, and nothing was registered. The search is kept: when "
                f"MLflow answers, run the same command with --resume. First error: {self._first_error or 'none, slow'}"
            )

    def _close(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, patience_s)
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        # The parent run ends now: a nested run that MLflow makes after this would stay open for ever.
        self._ended = True

    def _write_all(self) -> None:
        while (trial := self._next()) is not None:
            try:
                self._tracker.log_trial(self._run_id, self._metric, trial, lambda: not self._ended)
            except RegistryRefused as exc:
                self._say(f"trial {trial.number} counts, but is not in MLflow: {exc}")
            except RegistryUnavailable as exc:
                self._fail(exc)
                continue
            self._done()

    def _next(self) -> Trial | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return None if self._closing else self._waiting[0]

    def _done(self) -> None:
        with self._changed:
            self._waiting.popleft()
            self._changed.notify_all()

    def _fail(self, exc: RegistryUnavailable) -> None:
        if self._first_error is None:
            self._first_error = exc
            self._say(f"{exc}; the search goes on, and trials are logged when MLflow answers")
        with self._changed:
            self._changed.wait_for(lambda: self._closing, _RETRY_S)
