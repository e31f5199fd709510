"""The search: Ray Tune runs trials of the declared space and stops the hopeless ones early (ASHA).

Trial actors are reused, the matrices travel once through the object store, and a trial reports a few
times only, so that its time is XGBoost's. What a finished trial came to goes to the caller at once.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
import ray.tune
import xgboost
from ray.tune.schedulers import ASHAScheduler

from data.errors import ConfigError
from data.usecase import Search
from tune.examples import Examples
from tune.space import sample
from tune.train import Boosting, base_params
from tune.trial import Trial

_STEPS = 10
_CPU_PATIENCE_S = 30.0
"""Reports of a trial that runs to its last round."""
_REDUCTION = 3
_SCORE = "score"
_FINISHED = "finished"

OnTrial = Callable[[Trial], None]
"""Called in the driver with each finished trial, in the order of finishing."""


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during the search; the finished trials have been handed over."""


class _Shared(NamedTuple):
    """What every trial of a search has in common."""

    search: Search
    train: Examples
    validation: Examples
    nthread: int


class _XGBoostTrial(ray.tune.Trainable):
    """One trial; its actor serves many. A step is a tenth of the rounds."""

    def setup(self, config: dict[str, Any], shared: _Shared | None = None) -> None:
        assert shared is not None, "Tune passes it, by with_parameters"
        self._search, train, validation, self._nthread = shared
        self._train = xgboost.DMatrix(train.x, train.y, nthread=self._nthread)
        self._validation = xgboost.DMatrix(validation.x, validation.y, nthread=self._nthread)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        search, trial = self._search, new_config["trial"]
        params = {**base_params(search.metric, self._nthread, trial["seed"]), **trial["params"]}
        self._boosting = Boosting(
            params, search.metric, self._train, self._validation, search.max_rounds, search.early_stopping_rounds
        )
        return True

    def step(self) -> dict[str, Any]:
        boosting = self._boosting
        before = len(boosting.history)
        boosting.advance(_rounds_per_step(self._search))
        return {
            _SCORE: max(boosting.history),
            "history": boosting.history[before:],
            "losses": boosting.losses[before:],
            _FINISHED: boosting.finished,
            "done": boosting.finished,
        }


def _rounds_per_step(search: Search) -> int:
    return max(-(-search.max_rounds // _STEPS), 1)


class _Collector(ray.tune.Callback):
    """Puts the reports of each trial together and hands the whole over when it ends."""

    def __init__(self, on_trial: OnTrial) -> None:
        self._on_trial = on_trial
        self._reports: dict[str, list[dict[str, Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore of its own, which the journal makes needless.
        return {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self._reports.setdefault(trial.trial_id, []).append(result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        reports = self._reports.pop(trial.trial_id)
        self._on_trial(
            Trial(
                number=trial.config["trial"]["number"],
                params=trial.config["trial"]["params"],
                history=[value for report in reports for value in report["history"]],
                losses=[value for report in reports for value in report["losses"]],
                seconds=reports[-1]["time_total_s"],
                stopped_early=not reports[-1][_FINISHED],
            )
        )


class Workers(NamedTuple):
    """How the cores are shared: trials at once and threads of each."""

    concurrency: int
    nthread: int


def plan_workers(free_cpus: int, trials: int, concurrency: int | None) -> Workers:
    """Fill `free_cpus` cores: as many trials at once as asked for, by default one a core.

    Raises:
        ConfigError: more trials at once than cores, or no free core, on which a search would wait without a word.
    """
    if free_cpus < 1:
        raise ConfigError("the cluster has no free CPU: wait for what runs on it, or add a node")
    if concurrency is not None and concurrency > free_cpus:
        raise ConfigError(f"--concurrency {concurrency}: the cluster has {free_cpus} free CPUs")
    at_once = min(concurrency or free_cpus, trials)
    return Workers(at_once, free_cpus // at_once)


def search(
    declared: Search,
    train: Examples,
    validation: Examples,
    trials: int,
    seed: int,
    finished: Sequence[Trial],
    on_trial: OnTrial,
    scratch: Path,
    concurrency: int | None = None,
) -> None:
    """Run the trials 0 to `trials` - 1 that are not in `finished`; needs a running Ray.

    Args:
        declared: metric, rounds and space.
        train: rows to learn from.
        validation: rows the metric is taken on.
        trials: how many in all.
        seed: with the trial's number it fixes the trial's parameters.
        finished: trials of an interrupted search; ASHA takes their histories into account.
        on_trial: told of each trial that finishes.
        scratch: folder for Ray Tune's own files, which are removed again.
        concurrency: trials at once; default one a free CPU.

    Raises:
        ConfigError: a trial failed; the text has XGBoost's reason.
        SearchInterrupted: Ctrl-C.
    """
    done = {trial.number for trial in finished}
    configs = [
        {"number": number, "params": sample(declared.space, seed, number), "seed": seed}
        for number in range(trials)
        if number not in done
    ]
    if not configs:
        return
    workers = plan_workers(_free_cpus(), len(configs), concurrency)
    shared = _Shared(declared, train, validation, workers.nthread)
    trainable = ray.tune.with_parameters(_XGBoostTrial, shared=shared)
    with _quiet_tune(scratch) as storage:
        results = ray.tune.Tuner(
            ray.tune.with_resources(trainable, {"cpu": workers.nthread}),
            param_space={"trial": ray.tune.grid_search(configs)},
            tune_config=ray.tune.TuneConfig(
                scheduler=_scheduler(finished, _rounds_per_step(declared)),
                max_concurrent_trials=workers.concurrency,
                reuse_actors=True,
            ),
            run_config=ray.tune.RunConfig(
                name="search",
                storage_path=storage,
                callbacks=[_Collector(on_trial)],
                checkpoint_config=ray.tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    if results.errors:
        raise ConfigError(f"a trial failed: {results.errors[0]}")
    if results.num_terminated < len(configs):
        raise SearchInterrupted


def _free_cpus() -> int:
    """The cluster's free CPUs; what ran just before may take some seconds to give back its own."""
    deadline = time.monotonic() + _CPU_PATIENCE_S
    while True:
        free = int(ray.available_resources().get("CPU", 0))
        if free >= 1 or time.monotonic() > deadline:
            return free
        time.sleep(0.2)


class _PastTrial(NamedTuple):
    trial_id: str


def _scheduler(finished: Sequence[Trial], rounds_per_step: int) -> ASHAScheduler:
    """ASHA that has already seen the reports of `finished`, so that a resumed search judges as an unbroken one."""
    scheduler = ASHAScheduler(metric=_SCORE, mode="max", max_t=_STEPS, reduction_factor=_REDUCTION)
    for trial in finished:
        past: Any = _PastTrial(f"past-{trial.number}")
        controller: Any = None
        scheduler.on_trial_add(controller, past)
        for step in range(1, -(-len(trial.history) // rounds_per_step) + 1):
            report = {"training_iteration": step, _SCORE: max(trial.history[: step * rounds_per_step])}
            scheduler.on_trial_result(controller, past, report)
    return scheduler


@contextmanager
def _quiet_tune(scratch: Path) -> Iterator[str]:
    """Ray Tune without its own tables, loggers and files; yields a storage folder that is removed again."""
    wanted = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    scratch.mkdir(parents=True, exist_ok=True)
    storage = tempfile.mkdtemp(prefix=".ray-tune-", dir=scratch.absolute())
    try:
        yield storage
    finally:
        shutil.rmtree(storage, ignore_errors=True)
        logger.setLevel(level)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
