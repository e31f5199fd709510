"""The MLflow runs of a search: one parent, one nested run a trial, written once when the trial ends."""

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
    """Writes to one MLflow experiment.

    Every method raises RegistryUnavailable when MLflow does not answer, RegistryRefused when it says no.
    """

    def __init__(self, tracking_uri: str, artifact_dir: Path, experiment: str) -> None:
        self._uri = tracking_uri
        self._client = connect(tracking_uri)
        with speaking_to(tracking_uri):
            found = self._client.get_experiment_by_name(experiment)
            location = (artifact_dir / experiment).absolute().as_uri() if is_local(tracking_uri) else None
            self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, location)

    def start(self, name: str, params: Mapping[str, object], owner: str = "") -> str:
        """Open a parent run and return its id; `owner` names the trial log that it belongs to."""
        with speaking_to(self._uri):
            run = self._client.create_run(self._experiment, run_name=name, tags={_OWNER: owner})
            self._client.log_batch(run.info.run_id, params=_params(params))
        return run.info.run_id

    def reopen(self, run_id: str) -> None:
        """Go on with a run that was ended."""
        with speaking_to(self._uri, f"run {run_id}"):
            self._client.update_run(run_id, status="RUNNING")

    def kill_left_over(self, owner: str, run_id: str | None = None) -> list[str]:
        """End what a killed process left RUNNING: runs of `owner`, the run `run_id`, trials within, and trials of any
        search that has ended, which MLflow got after their search had said farewell.

        Call when none of them can be alive. Returns the ids of the parent runs, which are KILLED now.
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
        """Numbers of the trials that are completely in MLflow."""
        with speaking_to(self._uri):
            found = self._search(f"tags.`{_PARENT}` = '{parent}' and attributes.status = 'FINISHED'")
            return {int(run.data.tags[_NUMBER]) for run in found if _NUMBER in run.data.tags}

    def end(self, run_id: str, status: Status) -> None:
        """Close a run; a trial within that was half written when MLflow or its writer went away ends KILLED."""
        with speaking_to(self._uri):
            for run in self._search(f"attributes.status = 'RUNNING' and tags.`{_PARENT}` = '{run_id}'"):
                self._client.set_terminated(run.info.run_id, "KILLED")
            self._client.set_terminated(run_id, status)

    def _search(self, which: str) -> list[Run]:
        found, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], which, max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def log_trial(self, parent: str, metric: str, trial: Trial, wanted: Callable[[], bool] = lambda: True) -> None:
        """Write a finished trial as a run nested in `parent`: parameters and the metric of every round.

        When it is not `wanted` any more once MLflow has made the run, the run ends KILLED.
        """
        ended = int(time.time() * 1000)
        started = ended - int(trial.seconds * 1000)
        metrics = [Metric(metric, value, ended, step) for step, value in enumerate(trial.history, 1)]
        metrics += [Metric("log_loss", value, ended, step) for step, value in enumerate(trial.losses, 1)]
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
        """Write final figures."""
        now = int(time.time() * 1000)
        with speaking_to(self._uri):
            self._client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Write parameters."""
        with speaking_to(self._uri):
            self._client.log_batch(run_id, params=_params(params))

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        """Copy a folder's files to the run's artifact folder `name`."""
        with speaking_to(self._uri):
            self._client.log_artifacts(run_id, str(folder), name)


def _params(params: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in params.items()]
