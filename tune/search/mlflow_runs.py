"""MLflow runs of a search: a parent run, and for each trial a nested run, written once when the trial ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from mlflow.entities import Metric, Param, Run, RunTag

from tune.registry.mlflow_client import connect, is_local, speaking_to
from tune.search.trial import Trial

Status = Literal["FINISHED", "FAILED", "KILLED"]

_BATCH = 1000
"""Most metrics that MLflow takes in one request."""
_PARENT = "mlflow.parentRunId"
_NUMBER = "rayscore.trial"
_OWNER = "rayscore.journal"
_PAGE = 1000


class MlflowRuns:
    """The runs of one MLflow experiment, which is created when it does not exist.

    Every method raises RegistryUnavailable when MLflow does not answer, and RegistryRefused when it refuses.

    Args:
        tracking_uri: MLflow server or local database.
        artifact_dir: folder in which a local MLflow keeps artifacts.
        experiment: name of the experiment.
    """

    def __init__(self, tracking_uri: str, artifact_dir: Path, experiment: str) -> None:
        self._uri = tracking_uri
        self._client = connect(tracking_uri)
        with speaking_to(tracking_uri):
            existing = self._client.get_experiment_by_name(experiment)
            location = (artifact_dir / experiment).absolute().as_uri() if is_local(tracking_uri) else None
            self._experiment = (
                existing.experiment_id if existing else self._client.create_experiment(experiment, location)
            )

    def start(self, name: str, params: Mapping[str, object], owner: str = "") -> str:
        """Open a parent run and return its id; `owner` names the trial log that it belongs to."""
        with speaking_to(self._uri):
            run = self._client.create_run(self._experiment, run_name=name, tags={_OWNER: owner})
            self._client.log_batch(run.info.run_id, params=_params(params))
        return run.info.run_id

    def reopen(self, run_id: str) -> None:
        """Set an ended run back to RUNNING."""
        with speaking_to(self._uri, f"run {run_id}"):
            self._client.update_run(run_id, status="RUNNING")

    def kill_left_over(self, owner: str, run_id: str | None = None) -> list[str]:
        """End the runs that a killed process left RUNNING as KILLED, and return the ids of the parent runs.

        Those are runs of `owner`, the run `run_id`, trials within them, and trials of any search that has ended, which
        MLflow created after their search had given up on it. Call it when none of them can be alive.
        """
        with speaking_to(self._uri):
            running = {run.info.run_id: run.data.tags for run in self._search("attributes.status = 'RUNNING'")}
        left = [run for run, tags in running.items() if tags.get(_OWNER) == owner or run == run_id]
        for parent in left:
            self.end(parent, "KILLED")
        with speaking_to(self._uri):
            for run, tags in running.items():
                if _NUMBER in tags and tags.get(_PARENT) not in running:
                    self._client.set_terminated(run, "KILLED")
        return left

    def logged_trials(self, parent: str) -> set[int]:
        """Return the numbers of the trials that are completely in MLflow."""
        with speaking_to(self._uri):
            complete = self._search(f"tags.`{_PARENT}` = '{parent}' and attributes.status = 'FINISHED'")
            return {int(run.data.tags[_NUMBER]) for run in complete if _NUMBER in run.data.tags}

    def end(self, run_id: str, status: Status) -> None:
        """End a run; a nested trial that is half written, since MLflow or its writer went away, ends as KILLED."""
        with speaking_to(self._uri):
            for run in self._search(f"attributes.status = 'RUNNING' and tags.`{_PARENT}` = '{run_id}'"):
                self._client.set_terminated(run.info.run_id, "KILLED")
            self._client.set_terminated(run_id, status)

    def _search(self, which: str) -> list[Run]:
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], which, max_results=_PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def log_trial(self, parent: str, metric: str, trial: Trial, wanted: Callable[[], bool] = lambda: True) -> None:
        """Write a finished trial as a run nested in `parent`: parameters and the metric of every round.

        `wanted` is asked once MLflow has created the run, which may take long: if it is False by then, the run ends as
        KILLED: a trial that stayed open within an ended parent would look as if it still ran.
        """
        ended = int(time.time() * 1000)
        started = ended - int(trial.seconds * 1000)
        metrics = [Metric(metric, value, ended, step) for step, value in enumerate(trial.history, 1)]
        metrics += [Metric("loss", value, ended, step) for step, value in enumerate(trial.losses, 1)]
        metrics += [Metric(f"best_{metric}", trial.score, ended, 0), Metric("rounds", trial.rounds, ended, 0)]
        tags = [RunTag("stopped_early", str(trial.stopped_early).lower())]
        with speaking_to(self._uri):
            run = self._client.create_run(
                self._experiment,
                start_time=started,
                run_name=f"trial {trial.number}",
                tags={_PARENT: parent, _NUMBER: str(trial.number)},
            )
            if not wanted():
                self._client.set_terminated(run.info.run_id, "KILLED")
                return
            for first in range(0, len(metrics), _BATCH):
                self._client.log_batch(run.info.run_id, metrics=metrics[first : first + _BATCH])
            self._client.log_batch(run.info.run_id, params=_params(trial.params), tags=tags)
            self._client.set_terminated(run.info.run_id, "FINISHED", ended)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log the final figures of a run."""
        now = int(time.time() * 1000)
        with speaking_to(self._uri):
            self._client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log parameters of a run."""
        with speaking_to(self._uri):
            self._client.log_batch(run_id, params=_params(params))

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        """Upload a folder's files to the run's artifact folder `name`."""
        with speaking_to(self._uri):
            self._client.log_artifacts(run_id, str(folder), name)


def _params(params: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in params.items()]
