"""A search with what surrounds it: trial log, MLflow run, progress, and what an interruption left."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from data.cli.terminal import note
from data.distributed.ray_cluster import free_cpus
from data.errors import ConfigError, RegistryUnavailable
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import UseCase
from data.settings import Settings
from tune.dataset.encoded_examples import PreparedDataset
from tune.dataset.training_table import TrainingTable
from tune.search.mlflow_runs import MlflowRuns
from tune.search.mlflow_uploader import MlflowUploader
from tune.search.progress import TrialProgress
from tune.search.ray_tune import SearchJob, Workers, plan_workers, search
from tune.search.sampler import Sampler, SamplerName
from tune.search.trial import Trial, best_trial
from tune.search.trial_log import TrialLog, TrialLogHead
from tune.search.trial_scheduler import TrialScheduler
from tune.tasks.kinds import learning_task


class SearchPlan(NamedTuple):
    """Options of a search."""

    data: Path
    trials: int
    seed: int = 0
    resume: bool = False
    concurrency: int | None = None
    sampler: SamplerName = SamplerName.TPE
    events: EventPaths = NOTHING_BESIDE
    """Where the events are that windows need beside the table."""


def check_plan(plan: SearchPlan, prefix: str = "") -> None:
    """Raise ConfigError for a number that is too small; `prefix` is what the user writes before an option's name."""
    least = {"trials": (plan.trials, 1), "concurrency": (plan.concurrency, 1), "seed": (plan.seed, 0)}
    for option, (value, smallest) in least.items():
        if value is not None and value < smallest:
            raise ConfigError(f"{prefix}{option} {value}: expected {smallest} or more")


class Study:
    """An open search: its MLflow run and its finished trials."""

    def __init__(
        self, use_case: UseCase, plan: SearchPlan, tracker: MlflowRuns, trial_log: TrialLog, head: TrialLogHead
    ) -> None:
        self._use_case, self._plan = use_case, plan
        self._tracker, self._trial_log, self._head = tracker, trial_log, head
        self.trials: list[Trial] = []

    @property
    def run_id(self) -> str:
        """Id of the MLflow run."""
        return self._head.run_id

    def run(self, prepared: PreparedDataset, workers: Workers, scratch: Path) -> list[Trial]:
        """Run the remaining trials and return all by number; each is in MLflow, or was reported as refused by it.

        Raises:
            RayscoreError: the search or MLflow failed; finished trials are kept.
            KeyboardInterrupt: Ctrl-C; finished trials are kept.
        """
        declared, plan = self._use_case.search, self._plan
        sampler = Sampler(plan.sampler, declared.space, plan.seed)
        schedule = TrialScheduler(sampler, declared.max_rounds, plan.trials, self._head.lag, self.trials)
        learning, metric = learning_task(self._use_case), self._use_case.metric.value
        shared = prepared.development, prepared.folds, prepared.feature_types, plan.seed, prepared.schema.monotone
        job = SearchJob(declared, learning, *shared)
        with MlflowUploader(self._tracker, self.run_id, metric, note) as uploader:
            self._catch_up(uploader)
            with TrialProgress(plan.trials, metric, self.trials) as progress:

                def on_trial(trial: Trial) -> None:
                    self._trial_log.add(trial)
                    self.trials.append(trial)
                    uploader.put([trial])
                    progress.advance(trial)

                search(job, schedule, workers, on_trial, note, scratch)
            uploader.drain()
        return sorted(self.trials, key=lambda trial: trial.number)

    def close(self, workers: Workers) -> None:
        """End the MLflow run of a registered search as FINISHED, with the parameters that are known only now.

        MLflow never changes a logged parameter: logged earlier, a resumed search with more trials could not correct it.
        A failure is only reported, because the model is registered already.
        """
        best = best_trial(self.trials)
        settled = {"trials": len(self.trials), **workers._asdict(), "best_trial": best.number, "rounds": best.rounds}
        with _said("registered, but its parameters are not in MLflow"):
            self._tracker.log_params(self.run_id, {**settled, **best.params})
        with _said(f"registered, but run {self.run_id} could not be ended as FINISHED"):
            self._tracker.end(self.run_id, "FINISHED")

    def _catch_up(self, uploader: MlflowUploader) -> None:
        """Log what an interrupted search had finished and not logged."""
        if self.trials:
            logged = self._tracker.logged_trials(self.run_id)
            uploader.put(trial for trial in self.trials if trial.number not in logged)


