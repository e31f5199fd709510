"""The search on Ray Tune: trials run on long-lived workers, and the trial of a worker that died runs again.

A trial is a single step of a reused actor, since an actor's start takes longer than most trials, and every report costs
Tune's own work. Each worker builds its matrices once, from rows in the object store.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.tune
from ray.tune.search import Searcher

from data.errors import ConfigError, TrainingFailed
from data.schema.search import Search
from tune.dataset.encoded_examples import EncodedExamples
from tune.dataset.folds import Folds
from tune.search.asha import climb
from tune.search.trial import Trial
from tune.search.trial_scheduler import Assignment, TrialScheduler
from tune.tasks.learning_task import LearningTask
from tune.training.boosting import Boosting, base_params
from tune.training.fold_matrices import fold_matrices

ATTEMPTS = 4
"""Most attempts at a trial whose worker dies. Tune's own retries are not used: they lose a trial whose worker dies
between two trials."""

_ROWS_PER_THREAD = 100_000
_ROWS_AT_ONCE = 500_000
_REFUSED = "refused"
_OUTCOME = "outcome"

OnTrial = Callable[[Trial], None]
"""Called in the driver process with each finished trial, in the order of finishing; an exception ends the search."""
OnLost = Callable[[str], None]
"""Called in the driver process with a line of text about a worker that died."""


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during the search; `on_trial` has been called for every finished trial."""


class SearchJob(NamedTuple):
    """What all trials of a search share."""

    search: Search
    learning: LearningTask[Any]
    development: EncodedExamples
    folds: Folds
    types: list[str]
    """Of each feature "q" for a number or "c" for a category."""
    seed: int
    monotone: tuple[int, ...] = ()
    """As `FeatureSchema.monotone`."""

    def params(self, nthread: int) -> dict[str, Any]:
        """The XGBoost parameters that all trials have."""
        return base_params(self.learning, nthread, self.seed, self.monotone)


class Workers(NamedTuple):
    """Division of the cores: trials at once, and threads of each."""

    concurrency: int
    nthread: int

    @property
    def lag(self) -> int:
        """Most trials under way, see `TrialScheduler`: more than run at once, so that few wait for a slow one."""
        return 1 if self.concurrency == 1 else 3 * self.concurrency


def plan_workers(free_cpus: int, rows: int, trials: int, concurrency: int | None) -> Workers:
    """Divide the free cores by the rows of the train part; `concurrency` is set by the user, or None.

    Below some 100,000 rows another thread does not pay, and another worker not while a trial takes less time than a
    worker's start (docs/training.md).

    Raises:
        ConfigError: more trials at once than cores, or no free core, for which a search would wait silently.
    """
    if free_cpus < 1:
        raise ConfigError("the cluster has no free CPU: wait for what runs on it, or add a node")
    if concurrency is not None and concurrency > free_cpus:
        raise ConfigError(f"--concurrency {concurrency}: the cluster has {free_cpus} free CPUs")
    at_once = min(concurrency or (free_cpus if rows >= _ROWS_AT_ONCE else 1), trials)
    return Workers(at_once, min(max(rows // _ROWS_PER_THREAD, 1), free_cpus // at_once))


def search(
    job: SearchJob, schedule: TrialScheduler, workers: Workers, on_trial: OnTrial, on_lost: OnLost, scratch: Path
) -> None:
    """Run the remaining trials of `schedule`; needs a connection to Ray.

    Args:
        job: rows, search settings and seed.
        schedule: plans the trials.
        workers: how many trials at once, with how many threads.
        on_trial: called with each trial that finishes.
        on_lost: called with a line about each worker that dies.
        scratch: folder for Ray Tune's own files, for this search alone; emptied before and removed after.

    Raises:
        ConfigError: XGBoost refuses the parameters of a trial.
        TrainingFailed: a trial lost its worker too often.
        Exception: what `on_trial` raised.
        SearchInterrupted: Ctrl-C.
    """
    if schedule.exhausted:
        return
    exchange = _TrialExchange(schedule, on_trial, on_lost)
    trainable = ray.tune.with_parameters(_XGBoostTrial, job=job, nthread=workers.nthread)
    with _quiet_tune(scratch) as storage:
        ray.tune.Tuner(
            ray.tune.with_resources(trainable, {"cpu": workers.nthread}),
            tune_config=ray.tune.TuneConfig(
                search_alg=_Planner(exchange),
                num_samples=-1,
                max_concurrent_trials=workers.concurrency,
                reuse_actors=True,
            ),
            run_config=ray.tune.RunConfig(
                name="search",
                storage_path=storage,
                stop=_Halt(exchange),
                callbacks=[_Listener(exchange)],
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
                # The one that Tune takes in a notebook clears what the cell has printed, at any verbosity.
                progress_reporter=ray.tune.CLIReporter(),
            ),
        ).fit()
    if exchange.failure is not None:
        raise exchange.failure
    if not exchange.exhausted:
        raise SearchInterrupted


class _XGBoostTrial(ray.tune.Trainable):
    """Tune's trainable: a trial is one step, and the actor runs one trial after the other."""

    def setup(self, config: dict[str, Any], job: SearchJob | None = None, nthread: int = 1) -> None:
        assert job is not None, "Tune passes it, by with_parameters"
        self._job, self._nthread = job, nthread
        self._folds = fold_matrices(job.development, job.folds, job.types, nthread, searched=job.search.space)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._assignment = Assignment(**new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        try:
            trial = self._run(self._assignment)
        except ConfigError as exc:
            # Returned as a result: an exception would make Tune run the trial again, with the same end.
            return {_REFUSED: f"trial {self._assignment.number}: {exc}", "done": True}
        return {_OUTCOME: trial.model_dump(), "done": True}

    def _run(self, assignment: Assignment) -> Trial:
        search, learning, started = self._job.search, self._job.learning, time.monotonic()
        params = {**self._job.params(self._nthread), **assignment.params}
        boosting = Boosting(params, learning, self._folds, search.max_rounds, search.early_stopping_rounds)
        stopped_early = climb(boosting, assignment.bars)
        return Trial(
            number=assignment.number,
            params=assignment.params,
            history=boosting.history,
            losses=boosting.losses,
            seconds=time.monotonic() - started,
            stopped_early=stopped_early,
        )


class _TrialExchange:
    """The state that Tune's searcher, callback and stopper share: trials under way, lost trials, and a failure."""

    def __init__(self, schedule: TrialScheduler, on_trial: OnTrial, on_lost: OnLost) -> None:
        self.schedule, self._on_trial, self._on_lost = schedule, on_trial, on_lost
        self.open = 0
        self.failure: Exception | None = None
        self._lost: deque[Assignment] = deque()
        self._losses: Counter[int] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its parts for a restore of its own, which the trial log makes needless.
        return {}

    @property
    def exhausted(self) -> bool:
        """Whether every trial has ended; one that is under way may still be lost."""
        return self.schedule.exhausted and not self.open and not self._lost

    def hand_out(self) -> Assignment | None:
        """Return the next trial to run, lost ones first; None when it cannot be planned yet."""
        assignment = self._lost.popleft() if self._lost else self.schedule.plan()
        self.open += assignment is not None
        return assignment

    def lose(self, assignment: Assignment) -> None:
        """Record that the worker of a trial died; the trial runs again, or after `ATTEMPTS` fails the search."""
        self.open -= 1
        self._losses[assignment.number] += 1
        if self._losses[assignment.number] < ATTEMPTS:
            self._lost.append(assignment)
            self._on_lost(f"trial {assignment.number}: its worker died; the trial is run again")
        else:
            self.failure = self.failure or TrainingFailed(
                f"trial {assignment.number} was begun {ATTEMPTS} times and its worker died each time; look for a lack "
                "of memory on the node, then go on with --resume"
            )

    def hand_in(self, result: dict[str, Any]) -> None:
        """Take a trial's result; exceptions are kept for `search`, as Tune would rerun the trial on one."""
        self.open -= 1
        try:
            if _REFUSED in result:
                raise ConfigError(result[_REFUSED])
            trial = Trial(**result[_OUTCOME])
            self._on_trial(trial)
            self.schedule.end(trial)
        except Exception as exc:  # noqa: BLE001 - raised again by `search`, when Tune has ended
            self.failure = self.failure or exc


class _Planner(Searcher):
    """Tune's searcher: suggests the trials that the schedule plans."""

    def __init__(self, exchange: _TrialExchange) -> None:
        super().__init__()
        self._exchange = exchange

    def suggest(self, trial_id: str) -> Any:
        if self._exchange.exhausted:
            return Searcher.FINISHED
        assignment = self._exchange.hand_out()
        return None if assignment is None else {"trial": assignment._asdict()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback gets the results."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the trial log is what a search resumes from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


class _Listener(ray.tune.Callback):
    """Tune's callback: passes on results and deaths of workers."""

    def __init__(self, exchange: _TrialExchange) -> None:
        self._exchange = exchange

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._exchange.hand_in(trial.last_result)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._exchange.lose(Assignment(**trial.config["trial"]))


class _Halt(ray.tune.Stopper):
    """Tune's stopper: ends the search as soon as it has failed."""

    def __init__(self, exchange: _TrialExchange) -> None:
        self._exchange = exchange

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._exchange.failure is not None


@contextmanager
def _quiet_tune(scratch: Path) -> Iterator[str]:
    """Switch off Ray Tune's own tables and loggers, and yield a storage folder that is removed afterwards."""
    wanted = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield str(scratch.absolute())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