def trial_log_of(use_case: UseCase, settings: Settings) -> TrialLog:
    """Where the searches of a use case keep their finished trials; one search at a time."""
    return TrialLog(settings.var_dir / "tune" / f"{use_case.name}.jsonl")


@contextmanager
def open_study(
    use_case: UseCase,
    plan: SearchPlan,
    source: TrainingTable,
    prepared: PreparedDataset,
    trial_log: TrialLog,
    tracker: MlflowRuns,
) -> Iterator[tuple[str, list[Trial]]]:
    """Run the search inside an MLflow run, which ends as the block does; the trial log is held by the caller.

    The `with` block registers the model. The run ends with it: FINISHED, FAILED (an error) or KILLED (Ctrl-C). Runs
    that a killed process left RUNNING are ended as KILLED first. The caller holds the trial log's lock.

    Raises:
        ConfigError: nothing to resume, or more trials at once than cores.
        RayscoreError: the search or MLflow failed.
    """
    for run_id in tracker.kill_left_over(_owner(trial_log), trial_log.run_id()):
        note(f"run {run_id} was left by a process that is gone: it is KILLED now")
    study = _resume(use_case, plan, source, tracker, trial_log) if plan.resume else None
    workers = plan_workers(sum(free_cpus(wanted=1)), len(prepared.development.y), plan.trials, plan.concurrency)
    study = study or _start(use_case, plan, source, prepared.folds.count, tracker, trial_log, workers)
    with _ending(tracker, study.run_id):
        yield study.run_id, study.run(prepared, workers, trial_log.path.with_name(f".{use_case.name}.ray"))
    # First of all: whatever fails from here on must not have --resume register the search once more.
    trial_log.finish()
    study.close(workers)


def _resume(
    use_case: UseCase, plan: SearchPlan, source: TrainingTable, tracker: MlflowRuns, trial_log: TrialLog
) -> Study:
    head, finished = trial_log.read(_key(use_case, plan, source))
    tracker.reopen(head.run_id)
    study = Study(use_case, plan, tracker, trial_log, head)
    study.trials += [trial for trial in finished if trial.number < plan.trials]
    note(f"resuming: {len(study.trials)} of {plan.trials} trials are done")
    return study


def _start(
    use_case: UseCase,
    plan: SearchPlan,
    source: TrainingTable,
    folds: int,
    tracker: MlflowRuns,
    trial_log: TrialLog,
    workers: Workers,
) -> Study:
    params = {
        "data": str(plan.data),
        "data_fingerprint": source.fingerprint,
        "rows": source.rows,
        "split": use_case.strategy,
        "folds": folds,
        "metric": use_case.metric.value,
        "seed": plan.seed,
        "sampler": plan.sampler.value,
    }
    run_id = tracker.start(f"tune {use_case.name}", params, _owner(trial_log))
    head = TrialLogHead(key=_key(use_case, plan, source), run_id=run_id, lag=workers.lag)
    trial_log.start(head)
    return Study(use_case, plan, tracker, trial_log, head)


def _owner(trial_log: TrialLog) -> str:
    """Whose a run is: another machine may have a file of the same name."""
    return f"{socket.gethostname()}:{trial_log.path}"


def _key(use_case: UseCase, plan: SearchPlan, source: TrainingTable) -> str:
    # What is said of an answer changes nothing of the search.
    declared = use_case.model_dump_json(exclude={"explanation"})
    text = f"{declared} {source.fingerprint} {plan.seed} {plan.sampler.value}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def _ending(tracker: MlflowRuns, run_id: str) -> Iterator[None]:
    """End the run after an error or Ctrl-C in the `with` block."""
    try:
        yield
    except BaseException as exc:
        status = "KILLED" if isinstance(exc, KeyboardInterrupt) else "FAILED"
        with _said(f"run {run_id} could not be ended as {status}, the next search or --resume does it"):
            tracker.end(run_id, status)
        raise


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Report a failure of MLflow without raising: it must not hide an earlier error or undo a success."""
    try:
        yield
    except RegistryUnavailable as exc:
        note(f"{what}: {exc}")
